// Package redis keeps the state of rate limits in Redis, so that any number of
// gateways decide as one.
//
// Strict decisions are exact whatever the number of gateways and however their
// clocks differ: one script decides by Redis' own clock. Decisions that are
// asked for while others are under way share a round trip, and a refusal is
// remembered until it is no longer true.
//
// Leased decisions spend units that were reserved before. They admit at most
// burst + rate × (interval + lease life).
//
// While Redis does not answer, each gateway decides by itself, as the zone's
// policy says, and no request waits longer than its budget.
package redis
