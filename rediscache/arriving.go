package rediscache

import (
	"net/http"
	"time"
)

// maxHeld is how much of a response net/http buffers before it sends any.
const maxHeld = 2 << 10

// keep takes content that is kept. A client that is gone does not end it.
//
// Where others may read it too, nothing is sent to the client here: one that reads
// nothing would stop them all. It is a reader like others, or gets the content at its
// end if that is known to come at once.
func (r *recorder) keep(p []byte) (int, error) {
	if r.client.held {
		r.follow()
	}
	if !r.content.Write(p) {
		r.notKept()
	}
	bounded := !r.f.lifetime.left.Load() || r.record.lengthKnown
	if err := r.client.countUnread(len(p), bounded || r.content.HasReaders()); err != nil {
		return 0, err
	}
	switch {
	case r.phase == forwarding:
		return r.client.write(p)
	case r.client.mute || r.client.reader != nil:
		return len(p), nil
	case r.shared() && r.phase == recording && (r.written <= maxHeld || r.isWhole()):
		r.client.held = true
		return len(p), nil
	case r.shared() && r.follow():
		return len(p), nil
	}
	if _, err := r.client.write(p); err != nil {
		r.client.mute = true
	}
	return len(p), nil
}

// shared reports whether others may read the response while it arrives.
func (r *recorder) shared() bool { return r.phase.keeps() && r.record.object.Arriving }

// isWhole reports whether all of the content has come, as far as that is known.
func (r *recorder) isWhole() bool {
	length, known := contentLength(r.fields.own)
	return known && length == r.written
}

// follow makes the client a reader of the content, from its beginning.
func (r *recorder) follow() bool {
	return r.client.follow(r.content, r.f.x.r.Context().Done())
}

// notKept is for a response that is too large to be stored. Who reads it already goes
// on doing so.
func (r *recorder) notKept() {
	x := r.f.x
	if r.phase == recording {
		notStored.WithLabelValues("size").Inc()
		if r.f.call != nil {
			calls.Retire(r.f.call)
		}
		if r.client.reader == nil && !r.content.HasReaders() {
			r.phase.advance(forwarding)
		} else {
			r.phase.advance(relaying)
		}
		r.f.lifetime.setWanted(false)
	}
	if !r.cutOff && r.content.CutOff() {
		r.cutOff = true
		x.rememberHitForMiss(r.status, time.Now(), false) // the next time the client reads alone
	}
}

// FlushError flushes what the client has been sent.
func (r *recorder) FlushError() error {
	if r.phase == awaitingHeader {
		r.WriteHeader(http.StatusOK)
	}
	switch {
	case !r.phase.sent() || r.client.done != nil || r.f.x.background:
		return nil
	case r.shared() && r.client.mute:
		r.client.flush()
		return nil
	case r.shared() && r.follow():
		return nil
	}
	err := http.NewResponseController(r.client.w).Flush()
	if r.phase.keeps() {
		return nil
	}
	return err
}
