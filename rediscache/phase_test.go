package rediscache

import "testing"

// Every pair of phases: what may follow what, and that nothing follows an end.
func TestPhases(t *testing.T) {
	legal := map[[2]phase]bool{
		{awaitingHeader, invalid}: true, {awaitingHeader, withheld}: true, {awaitingHeader, forwarding}: true,
		{awaitingHeader, recording}: true, {awaitingHeader, aborted}: true,
		{invalid, aborted}: true, {withheld, aborted}: true,
		{forwarding, complete}: true, {forwarding, aborted}: true,
		{recording, forwarding}: true, {recording, relaying}: true, {recording, complete}: true, {recording, aborted}: true,
		{relaying, complete}: true, {relaying, aborted}: true,
	}
	for from := awaitingHeader; from <= aborted; from++ {
		for to := awaitingHeader; to <= aborted; to++ {
			p := from
			want := from
			if legal[[2]phase{from, to}] {
				want = to
			}
			if ok := p.advance(to); ok != (p != from) || p != want {
				t.Errorf("%d to %d: %v, now %d", from, to, ok, p)
			}
		}
	}
}
