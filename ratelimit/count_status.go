package ratelimit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// statusSet are the status codes of responses that count.
type statusSet [600]bool

func (s *statusSet) has(status int) bool {
	return status >= 0 && status < len(s) && s[status]
}

// parseStatuses reads codes such as 401 and classes such as 5xx.
func parseStatuses(texts []string) (s statusSet, err error) {
	for _, text := range texts {
		if len(text) == 3 && text[1:] == "xx" && text[0] >= '1' && text[0] <= '5' {
			first := int(text[0]-'0') * 100
			for i := first; i < first+100; i++ {
				s[i] = true
			}
			continue
		}
		code, err := strconv.Atoi(text)
		if err != nil || code < 100 || code > 599 {
			return s, fmt.Errorf("count status: %q is neither a status code from 100 to 599 nor a class such as 5xx", text)
		}
		s[code] = true
	}
	return s, nil
}

// countByStatus runs the rest of the chain and settles as soon as the status is
// known. The units were reserved before, so that requests in progress cannot
// together exceed the limit, and are given back for a status that does not
// count; with count_after they are taken only now, for one that does.
func (c *check) countByStatus(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	sw := &statusWriter{ResponseWriter: w, check: c}
	finished := false
	defer func() {
		if !finished {
			// A panic: the connection is cut without any status.
			sw.settle(0)
		}
	}()
	err := next.ServeHTTP(sw, r)
	finished = true
	switch {
	case sw.settled:
	case err == nil:
		sw.settle(http.StatusOK)
	default:
		status := http.StatusInternalServerError
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
			status = he.StatusCode
		}
		sw.settle(status)
	}
	return err
}

// statusWriter waits for the status of the response.
type statusWriter struct {
	http.ResponseWriter
	check   *check
	settled bool
}

func (w *statusWriter) settle(status int) {
	if w.settled {
		return
	}
	w.settled = true
	c := w.check
	switch counts := c.h.statuses.has(status); {
	case c.h.CountAfter && counts:
		c.h.zone.decide(c)
		c.h.zone.hot.add(c.key, c.cost)
		if !c.h.Shadow {
			c.h.writeFields(w.Header(), c)
		}
	case !c.h.CountAfter && !counts:
		c.refund()
		c.h.rewriteFields(w.Header(), c)
	}
}

// WriteHeader settles a final status; informational ones come before it.
func (w *statusWriter) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.settle(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	w.settle(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open for sendfile.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	w.settle(http.StatusOK)
	return (&caddyhttp.ResponseWriterWrapper{ResponseWriter: w.ResponseWriter}).ReadFrom(r)
}

// FlushError flushes; a flush sends the header.
func (w *statusWriter) FlushError() error {
	w.settle(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.settle(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Push implements http.Pusher for handlers that assert it.
func (w *statusWriter) Push(target string, opts *http.PushOptions) error {
	return (&caddyhttp.ResponseWriterWrapper{ResponseWriter: w.ResponseWriter}).Push(target, opts)
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
