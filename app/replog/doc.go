// Package replog is a replicated log in Redis: every gateway writes its changes
// to it, follows those of the others, and keeps a complete local copy, its
// replica. A look-up never asks Redis.
//
// The log is compacted: it holds the last change of each key. A change gets a
// position, a number that only grows: the Redis server's clock in microseconds
// or, if that does not go forward, one more than the last. In Redis, in one hash
// slot:
//
//	Log       sorted set: key → position of its last change
//	State     hash: name, birth and restored of the log; with values also
//	          key → "value expires"
//	Expires   sorted set: key → milliseconds of Unix time; only with values
//	Channel   Pub/Sub: "previous-position position writer key[:value:expires]…"
//
// A key in Log without a value in State was removed.
//
// Changes arrive in milliseconds by Pub/Sub, which may lose messages: each
// message names the position before it, so that a gap is noticed, and the log
// is read every Period in any case.
//
// Redis may lose the log or its end: by FLUSHALL, an eviction, a failover to a
// replica with older data, or a restart from an older snapshot. It is recognised
// by the log's name, by the server's replication ID, and by a last position
// below the one that is known. Then every gateway writes back what it knows,
// at its old positions, and counts `restored` up, whereupon the others read the
// log from its start.
package replog
