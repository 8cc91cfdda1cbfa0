package circuit

import "time"

// State is a state of a breaker.
type State int32

// The states. Half-open lets a few probes through.
const (
	Closed State = iota
	HalfOpen
	Open
)

// States are all states.
var States = [...]State{Closed, HalfOpen, Open}

// String returns the name that operators see.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	default:
		return "closed"
	}
}

// Outcome is what the result of a request says about the backend.
type Outcome int

const (
	// Success is an answer of a working backend.
	Success Outcome = iota
	// Failure is the backend's fault.
	Failure
	// Neutral counts as a success in the closed state, but does not prove
	// recovery: a server can answer 4xx while what is behind it fails.
	Neutral
	// Ignored says nothing about the backend: the client caused it.
	Ignored
)

// Result is the result of a request.
type Result struct {
	Outcome Outcome
	// Latency is the time to the response header, without the time spent waiting
	// for the client.
	Latency time.Duration
	// RetryAfter is for how long the backend asked for no requests. An opening
	// that the failure is part of lasts at least that long.
	RetryAfter time.Duration
	// Unanswered is how long a client waited that left before any answer came. Only
	// ignored results have it.
	Unanswered time.Duration
	// Status and Err describe the failure, for the log.
	Status int
	Err    error
}

// Settings are the rules of a breaker. Zero values turn a rule off.
type Settings struct {
	// Window is how long results count.
	Window time.Duration
	// Ratio of failures, above 0 to 1, that opens once there are MinRequests
	// results in the window.
	Ratio       float64
	MinRequests int
	// Consecutive failures that open.
	Consecutive int
	// SlowRatio of answers slower than SlowOver that opens once there are
	// MinRequests results in the window.
	SlowRatio float64
	SlowOver  time.Duration
	// OpenFor is the first open time; it doubles with each failed probe up to
	// OpenMax. Jitter, 0 to 1, lengthens it at random by up to that share.
	OpenFor, OpenMax time.Duration
	Jitter           float64
	// Probes is how many requests the half-open state lets through at once, and
	// how many must succeed to close. At most MaxProbes.
	Probes int
	// ProbeMax is how long the half-open state may last without a result.
	ProbeMax time.Duration
}

// MaxProbes is the highest number of probes.
const MaxProbes = 1<<probeBits - 1

func (s *Settings) probes() int { return min(max(s.Probes, 1), MaxProbes) }

func (s *Settings) slow(latency time.Duration) bool {
	return s.SlowOver > 0 && latency > s.SlowOver
}

// Change is a change of state, for logs, metrics and events.
type Change struct {
	From, To State
	// Rule is the reason to open: ratio, consecutive, slow or probe.
	Rule string
	// Total, Failures and Slow are the results in the window at that moment.
	Total, Failures, Slow int
	// OpenFor is how long it stays open.
	OpenFor time.Duration
	// Status and Err are those of the last failure.
	Status int
	Err    error
}

// Snapshot is the state of a breaker and its counts.
type Snapshot struct {
	State State
	// Forced is true if an operator forced the state, for ForcedFor.
	Forced    bool
	ForcedFor time.Duration
	// OpenFor is how long it will refuse everything, if its rules opened it.
	OpenFor time.Duration
	// Total, Failures and Slow are the results in the window.
	Total, Failures, Slow int
	// Consecutive is the number of failures in a row.
	Consecutive int
	// Hinted is true while the hint of another gateway applies.
	Hinted bool
	// Open is the total time that it was open.
	Open time.Duration
}

// word packs the state, the generation of permits and the number of probes in
// progress, so that a probe is admitted to exactly one half-open state.
type word uint64

const (
	probeBits = 16
	stateBits = 2
)

func (w word) probes() int        { return int(w & (1<<probeBits - 1)) }
func (w word) state() State       { return State(w >> probeBits & (1<<stateBits - 1)) }
func (w word) generation() uint64 { return uint64(w >> (probeBits + stateBits)) }

// next returns the word at the beginning of a state.
func (w word) next(s State) word {
	return word((w.generation()+1)<<(probeBits+stateBits)) | word(s)<<probeBits
}
