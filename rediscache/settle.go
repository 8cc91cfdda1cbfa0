package rediscache

import (
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
	for _, value := range c.fields["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values := c.fields[name]; len(values) > 0 {
				add(name, values)
			}
		}
	}
	for name, values := range c.fields {
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

// giveUp ends the request to the service if nobody wants its answer, or in a
// while. It is called with the lock held.
func (c *fill) giveUp() {
	if c.cancel == nil {
		return
	}
	if c.judged && !c.worth && (c.stream == nil || !c.stream.watched()) || !c.judged && c.f == nil {
		c.cancel()
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Duration(c.x.h.FillTimeout), c.cancel)
	}
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
