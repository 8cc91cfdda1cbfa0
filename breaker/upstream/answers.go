package upstream

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/problem"
)

// blame returns the answer to a request that failed by the fault of its client.
func (t *Transport) blame(r *http.Request, vars map[string]any, fault error) *http.Response {
	p := clientfault.Problem(fault)
	exchange.SetSubstitute(vars, &exchange.Substitute{Status: p.Status, Fault: fault})
	return response(r, p)
}

// unavailable returns the answer where no circuit admits the request in time.
func (t *Transport) unavailable(r *http.Request, vars map[string]any, open *registry.OpenError) *http.Response {
	exchange.SetSubstitute(vars, &exchange.Substitute{Status: http.StatusServiceUnavailable, Open: open})
	circuitstate.Refused(r, "upstream_open")
	resp := response(r, problem.New(http.StatusServiceUnavailable,
		"all upstreams of the service are temporarily unavailable (circuit open)"))
	resp.Header.Set("Retry-After", registry.RetryAfter(open.Wait))
	resp.Header.Set("Proxy-Status", "tentagate; error=destination_unavailable") // RFC 9209 §2.3.4
	return resp
}

// response returns a problem (RFC 9457) as an answer of the transport.
func response(r *http.Request, p *problem.Problem) *http.Response {
	text := p.InTransport(r)
	return &http.Response{
		StatusCode: p.Status, Status: strconv.Itoa(p.Status) + " " + http.StatusText(p.Status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Content-Type":           {"application/problem+json"},
			"Cache-Control":          {"no-store"},
			"X-Content-Type-Options": {"nosniff"},
			"Content-Length":         {strconv.Itoa(len(text))},
		},
		ContentLength: int64(len(text)),
		Body:          io.NopCloser(bytes.NewReader(text)),
	}
}

// refused returns the answer to an attempt whose circuit is open, or an error if
// another attempt may be admitted.
func (t *Transport) refused(r *http.Request, vars map[string]any, l *trial, c *registry.Circuit, wait time.Duration) (*http.Response, error) {
	t.member.Count(registry.Rejected)
	if l != nil {
		// Retry-After has the shortest of the waits.
		if l.refusals++; l.refusals > 1 {
			wait = min(wait, l.shortest)
		}
		l.shortest = wait
	}
	left, more := l.left()
	soonest, ready := t.soonest(r, wait)
	open := &registry.OpenError{Name: t.Breaker.Name, Key: c.Key, Wait: soonest}
	if ready || more && soonest <= left {
		return nil, refuse(open)
	}
	return t.unavailable(r, vars, open), nil
}

// soonest returns after how long one of the proxy's upstreams may admit a request,
// and whether one would now. If the upstreams are not known, it is the time given.
func (t *Transport) soonest(r *http.Request, wait time.Duration) (time.Duration, bool) {
	if t.proxy == nil {
		return wait, false
	}
	pool := t.proxy.Upstreams
	if t.proxy.DynamicUpstreams != nil {
		if found, err := t.proxy.DynamicUpstreams.GetUpstreams(r); err == nil {
			pool = found
		}
	}
	known := false
	for _, u := range pool {
		if u.Host != nil && !u.Healthy() {
			continue
		}
		key := address(u.Dial, r)
		if t.member.Ready(key) {
			return 0, true
		}
		if w := t.member.Wait(key); !known || w < wait {
			known, wait = true, w
		}
	}
	return wait, false
}
