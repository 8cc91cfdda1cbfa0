// Package upstream watches each upstream of a reverse_proxy on its own: the
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
	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	caddy.RegisterModule(&Transport{})
}

// Transport is Caddy's `http` transport with a circuit breaker for each upstream
// address, and a bound for retries. All options of the `http` transport are
// options of this one.
//
// A refusal is a dial error to reverse_proxy: nothing was sent, so any request,
// a POST too, may go to another upstream (`lb_retries`). Where no upstream
// admits the request in the time for which reverse_proxy tries, the answer is
// 503 with Retry-After, at once.
//
// What a client does wrong is answered with 400, 408 or 413. It never counts,
// not in the passive health checks of reverse_proxy either (`fail_duration`),
// and is not tried again.
type Transport struct {
	reverseproxy.HTTPTransport

	// The breaker: one circuit for each upstream address. Default: none.
	Breaker *Breaker `json:"breaker,omitempty"`

	// How many requests may be retries. Default: no bound but reverse_proxy's.
	RetryBudget *RetryBudget `json:"retry_budget,omitempty"`

	// Where the Caddyfile has the transport; errors name it.
	Position string `json:"position,omitempty"`

	member *registry.Member
	budget *budget
	proxy  *reverseproxy.Handler // whose transport it is; nil if that is not known
	state  string                // name of the request variable that has the trial
}

// Breaker are the rules of a transport's circuits.
type Breaker struct {
	// Name of the breaker, for metrics and administration. Circuits with the same
	// name and address share one state, which survives a reload. Required.
	Name string `json:"name,omitempty"`

	// How many addresses are remembered; beyond that the longest unused is
	// forgotten. An address that nobody used for 10 minutes is forgotten too.
	// Default: 1000.
	MaxKeys int `json:"max_keys,omitempty"`

	registry.Rules

	// Tell other gateways, through Redis, of openings; see circuit_breaker.
	// Default: false.
	Share bool `json:"share,omitempty"`
}

// transports tells the transports apart in a request that meets several.
var transports atomic.Uint64

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.tentagate",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision prepares Caddy's transport and finds the circuits of an earlier
// configuration.
func (t *Transport) Provision(ctx caddy.Context) error {
	return place.Error(ctx, "transport tentagate", t.Position, t.provision(ctx))
}

func (t *Transport) provision(ctx caddy.Context) error {
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	checkStatusLines(&t.HTTPTransport)
	t.state = fmt.Sprintf("tentagate.trial.%d", transports.Add(1))
	t.proxy = proxyOf(ctx)
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
	return errors.Join(t.HTTPTransport.Cleanup(), t.member.Leave())
}

// refusal is the error of an attempt that was not made. reverse_proxy takes it
// for a dial error; circuit_breaker finds the circuit in it.
type refusal struct {
	reverseproxy.DialError
	open *registry.OpenError
}

func refuse(open *registry.OpenError) error {
	return refusal{reverseproxy.NewDialError(open), open}
}

// Unwrap returns what reverse_proxy and what circuit_breaker look for: a
// DialError does not unwrap.
func (r refusal) Unwrap() []error { return []error{r.DialError, r.open} }

// RoundTrip asks the upstream that reverse_proxy chose, unless its circuit is
// open or the request is none that can be sent.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	vars, client := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !client {
		return t.check(r)
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

// check runs an active health check. It is let through in any state, and where
// the circuit is half-open it is a probe. When closed it does not count: that a
// health page answers says nothing of the rest.
func (t *Transport) check(r *http.Request) (*http.Response, error) {
	if t.member == nil {
		return t.HTTPTransport.RoundTrip(r)
	}
	c := t.circuit(r)
	permit, _, ok := c.Allow()
	began := registry.Now()
	resp, err := t.HTTPTransport.RoundTrip(r)
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
