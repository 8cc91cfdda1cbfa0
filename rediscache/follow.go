package rediscache

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// waitOutcome is what came of waiting for a call.
type waitOutcome int

const (
	resultFits        waitOutcome = iota // the response is for this request too
	otherVariant                         // it is of another variant
	notForThisRequest                    // it is not for this request
	outdated                             // it was, but is not for later requests any more
	ownTurn                              // there is none yet, and this request asks next
	timedOut                             // it did not come in time
	clientCanceled                       // the client is gone
)

// wait waits until it is known what comes of a call.
func (x *exchange) wait(c *call) (outcome waitOutcome) {
	defer func() {
		if outcome == ownTurn {
			calls.TakeTurn(c)
		} else {
			calls.Leave(c)
		}
	}()
	timer := time.NewTimer(time.Duration(x.h.CollapseTimeout))
	defer timer.Stop()
	select {
	case <-c.Ready():
	case <-c.Turn():
		return ownTurn
	case <-x.r.Context().Done():
		return clientCanceled
	case <-timer.C:
		return timedOut
	}
	res := c.Result()
	switch res.kind {
	case nothingShared:
		return notForThisRequest
	case arrivingResponse, storedResponse, staleResponse:
	}
	o := res.object
	if rfc9111.Variant(o.Vary, x.r.Header) != o.Variant {
		return otherVariant
	}
	return x.fits(&res)
}

// fits returns whether the request may be answered with what another one resulted in.
func (x *exchange) fits(res *result) waitOutcome {
	s, o := x.h.storage, res.object
	switch {
	case res.partition != "" && res.partition != x.target.private.Full,
		res.partition == "" && !s.mayUse(&x.target, x.target.shared, o):
		return notForThisRequest
	case s.epochs.Check(o) != object.Valid,
		res.kind == arrivingResponse && o.Fresh(time.Now()) <= 0:
		return outdated
	case res.kind == storedResponse:
		// It may not be fresh enough for this request.
		if reuse, _ := s.evaluate(&match{object: o, key: res.key}, &x.directives, time.Now()); reuse == rfc9111.Validate {
			return notForThisRequest
		}
	}
	return resultFits
}

// follow answers with the result of another request's call.
func (x *exchange) follow(res result) error {
	now := time.Now()
	switch res.kind {
	case staleResponse:
		return x.h.responder.stale(x.w, x.r, &match{object: res.object, key: res.key}, now, "stale-if-error")
	case nothingShared, arrivingResponse, storedResponse:
	}
	results.collapsed.Inc()
	status := rfc9111.Status{Fwd: x.fwd(), Collapsed: true}
	if res.kind == storedResponse {
		return x.h.responder.stored(x.w, x.r, res.object, now, outcome{word: "collapsed", status: status})
	}
	return x.followArriving(&res, now, &status)
}

// followArriving sends a response while it arrives.
func (x *exchange) followArriving(res *result, now time.Time, status *rfc9111.Status) error {
	o := res.object
	reader := res.content.Follow(0)
	if reader == nil {
		return x.alone() // it has become too large to be kept
	}
	defer reader.Close()
	report(x.r, "collapsed")
	fields := x.w.Header()
	x.h.responder.writeFields(fields, o, now, status)
	if rfc9111.NotModified(x.r.Header, o.Header, o.Status, o.ResponseTime) {
		sendNotModified(x.w)
		return nil
	}
	if res.length != "" {
		fields["Content-Length"] = []string{res.length}
	}
	x.w.WriteHeader(o.Status)
	if err := sendArriving(x.w, reader, x.r.Context().Done()); err != nil && x.r.Context().Err() == nil {
		// What was sent is not a whole response, and must not look like one.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// sendArriving sends content to a client while it arrives. The error says why the
// client did not get all of it; it is nil if that is the client's own doing.
func sendArriving(w http.ResponseWriter, reader *stream.Reader, done <-chan struct{}) error {
	for {
		chunk, err := reader.Next(done)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(chunk); err != nil {
			return nil
		}
		if reader.CaughtUp() {
			_ = http.NewResponseController(w).Flush()
		}
	}
}
