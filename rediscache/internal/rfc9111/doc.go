// Package rfc9111 has the rules of a shared HTTP cache (RFC 9111) as pure
// functions: no input or output, no clock of its own, no state.
//
// Each concept has a file: the Cache-Control field and what is like it, dates,
// what may be stored, for how long it is fresh, which of several variants a
// request selects, validation, ranges and invalidation. Where the RFC leaves a
// choice, the careful one is made: a response that is fetched once too often
// costs time, one that is shown to the wrong client costs trust.
package rfc9111
