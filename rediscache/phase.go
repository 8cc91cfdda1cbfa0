package rediscache

import "slices"

// phase is how far the response to a fetch has come.
type phase int

const (
	// awaitingHeader: there is no final response yet.
	awaitingHeader phase = iota
	// invalid: the status is none that a response may have. The client gets an error.
	invalid
	// withheld: the response is not for the client, see replaceWithheld.
	withheld
	// forwarding: the response is sent to the client, and nothing of it is kept.
	forwarding
	// recording: the content is kept, and stored at its end.
	recording
	// relaying: the content is too large to be stored, but others read it while it
	// arrives.
	relaying
	// complete: the response has come to its end.
	complete
	// aborted: the response broke off.
	aborted
)

// transitions are the phases that may follow a phase.
var transitions = [...][]phase{
	awaitingHeader: {invalid, withheld, forwarding, recording, aborted},
	invalid:        {aborted},
	withheld:       {aborted},
	forwarding:     {complete, aborted},
	recording:      {forwarding, relaying, complete, aborted},
	relaying:       {complete, aborted},
	complete:       {},
	aborted:        {},
}

// advance begins another phase, and reports whether it may follow. If it may not,
// nothing changes: a second header, or an end after the end, counts for nothing.
func (p *phase) advance(next phase) bool {
	if !slices.Contains(transitions[*p], next) {
		return false
	}
	*p = next
	return true
}

// sent reports whether the header is sent in the phase, so that no other response can
// take its place.
func (p phase) sent() bool {
	return p == forwarding || p == recording || p == relaying || p == complete
}

// keeps reports whether the content is kept, for the cache or for others who read it.
func (p phase) keeps() bool { return p == recording || p == relaying }
