package rediscache

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// maxUnread is how much more of a response of unknown length is read when its client
// has left and nobody else reads it: it may have no end.
const maxUnread = 1 << 20

// errUnread ends such a response.
var errUnread = errors.New("the client has left, and the response may have no end")

// delivery is how the client gets the content of a response.
type delivery struct {
	w    http.ResponseWriter
	mute bool // it gets no content, or no more

	// held: the beginning of the content has yet to be sent.
	held bool

	// reader, if set, is what the client reads by. done, if set, is closed when the
	// goroutine ends that sends to it.
	reader *stream.Reader
	done   chan struct{}
	cutOff atomic.Bool // the client did not get all, and not by its own doing

	// unread is how much came since nobody reads any more.
	unread int
}

func (d *delivery) write(p []byte) (int, error) {
	if d.mute {
		return len(p), nil
	}
	return d.w.Write(p)
}

// countUnread counts content that arrives while nobody reads it, and returns an error
// if it is too much.
func (d *delivery) countUnread(n int, isRead bool) error {
	if isRead {
		d.unread = 0
		return nil
	}
	if d.unread += n; d.unread > maxUnread {
		return errUnread
	}
	return nil
}

// follow makes the client a reader of the content from its beginning. It reports false
// if that is not there any more.
func (d *delivery) follow(content *stream.Stream, gone <-chan struct{}) bool {
	if d.reader = content.Follow(0); d.reader == nil {
		return false
	}
	d.held = false
	w, reader := d.w, d.reader
	d.aside(func() {
		defer reader.Close()
		if reader.CaughtUp() {
			_ = http.NewResponseController(w).Flush() // the header
		}
		if err := sendArriving(w, reader, gone); err != nil && !errors.Is(err, context.Canceled) {
			d.cutOff.Store(true)
		}
	})
	return true
}

// flush sends the header.
func (d *delivery) flush() {
	w := d.w
	d.aside(func() { _ = http.NewResponseController(w).Flush() })
}

// aside runs what may wait for the client in a goroutine of its own.
func (d *delivery) aside(send func()) {
	done := make(chan struct{})
	d.done = done
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // a writer that panics must not end the process
		send()
	}()
}

// sendHeld sends what was held of a response that has ended.
func (d *delivery) sendHeld(body []byte) {
	if d.held {
		d.held = false
		_, _ = d.write(body)
	}
}

// finish waits until the client has read all, and reports whether it has.
func (d *delivery) finish() bool {
	if d.done == nil {
		return true
	}
	<-d.done
	return !d.cutOff.Load()
}

// ownFields tells the fields of a response from those that handlers in front had put
// into the same header before: only the former are stored. Its maps are used again
// for other requests.
type ownFields struct {
	outer  http.Header // what was there before
	values []string    // of outer
	own    http.Header // what read found
}

var ownFieldsPool = sync.Pool{New: func() any { return &ownFields{outer: http.Header{}, own: http.Header{}} }}

// newOwnFields notes what is in the header.
func newOwnFields(header http.Header) *ownFields {
	o := ownFieldsPool.Get().(*ownFields)
	for _, values := range header {
		o.values = append(o.values, values...)
	}
	at := 0
	for name, values := range header {
		end := at + len(values)
		// A copy: handlers may change the values in place.
		o.outer[name] = append(o.values[at:at:end], values...)
		at = end
	}
	return o
}

// maxPooledFields bounds the maps that are kept.
const maxPooledFields = 64

// release gives the maps back. They must not be used any more.
func (o *ownFields) release() {
	if len(o.own) > maxPooledFields || len(o.outer) > maxPooledFields {
		return
	}
	clear(o.outer)
	clear(o.own)
	clear(o.values)
	o.values = o.values[:0]
	ownFieldsPool.Put(o)
}

// read notes which fields of the header are the response's: those that were added, or
// that replace what was there.
func (o *ownFields) read(header http.Header) {
	clear(o.own)
	for name, values := range header {
		outer := o.outer[name]
		switch {
		case name == "Server", len(outer) == 0, len(values) < len(outer), !slices.Equal(values[:len(outer)], outer):
			o.own[name] = values
		case len(values) > len(outer):
			o.own[name] = values[len(outer):]
		}
	}
}

// set sets a field of the response, or removes it if there is no value.
func (o *ownFields) set(header http.Header, name string, values ...string) {
	delete(o.own, name)
	if all := slices.Concat(o.outer[name], values); len(all) > 0 {
		header[name] = all
	} else {
		delete(header, name)
	}
	if len(values) > 0 {
		o.own[name] = slices.Clone(values)
	}
}

// restore makes the header what it was before.
func (o *ownFields) restore(header http.Header) {
	clear(header)
	maps.Copy(header, o.outer.Clone())
}

// trailersOf returns the trailer fields that came after the content.
func trailersOf(header http.Header) http.Header {
	var trailer http.Header
	add := func(name string, values []string) {
		if trailer == nil {
			trailer = http.Header{}
		}
		trailer[name] = append([]string(nil), values...)
	}
	for _, value := range header["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values := header[name]; len(values) > 0 {
				add(name, values)
			}
		}
	}
	for name, values := range header {
		if n, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(n, values)
		}
	}
	return trailer
}

func contentLength(h http.Header) (int64, bool) {
	values := h["Content-Length"]
	if len(values) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return n, err == nil && n >= 0
}
