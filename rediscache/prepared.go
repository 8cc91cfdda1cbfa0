package rediscache

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// prepared is what is computed once per stored response, so that a hit need not.
type prepared struct {
	// names and values are the header as it is sent, counts how many values each
	// name has.
	names     []string
	values    []string
	counts    []int
	hasServer bool

	// forAuthorized: everybody may have it (RFC 9111 §3.5).
	forAuthorized bool
	// implicit: its freshness is the operator's ttl, and it does not say that it is
	// public.
	implicit  bool
	immutable bool

	took time.Duration // until the origin answered

	// part is what a 206 is a part of, and size the length of the whole.
	part rfc9111.Range
	size int64

	hits atomic.Int32
}

func newPrepared(o *object.Object, targets []string) *prepared {
	c := rfc9111.ReadControl(o.Header, targets)
	_, explicit := c.Explicit(o.Header, o.ResponseTime)
	p := &prepared{
		forAuthorized: c.SharedDespiteAuthorization(),
		implicit:      !explicit && !c.Has("public"),
		immutable:     c.Immutable(),
		took:          max(o.ResponseTime.Sub(o.RequestTime), 0),
	}
	for name, values := range o.Header {
		switch name {
		case "Age", "Content-Length":
			continue
		case "Server":
			p.hasServer = true
		}
		p.names = append(p.names, name)
		p.values = append(p.values, values...)
		p.counts = append(p.counts, len(values))
	}
	if !o.Arriving && statusHasContent(o.Status) && len(o.Trailer) == 0 {
		p.names = append(p.names, "Content-Length")
		p.values = append(p.values, strconv.Itoa(len(o.Body)))
		p.counts = append(p.counts, 1)
	}
	if o.Status != http.StatusPartialContent {
		return p
	}
	if r, size, ok := rfc9111.ContentRange(o.Header); ok {
		// What came is what there is, whatever was announced. If it was announced up to
		// the end, that is where the content ends.
		if end := r.Start + int64(len(o.Body)); end < r.End {
			if r.End == size {
				size = end
			}
			r.End = end
		}
		p.part, p.size = r, size
	}
	return p
}

// statusHasContent reports whether responses with the status have content.
func statusHasContent(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
