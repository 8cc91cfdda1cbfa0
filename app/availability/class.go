package availability

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Class is what an error says about the server that a call was sent to.
type Class uint8

const (
	// Answered means that the server works: it answered, if only with an error
	// that concerns this command alone (NOSCRIPT, WRONGTYPE, a missing key).
	Answered Class = iota

	// Refused means that the server works, but does not execute writes: it is a
	// replica, its memory is full, its disk fails, or the user may not.
	Refused

	// Outage means that the server, or its node of the Cluster, cannot be used.
	Outage

	// Canceled means that the caller gave up. It says nothing about the server.
	Canceled
)

// ErrRefused makes a Refused of any error that wraps it: a feature has got an
// error reply to what has to work.
var ErrRefused = errors.New("redis does not execute the command")

// Error codes are the first word of an error reply.
var (
	refusedCodes = []string{"READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM"}
	outageCodes  = []string{
		"LOADING", "BUSY", "UNKILLABLE", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK",
		"NOAUTH", "WRONGPASS", "DENIED",
	}
)

// maxClients begins the reply of a server that has too many connections.
const maxClients = "ERR max number of clients"

// scriptFailed begins an error in a script up to Redis 6, which hides the code
// of the command that failed.
const scriptFailed = "ERR Error running script"

// Classify returns the class of an error. nil and redis.Nil are answers.
func Classify(err error) Class {
	if err == nil || err == redis.Nil { //nolint:errorlint // the usual cases first; go-redis returns redis.Nil bare
		return Answered
	}
	// A dial that was canceled is an error of the network too.
	if errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return Canceled
	}
	if errors.Is(err, ErrRefused) {
		return Refused
	}
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		return Outage // timeouts, refused and broken connections, replies that are not Redis
	}
	text := reply.Error()
	switch {
	case hasCode(text, refusedCodes):
		return Refused
	case hasCode(text, outageCodes), strings.HasPrefix(text, maxClients):
		return Outage
	case strings.HasPrefix(text, scriptFailed) &&
		(strings.Contains(text, "-READONLY ") || strings.Contains(text, "OOM command not allowed") || strings.Contains(text, "-MISCONF ")):
		return Refused
	default:
		return Answered
	}
}

func hasCode(text string, codes []string) bool {
	first, _, _ := strings.Cut(text, " ")
	return slices.Contains(codes, first)
}

// isDenied reports whether the user may not run the command. Users that may run
// what one feature needs, and no more, are common.
func isDenied(err error) bool {
	reply, ok := errors.AsType[redis.Error](err)
	return ok && strings.HasPrefix(reply.Error(), "NOPERM ")
}

// kindOf tells errors apart by what has to be done about them, whatever addresses and
// times they name. There are few kinds.
func kindOf(err error) string {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		text := reply.Error()
		for _, code := range slices.Concat(refusedCodes, outageCodes) {
			if hasCode(text, []string{code}) {
				return code
			}
		}
		return "reply"
	}
	if isTimeout(err) {
		return "timeout"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "name"
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "dial" {
		return "dial"
	}
	return "other"
}

// isTimeout reports whether the call ran out of time, which says less the less
// time it had.
func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) {
		return true
	}
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}
