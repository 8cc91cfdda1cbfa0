package registry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/internal/events"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/resolve"
)

// defaultMaxKeys is how many circuits a name may have by default.
const defaultMaxKeys = 1000

// Options are the settings of a module's circuits besides rules.
type Options struct {
	Scope    Scope
	Name     string
	MaxKeys  int
	Inflight inflight.Settings // Max 0: no bound
	Share    bool              // exchange hints with other gateways
	Observe  bool              // refuse nothing, and publish no hints
	Position string            // in the Caddyfile
}

// Member is a module of a configuration that uses the circuits of a name.
type Member struct {
	scope    Scope
	name     string
	given    Rules
	settings circuit.Settings
	failures *Failures
	inflight inflight.Settings
	maxKeys  int
	observe  bool
	position string
	sequence uint64 // members of newer configurations have higher ones
	config   *prometheus.Registry
	counters [outcomes]prometheus.Counter
	group    *group
	groupRef *pool.Ref[*group]
	left     atomic.Bool
	hints    *hints // nil without share
	hintsRef *pool.Ref[*hints]
	ctx      caddy.Context
	logger   *zap.Logger
}

var sequence atomic.Uint64

// Join sets the defaults of the rules, checks them, and finds the circuits of an
// earlier configuration. Leave must be called at the end.
func Join(ctx caddy.Context, o Options, rules *Rules) (*Member, error) {
	rules.setDefaults()
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	if strings.Contains(o.Name, "{") {
		name, err := resolve.AtLoad("name", o.Name)
		if err != nil {
			return nil, err
		}
		o.Name = name
	}
	if err := rules.check(); err != nil {
		return nil, err
	}
	failures, err := parseFailures(rules.Failure)
	if err != nil {
		return nil, err
	}
	failures.retryAfter = time.Duration(rules.RetryAfterMax)
	if o.MaxKeys < 0 || o.MaxKeys > MaxKeys {
		return nil, fmt.Errorf("max_keys %d: accepted are 1 to %d", o.MaxKeys, MaxKeys)
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = defaultMaxKeys
	}
	if !rules.opens() && o.Inflight.Max == 0 {
		ctx.Logger().Warn("no rule opens this circuit breaker; it opens only by `tentagate breakers open`",
			zap.String("name", o.Name), zap.String("at", o.Position))
	}
	m := &Member{
		scope: o.Scope, name: o.Name, given: *rules, settings: rules.settings(), failures: failures,
		inflight: o.Inflight, maxKeys: o.MaxKeys, observe: o.Observe, position: o.Position, sequence: sequence.Add(1),
		config: ctx.GetMetricsRegistry(), ctx: ctx, logger: ctx.Logger(),
	}
	framing.Install(ctx) // as every feature's server has it
	metrics.Register(m.config, Collectors()...)
	for i := range m.counters {
		m.counters[i] = requests.WithLabelValues(m.name, string(m.scope), Outcome(i).String())
	}
	if o.Share {
		a, err := app.Get(ctx)
		if err == nil && a.Redis() != nil {
			if m.hintsRef, err = acquireHints(a); err == nil {
				m.hints = m.hintsRef.Value
			}
		}
		if err != nil {
			return nil, fmt.Errorf("share: %w", err)
		}
	}
	if err := join(m); err != nil {
		return nil, errors.Join(err, m.hintsRef.Release())
	}
	return m, nil
}

// Leave releases the circuits. It may be called on nil, and more than once.
// Requests in progress may go on using them.
func (m *Member) Leave() error {
	if m == nil || m.group == nil || m.left.Swap(true) {
		return nil
	}
	m.group.leave(m)
	return errors.Join(m.groupRef.Release(), m.hintsRef.Release())
}

// rules are what members of one configuration must agree on.
func (m *Member) rules() any {
	return struct {
		Rules
		inflight.Settings
		int
		bool
	}{m.given, m.inflight, m.maxKeys, m.observe}
}

// CheckName refuses no name, and one with placeholders of a request.
func CheckName(name string) error {
	if strings.TrimSpace(name) == "" {
		return errors.New("name: missing: a breaker has a name, for metrics and administration")
	}
	for _, placeholder := range resolve.Placeholders(name) {
		if strings.HasPrefix(placeholder, "http.") || !strings.Contains(placeholder, ".") {
			return fmt.Errorf("name: {%s} is known only when a request comes, and a breaker has one name: write a name such as users; for a circuit of each value, the directive circuit_breaker has `key {%s}`", placeholder, placeholder)
		}
	}
	return nil
}

// Circuit returns the circuit of a key.
func (m *Member) Circuit(key string) *Circuit { return m.group.get(boundKey(key), m) }

