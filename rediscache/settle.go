package rediscache

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// finish is for a response that came to its end.
func (c *fill) finish() error {
	x := c.x
	if c.status == 0 {
		c.unwritten = true
		c.WriteHeader(http.StatusOK)
		if c.held {
			return c.settle()
		}
	}
	if length, ok := contentLength(c.fields); ok && hasContent(c.status) && x.r.Method != http.MethodHead && length != c.written {
		// It is shorter than it said. net/http breaks the connection off; so
		// must those who follow.
		c.abort()
		return nil
	}
	trailer := c.trailers()
	if c.stream != nil {
		body, kept := c.stream.end(nil)
		if kept && c.head != nil && c.key.Full != "" {
			c.commit(body, trailer)
		}
	}
	if c.pumped != nil {
		<-c.pumped
		if c.lost.Load() && !x.background {
			panic(http.ErrAbortHandler)
		}
	}
	if !x.background && !c.mute {
		out := x.w.Header()
		for name, values := range trailer {
			out[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

// commit stores the response.
func (c *fill) commit(body []byte, trailer http.Header) {
	if cap(body)-len(body) > len(body)/8+512 {
		body = append(make([]byte, 0, len(body)), body...)
	}
	o := c.head.Clone()
	o.Body, o.Trailer = body, trailer
	if c.status == http.StatusPartialContent {
		c.x.h.keepPart(c.x.r, c.x.t, c.key, o)
		return
	}
	c.x.h.keep(c.x.r, c.key, o)
}

// trailers returns the trailer fields that came after the content.
func (c *fill) trailers() http.Header {
	var trailer http.Header
	add := func(name string, values []string) {
		if trailer == nil {
			trailer = http.Header{}
		}
		trailer[name] = append([]string(nil), values...)
	}
	for _, value := range c.given["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values := c.given[name]; len(values) > 0 {
				add(name, values)
			}
		}
	}
	for name, values := range c.given {
		if n, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(n, values)
		}
	}
	return trailer
}

// abort is for a response that broke off: it is not stored, and nobody who has
// a part of it may take it for whole.
func (c *fill) abort() {
	c.head = nil
	if c.stream != nil {
		c.stream.end(errAborted)
	}
	if c.pumped != nil {
		<-c.pumped
	}
}

// clientGone is called when the client's request has ended before the
// response.
func (c *fill) clientGone() {
	c.left.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.giveUp()
}

// nobody notes that there is no client from the start.
func (c *fill) nobody() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.giveUp()
}

// settleWorth notes whether the response is wanted without its client.
func (c *fill) settleWorth(worth bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.worth, c.judged = worth, true
	if c.gone {
		c.giveUp()
	}
}

// unread is called when nobody reads the response any more.
func (c *fill) unread() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		c.giveUp()
	}
}

// watched reports whether anybody reads. It is called with the lock held.
func (c *fill) watched() bool { return c.judged && c.stream != nil && c.stream.watched() }

// giveUp ends the request to the service if nobody wants its answer, or in a
// while if nobody reads it. It is called with the lock held.
func (c *fill) giveUp() {
	limit := time.Duration(c.x.h.FillTimeout)
	if limit == 0 && c.x.background {
		limit = defaultFillTimeout
	}
	switch {
	case c.cancel == nil, c.watched():
	case limit == 0, c.judged && !c.worth, !c.judged && c.f == nil:
		c.cancel()
	case c.timer == nil:
		c.timer = time.AfterFunc(limit, c.outOfTime)
	default:
		c.timer.Reset(limit)
	}
}

// outOfTime ends the request to the service unless somebody reads its answer by
// now; who leaves last has it considered again.
func (c *fill) outOfTime() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.watched() {
		c.cancel()
	}
}

// mostForNobody is how much more of a response of unknown length is taken when
// its client has gone and nobody else reads it: it may have no end.
const mostForNobody = 1 << 20

// errForNobody ends such a response.
var errForNobody = errors.New("the client has gone, and the response may have no end")

// forNobody counts content that arrives, and reports whether it is too much.
func (c *fill) forNobody(n int) bool {
	if !c.left.Load() || c.stream == nil || c.sized || c.stream.watched() {
		c.alone = 0
		return false
	}
	c.alone += n
	return c.alone > mostForNobody
}

// wantedWithoutClient reports whether to go on when the client is gone.
func (c *fill) wantedWithoutClient() bool { return c.head != nil }

// close frees what the fill holds.
func (c *fill) close() {
	if c.unwatch != nil {
		c.unwatch()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

func contentLength(h http.Header) (int64, bool) {
	values := h["Content-Length"]
	if len(values) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return n, err == nil && n >= 0
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
