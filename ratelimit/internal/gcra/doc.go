// Package gcra is the arithmetic of rate limits: the generic cell rate
// algorithm on integer time, for one limit or several that are decided
// together, all or none.
//
// The state of a limit is one number, the theoretical arrival time (TAT): the
// instant at which the bucket will be full again. A TAT at or before now is the
// same as no state, so idle keys need no memory. Taking units only moves a TAT
// forward, so a refusal holds until the time it names unless units are given
// back.
//
// Bound: in any interval of length D a limit of N units per period P with burst
// B admits at most B + D·N/P units.
//
// The package knows neither HTTP nor a clock: callers pass the time, in
// nanoseconds since an instant of their choice.
package gcra