// Worst returns the worst state of the circuits of the name.
func (m *Member) Worst() circuit.State {
	worst := circuit.Closed
	for _, c := range m.group.each() {
		switch state := c.State(); {
		case state == circuit.Open:
			return state
		case state == circuit.HalfOpen:
			worst = state
		}
	}
	return worst
}

// Ready reports whether the circuit of a key, if there is one, would admit a
// request. It changes nothing.
func (m *Member) Ready(key string) bool {
	c := m.group.lookup(boundKey(key))
	return c == nil || c.Ready()
}

// Wait returns how long the circuit of a key will refuse everything, or zero if
// it admits requests or waits for probes. It changes nothing.
func (m *Member) Wait(key string) time.Duration {
	if c := m.group.lookup(boundKey(key)); c != nil {
		return c.Wait()
	}
	return 0
}

// Admission is what the circuit of a key would say to a request.
type Admission struct {
	State circuit.State
	Ready bool          // it would admit the request
	Wait  time.Duration // how long it will refuse, or zero
	// InFlight and Queued are the requests in progress and waiting, with Limit the most
	// that may be in progress; zero without a limit.
	InFlight, Queued, Limit int
}

// Foresee returns what the circuit of a key would say. It makes no circuit, takes no
// probe's place, and changes nothing.
func (m *Member) Foresee(key string) Admission {
	c := m.group.lookup(boundKey(key))
	if c == nil {
		return m.group.foreseeNew()
	}
	a := Admission{State: c.State(), Ready: c.Ready(), Wait: c.Wait()}
	if limiter := c.Limiter(); limiter != nil {
		a.InFlight, a.Queued, a.Limit = limiter.Stats()
	}
	return a
}

// RetryAfter returns the value of the Retry-After field: whole seconds, rounded
// up, at least one.
func RetryAfter(wait time.Duration) string {
	return strconv.FormatInt(max(int64((wait+time.Second-1)/time.Second), 1), 10)
}

// Failures returns what counts as a failure.
func (m *Member) Failures() *Failures { return m.failures }

// changed reports a change of state in the metrics, the log and the events, and
// an opening to other gateways.
func (g *group) changed(c *Circuit, change circuit.Change) {
	transitions.WithLabelValues(g.Name, string(g.Scope), change.From.String(), change.To.String()).Inc()
	if change.To == circuit.Open {
		c.opening.Store(&change)
	}
	m := c.owner.Load()
	if m == nil {
		return // its configuration ended, and no newer one has used it yet
	}
	fields := []zap.Field{
		zap.String("name", g.Name), zap.String("scope", string(g.Scope)), zap.String("key", c.Key),
		zap.String("from", change.From.String()), zap.String("to", change.To.String()),
	}
	data := map[string]any{"name": g.Name, "scope": string(g.Scope), "key": c.Key, "from": change.From.String(), "to": change.To.String()}
	if change.To == circuit.Open {
		reason := lastError(change)
		fields = append(fields,
			zap.String("rule", change.Rule), zap.Int("requests", change.Total), zap.Int("failures", change.Failures), zap.Int("slow", change.Slow),
			zap.String("last_error", reason), zap.Duration("open_for", change.OpenFor))
		if s, _, ok := c.Forced(); ok {
			fields = append(fields, zap.String("forced", s.String()))
		}
		m.logger.Warn("circuit breaker opened", fields...)
		data["rule"], data["open_for"], data["last_error"] = change.Rule, change.OpenFor.String(), reason
		data["requests"], data["failures"], data["slow"] = change.Total, change.Failures, change.Slow
		if !m.observe {
			m.hints.publish(g, c.Key, change.OpenFor)
		}
	} else {
		m.logger.Info("circuit breaker changed", fields...)
	}
	name := map[circuit.State]string{
		circuit.Open: "circuit_breaker_opened", circuit.HalfOpen: "circuit_breaker_half_opened", circuit.Closed: "circuit_breaker_closed",
	}[change.To]
	events.Emit(m.ctx, name, data)
}

// maxError bounds what a backend can write into a log line, in bytes.
const maxError = 200

func lastError(change circuit.Change) string {
	text := ""
	switch {
	case change.Err != nil:
		text = change.Err.Error()
	case change.Status != 0:
		text = fmt.Sprintf("status %d", change.Status)
	}
	if len(text) > maxError {
		text = text[:maxError] + "…"
	}
	return text
}

// OpenError is the refusal of a circuit.
type OpenError struct {
	Name, Key string
	// Wait is how long it will refuse, or zero if it waits for probes.
	Wait time.Duration
}

func (e *OpenError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("circuit breaker %s is open", e.Name)
	}
	return fmt.Sprintf("circuit breaker %s is open for %s", e.Name, e.Key)
}
