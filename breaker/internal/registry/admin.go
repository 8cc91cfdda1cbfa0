package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/running"
)

func init() {
	query := map[string]string{
		"key":   "The key, as an alternative to the path",
		"scope": "service, upstream or slot, where breakers of several scopes share a name",
	}
	fails := map[int]string{http.StatusBadRequest: "The request is malformed", http.StatusNotFound: "There is no such breaker, or it has no such key"}
	get := func(path, summary string) admin.Operation {
		return admin.Operation{Method: http.MethodGet, Path: path, Summary: summary, Query: query, Answer: []breakerState{}, Fails: fails}
	}
	post := func(path, summary string) admin.Operation {
		return admin.Operation{Method: http.MethodPost, Path: path, Summary: summary, Query: query, Body: forceRequest{}, Answer: []breakerState{}, Fails: fails}
	}
	admin.RegisterStatus("breakers", func() []breakerState { return new(target).describe() }, printBreakers)
	admin.RegisterAPI("breakers",
		admin.Endpoint{Pattern: adminPath, Serve: serveAdmin, Operations: []admin.Operation{get("", "All circuit breakers")}},
		admin.Endpoint{Pattern: adminPath + "/", Serve: serveAdmin, Operations: []admin.Operation{
			get(adminPath+"/{name}", "The circuit breakers of a name"),
			post(adminPath+"/{name}", "Forces the state of a circuit breaker, or has its rules decide again"),
			get(adminPath+"/{name}/{key}", "The circuit of a key or an upstream"),
			post(adminPath+"/{name}/{key}", "The same for the circuit of a key or an upstream"),
		}},
	)
}

// adminPath is the endpoint of the admin API.
const adminPath = "/tentagate/breakers"

// Bounds of a forced state.
const (
	defaultForced = 10 * time.Minute
	maxForced     = 30 * 24 * time.Hour
)

// maxForceBody bounds the body of a request, in bytes.
const maxForceBody = 4096

// breakerState is how a breaker stands.
type breakerState struct {
	Name  string `json:"name"`
	Scope Scope  `json:"scope"`
	Key   string `json:"key"`
	State string `json:"state"`
	// Forced says for how many more seconds the state is forced.
	Forced float64 `json:"forced_seconds,omitempty"`
	// Open says for how many more seconds it refuses everything.
	Open        float64 `json:"open_seconds,omitempty"`
	Requests    int     `json:"requests"`
	Failures    int     `json:"failures"`
	Slow        int     `json:"slow"`
	Consecutive int     `json:"consecutive"`
	Hinted      bool    `json:"hinted,omitempty"`
	InFlight    int     `json:"in_flight,omitempty"`
	Queued      int     `json:"queued,omitempty"`
	Limit       int     `json:"limit,omitempty"`
	// Rule and LastError are those of the last opening.
	Rule      string `json:"last_rule,omitempty"`
	LastError string `json:"last_error,omitempty"`
}

// target is the name, key and scope of a request.
type target struct {
	name, key, scope string
	hasKey           bool
}

func parseTarget(u *url.URL) (t target, err error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(u.EscapedPath(), adminPath), "/")
	name, key, hasKey := strings.Cut(rest, "/")
	if t.name, err = url.PathUnescape(name); err != nil {
		return t, fmt.Errorf("name: %w", err)
	}
	if t.key, err = url.PathUnescape(key); err != nil {
		return t, fmt.Errorf("key: %w", err)
	}
	t.hasKey = hasKey && key != ""
	q := u.Query()
	if q.Has("key") {
		// Caddy cleans paths, which changes keys with `//` and `..` in them.
		t.key, t.hasKey = q.Get("key"), true
	}
	t.scope = q.Get("scope")
	return t, nil
}

func (t *target) groups() (found []*group) {
	for _, g := range eachGroup() {
		if (t.name == "" || g.Name == t.name) && (t.scope == "" || string(g.Scope) == t.scope) {
			found = append(found, g)
		}
	}
	return found
}

