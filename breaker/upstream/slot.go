package upstream

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/registry"
)

func init() {
	caddy.RegisterModule(&Slot{})
}

// Slot is a circuit breaker for the `circuit_breaker` option of reverse_proxy in
// JSON configurations: one circuit for all upstreams of the proxy.
//
// reverse_proxy reports answers only: no failed connections, no timeouts, no
// answers that break off, and no clients that leave. A dead backend does not open
// it. While half-open it admits every request, because reverse_proxy asks without
// saying whether a request follows. The handler circuit_breaker and the transport
// tentagate have no such limits.
type Slot struct {
	// Name of the breaker, for metrics and administration. Required.
	Name string `json:"name,omitempty"`

	registry.Rules

	member *registry.Member
}

// CaddyModule returns the Caddy module information.
func (*Slot) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.circuit_breakers.tentagate",
		New: func() caddy.Module { return new(Slot) },
	}
}

// Provision finds the circuit of an earlier configuration.
func (s *Slot) Provision(ctx caddy.Context) (err error) {
	s.member, err = registry.Join(ctx, registry.Options{Scope: registry.Slot, Name: s.Name}, &s.Rules)
	return err
}

// Cleanup releases the circuit.
func (s *Slot) Cleanup() error { return s.member.Leave() }

// OK reports whether upstreams may get requests. It changes nothing: reverse_proxy
// calls it any number of times per request, and also without one.
func (s *Slot) OK() bool { return s.member.Circuit("").State() != circuit.Open }

// RecordMetric counts an answer.
func (s *Slot) RecordMetric(status int, latency time.Duration) {
	c := s.member.Circuit("")
	result := circuit.Result{Outcome: s.member.Failures().Status(status), Latency: latency, Status: status}
	if permit, _, ok := c.Allow(); ok {
		c.Done(permit, result)
	}
	s.member.CountResult(result)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Slot)(nil)
	_ caddy.CleanerUpper          = (*Slot)(nil)
	_ reverseproxy.CircuitBreaker = (*Slot)(nil)
)
