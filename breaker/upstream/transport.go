// Package upstream has circuit breakers for the upstreams of reverse_proxy: the
// transport `tentagate`, the selection policy `available`, and an adapter for
// reverse_proxy's own circuit breaker slot.
package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/direct"
	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
)

func init() {
	caddy.RegisterModule(&Transport{})
}

// Transport is Caddy's `http` transport with a circuit breaker for each upstream
// address and a retry budget. All options of the `http` transport are
// options of this one.
//
// To reverse_proxy, a refusal is a dial error: nothing was sent, so any request,
// including a POST, may go to another upstream (`lb_retries`). If no upstream
// admits the request within the time for which reverse_proxy retries, the answer
// is 503 with Retry-After, at once.
//
// A fault of the client is answered with 400, 408 or 413. It never counts, not even
// in the passive health checks of reverse_proxy (`fail_duration`), and is not
// retried.
//
//	reverse_proxy users-1:8000 users-2:8000 {
//		lb_retries 1
//		transport tentagate {
//			breaker users {
//				consecutive 5
//			}
//		}
//	}
type Transport struct {
	reverseproxy.HTTPTransport

	// The breaker: one circuit for each upstream address. Default: none.
	Breaker *Breaker `json:"breaker,omitempty"`

	// Limits retries. Default: only reverse_proxy's own limits.
	RetryBudget *RetryBudget `json:"retry_budget,omitempty"`

	// Whether requests go through a lean client for HTTP/1.1, which needs no
	// goroutines for its connections. TLS, HTTP/2, HTTP/3 and forward proxies go
	// through the client of Caddy's `http` transport in any case. Default: true.
	Direct *bool `json:"direct,omitempty"`

	// Position in the Caddyfile, for errors.
	Position string `json:"position,omitempty"`

	direct *direct.Transport // nil where all goes through Caddy's client
	member *registry.Member
	budget *budget
	proxy  *reverseproxy.Handler // that it is the transport of; nil if not known
	state  string                // name of the request variable of the trial
}

// Breaker are the rules of a transport's circuits.
type Breaker struct {
	// Name of the breaker, for metrics and administration. Circuits with the same
	// name and address share one state, which survives a reload. Required.
	Name string `json:"name,omitempty"`

	// The most circuits; beyond that the longest unused is removed. So is one that
	// was not used for 10 minutes. Default: 1000.
	MaxKeys int `json:"max_keys,omitempty"`

	registry.Rules

	// Share openings with other gateways through Redis; see circuit_breaker.
	// Default: false.
	Share bool `json:"share,omitempty"`
}

// transports numbers the transports, as a request may pass several.
var transports atomic.Uint64

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.tentagate",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision sets up Caddy's transport and finds the circuits of an earlier
// configuration.
func (t *Transport) Provision(ctx caddy.Context) error {
	return place.Error(ctx, "transport tentagate", t.Position, t.provision(ctx))
}

func (t *Transport) provision(ctx caddy.Context) error {
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	if err := t.provisionDirect(ctx); err != nil {
		return err
	}
	checkStatusLines(&t.HTTPTransport)
	t.state = fmt.Sprintf("tentagate.trial.%d", transports.Add(1))
	if t.proxy = proxyOf(ctx); t.proxy != nil {
		encodeWhenWritten(t.proxy)
	}
	if t.RetryBudget != nil {
		if err := t.RetryBudget.check(); err != nil {
			return err
		}
		t.budget = newBudget(*t.RetryBudget, registry.Now)
	}
	if t.Breaker == nil {
		return nil
	}
	var err error
	t.member, err = registry.Join(ctx, registry.Options{
		Scope: registry.Upstream, Name: t.Breaker.Name, MaxKeys: t.Breaker.MaxKeys, Share: t.Breaker.Share,
		Position: t.Position,
	}, &t.Breaker.Rules)
	if err != nil {
		return fmt.Errorf("breaker: %w", err)
	}
	return nil
}

// Cleanup closes idle connections and releases the circuits.
func (t *Transport) Cleanup() error {
	if t.direct != nil {
		t.direct.CloseIdleConnections()
	}
	return errors.Join(t.HTTPTransport.Cleanup(), t.member.Leave())
}

// refusal is the error of an attempt that a circuit refused. To reverse_proxy it is
// a dial error; circuit_breaker finds the circuit in it.
type refusal struct {
	reverseproxy.DialError
	open *registry.OpenError
}

func refuse(open *registry.OpenError) error {
	return refusal{reverseproxy.NewDialError(open), open}
}

// Unwrap returns what reverse_proxy and circuit_breaker look for: a DialError does
// not unwrap.
func (r refusal) Unwrap() []error { return []error{r.DialError, r.open} }

// RoundTrip sends the request to the upstream that reverse_proxy selected, unless
// its circuit is open or the request is invalid.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	vars, client := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !client {
		return t.check(r)
	}
	if s := requeststate.Peek(r); s != nil {
		s.Decisions.Stages.Enter(stage.Upstream)
	}
	exchange.ResetSubstitute(r, vars)
	if err := clientfault.Target(r); err != nil {
		return t.blame(r, vars, err), nil
	}
	a := &attempt{t: t, vars: vars, trial: t.trial(vars)}
	var c *registry.Circuit
	var permit circuit.Permit
	if t.member != nil {
		var wait time.Duration
		var ok bool
		c = t.circuit(r)
		if permit, wait, ok = c.Allow(); !ok {
			return t.refused(r, vars, a.trial, c, wait)
		}
	}
	a.Begin(r, t.member, c, permit)
	if resp := t.spend(r, a.trial); resp != nil {
		a.Ignore()
		return resp, nil
	}
	return a.run()
}

// circuit returns the circuit of the upstream that the request goes to.
func (t *Transport) circuit(r *http.Request) *registry.Circuit {
	if info, ok := reverseproxy.GetDialInfo(r.Context()); ok {
		return t.member.Circuit(info.Address)
	}
	return t.member.Circuit(r.URL.Host)
}

// check sends an active health check. It is sent in any state, and is a probe of a
// half-open circuit. A closed circuit does not count it: that a health page works
// says nothing about the rest.
func (t *Transport) check(r *http.Request) (*http.Response, error) {
	if t.member == nil {
		return t.send(r)
	}
	c := t.circuit(r)
	permit, _, ok := c.Allow()
	began := registry.Now()
	resp, err := t.send(r)
	if !ok || !permit.Probe() {
		return resp, err
	}
	result := circuit.Result{Latency: registry.Since(began), Err: err}
	switch {
	case err != nil && exchange.ClientCanceled(r):
		result.Outcome = circuit.Ignored // the configuration ended
	case err != nil:
		result.Outcome = t.member.Failures().Transport(err)
	default:
		result.Status, result.Outcome = resp.StatusCode, t.member.Failures().Status(resp.StatusCode)
	}
	c.Done(permit, result)
	return resp, err
}

// Ready reports whether the circuit of an address would admit a request. It
// changes nothing.
func (t *Transport) Ready(address string) bool {
	return t.member == nil || t.member.Ready(address)
}

// Interface guards
var (
	_ caddy.Provisioner                                = (*Transport)(nil)
	_ caddy.CleanerUpper                               = (*Transport)(nil)
	_ http.RoundTripper                                = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
)
