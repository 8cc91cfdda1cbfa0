// Package ratelimit is the `ratelimit` handler: it admits a stated number of
// requests per client and time, exactly, on one gateway or on any number that
// share a Redis, and keeps serving when that Redis is gone.
package ratelimit