// breakerNames returns the names of all breakers.
func breakerNames() (names []string) {
	for _, g := range eachGroup() {
		names = append(names, g.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serveAdmin shows breakers and forces their states:
//
//	GET  /tentagate/breakers               all of them
//	GET  /tentagate/breakers/{name}        those of a name
//	POST /tentagate/breakers/{name}        {"state": "open|closed|auto", "for": "10m"}
//	POST /tentagate/breakers/{name}/{key}  the same for one key or upstream
//
// The key may also be given as the query parameter `key`, and `scope` narrows a
// name that a handler and a transport share. A forced state ends by itself, after
// 10 minutes unless `for` says otherwise; it survives a reload, not a restart.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	t, err := parseTarget(r.URL)
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	found := t.groups()
	switch {
	case r.Method == http.MethodPost && t.name == "":
		return admin.Error(http.StatusBadRequest, errors.New("a name is needed: POST "+adminPath+"/{name}"))
	case t.name != "" && len(found) == 0:
		return admin.Error(http.StatusNotFound, admin.ErrUnknown("breaker", t.name, breakerNames()))
	}
	if r.Method == http.MethodPost {
		if err := t.force(r, found); err != nil {
			return err
		}
	}
	list := t.describe()
	if t.hasKey && len(list) == 0 {
		return admin.Error(http.StatusNotFound, fmt.Errorf("breaker %q has no key %q", t.name, t.key))
	}
	return admin.JSON(w, list)
}

// forceRequest is the body of a POST request.
type forceRequest struct {
	// open, closed or auto.
	State string `json:"state"`
	// How long, such as 10m. Default: 10m, at most 30d.
	For string `json:"for,omitempty"`
}

// forceForm is an example of the body.
const forceForm = `{"state": "open|closed|auto", "for": "10m"}`

// evaluate returns the state, and for how long; 0 ends a forced state.
func (o *forceRequest) evaluate() (state circuit.State, d time.Duration, err error) {
	state, auto, ok := parseState(o.State)
	if !ok {
		return state, 0, fmt.Errorf("state %q: accepted are open, closed and auto", o.State)
	}
	d = defaultForced
	if o.For != "" {
		if auto {
			return state, 0, errors.New("for: it is for open and close")
		}
		if d, err = caddy.ParseDuration(o.For); err != nil || d <= 0 || d > maxForced {
			return state, 0, fmt.Errorf("for: %q is not a duration above zero and of at most 30d, such as 10m", o.For)
		}
	}
	if auto {
		d = 0
	}
	return state, d, nil
}

func (t *target) force(r *http.Request, found []*group) error {
	var o forceRequest
	if err := admin.ReadJSON(r, maxForceBody, &o, forceForm); err != nil {
		return err
	}
	state, d, err := o.evaluate()
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	ok := false
	for _, g := range found {
		ok = g.force(t.key, !t.hasKey, state, d) || ok
	}
	if !ok {
		return admin.Error(http.StatusNotFound, fmt.Errorf("breaker %q has no key %q", t.name, t.key))
	}
	fields := []zap.Field{zap.String("name", t.name), zap.String("state", o.State)}
	if t.hasKey {
		fields = append(fields, zap.String("key", t.key))
	}
	if d > 0 {
		fields = append(fields, zap.Duration("for", d))
	}
	message := "circuit breaker forced"
	if d == 0 {
		message = "circuit breaker follows its rules again"
	}
	running.Logger("tentagate.breaker").Info(message, fields...)
	return nil
}

// describe returns the states of the breakers that the target names.
func (t *target) describe() []breakerState {
	list := []breakerState{}
	for _, g := range t.groups() {
		list = append(list, g.describe(t)...)
	}
	return list
}

func (g *group) describe(t *target) (list []breakerState) {
	circuits := g.each()
	if len(circuits) == 0 && !t.hasKey {
		// There has been no request yet.
		state, forced := g.ofNew()
		return []breakerState{{Name: g.Name, Scope: g.Scope, State: state.String(), Forced: forced.Seconds()}}
	}
	for _, c := range circuits {
		if t.hasKey && c.Key != t.key {
			continue
		}
		s := c.Snapshot()
		b := breakerState{
			Name: g.Name, Scope: g.Scope, Key: c.Key, State: s.State.String(), Forced: s.ForcedFor.Seconds(), Open: s.OpenFor.Seconds(),
			Requests: s.Total, Failures: s.Failures, Slow: s.Slow, Consecutive: s.Consecutive, Hinted: s.Hinted,
		}
		if change := c.opening.Load(); change != nil {
			b.Rule, b.LastError = change.Rule, lastError(*change)
		}
		if l := c.Limiter(); l != nil {
			b.InFlight, b.Queued, b.Limit = l.Stats()
		}
		list = append(list, b)
	}
	return list
}
