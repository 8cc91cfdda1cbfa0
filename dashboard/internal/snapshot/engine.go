package snapshot

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// The bounds of a snapshot.
const (
	maxRoutes    = 500
	maxCircuits  = 500
	maxUpstreams = 500
	maxFailures  = 50
	maxUnused    = 200
	// window is over how many snapshots quantiles are.
	window = 10
)

// Engine makes snapshots. It may be used by several goroutines.
type Engine struct {
	mu       sync.Mutex
	at       time.Time               // of before; guarded by mu
	before   *frame                  // guarded by mu
	latency  []map[string]*histogram // of the last snapshots; guarded by mu
	failures []Failure               // the latest first; guarded by mu
}

// Forget has the next snapshot be the first one: rates are not measured over a time in which
// nobody watched.
func (e *Engine) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.before, e.latency = nil, nil
}

// Take makes a snapshot of what was gathered from the registry of metrics, of the parts
// of the status, and of requests that failed lately, the latest first. Parts of which all
// that is shown is in Services, Unused and Problems are not passed on.
func (e *Engine) Take(now time.Time, families []*dto.MetricFamily, status StatusPart, failed []Failed) *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := newFrame(families)
	m := &measure{now: f, lasts: lastRequests(status["traffic"])}
	if e.before != nil {
		if m.seconds = now.Sub(e.at).Seconds(); m.seconds > 0 {
			m.rated = true
			m.requests = growth(f.requests, e.before.requests)
		}
	}
	if len(e.latency) > 0 {
		m.earlier = e.latency[0]
	}
	s := &Snapshot{
		Time: now.UnixMilli(), Rated: m.rated, Telemetry: len(f.inFlight) > 0,
		Unused: unused(status["calls"]), Problems: problems(status), Status: status,
	}
	s.Services, s.Total = m.services()
	s.Services, s.MoreRoutes = bounded(s.Services)
	if f.cache != nil {
		s.Cache = new(Cache)
		if m.rated {
			s.Cache = cacheUse(growth(f.cache, e.before.cache), m.seconds)
		}
	}
	s.Refusals = m.refusals(e.before)
	e.note(now, m)
	e.identify(now, failed)
	s.Failures = slices.Clone(e.failures)
	if s.Failures == nil {
		s.Failures = []Failure{}
	}
	for _, part := range []string{"traffic", "calls", "docs", "keys", "checks"} {
		delete(status, part)
	}
	s.CircuitsNotClosed, s.MoreCircuits = boundCircuits(status)
	s.MoreUpstreams = boundUpstreams(status)
	e.at, e.before = now, f
	if e.latency = append(e.latency, f.latency); len(e.latency) > window {
		e.latency = e.latency[1:]
	}
	return s
}

// measure compares a frame with those before.
type measure struct {
	now      *frame
	rated    bool
	seconds  float64
	requests map[seriesKey]float64 // by how much they grew
	earlier  map[string]*histogram
	lasts    map[[2]string]string // last requests by service and route
}

// services returns the services by name, and all of them together.
func (m *measure) services() ([]Service, Traffic) {
	byName := map[string]*Service{}
	for name, n := range m.now.inFlight {
		byName[name] = &Service{Name: name, Traffic: Traffic{InFlight: n}}
	}
	routes := map[[2]string]*Route{}
	for k, n := range m.now.requests {
		s := byName[k.service]
		if s == nil {
			s = &Service{Name: k.service}
			byName[k.service] = s
		}
		at := [2]string{k.service, k.route}
		r := routes[at]
		if r == nil {
			r = &Route{Route: k.route, LastRequest: m.last(at)}
			routes[at] = r
		}
		rate := 0.0
		if m.rated {
			rate = m.requests[k] / m.seconds
		}
		class := classOf(k.code)
		s.Requests, s.Rate, r.Requests, r.Rate = s.Requests+n, s.Rate+rate, r.Requests+n, r.Rate+rate
		s.Classes[class] += rate
		if class == 5 {
			r.Failed += n
		}
	}
	for at, r := range routes {
		byName[at[0]].Routes = append(byName[at[0]].Routes, *r)
	}
	list, total, all := []Service{}, Traffic{}, new(histogram)
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s := byName[name]
		if s.Routes == nil {
			s.Routes = []Route{}
		}
		s.LastRequest = m.last([2]string{name, ""})
		if h := m.now.latency[name]; h != nil && m.rated {
			h = h.since(m.earlier[name])
			s.quantiles(h)
			all.add(h)
		}
		total.add(&s.Traffic)
		list = append(list, *s)
	}
	total.quantiles(all)
	return list, total
}

func (t *Traffic) add(other *Traffic) {
	t.Requests, t.Rate, t.InFlight = t.Requests+other.Requests, t.Rate+other.Rate, t.InFlight+other.InFlight
	for i, n := range other.Classes {
		t.Classes[i] += n
	}
}

func (t *Traffic) quantiles(h *histogram) {
	for q, to := range map[float64]**float64{0.5: &t.P50, 0.95: &t.P95, 0.99: &t.P99} {
		if value, ok := h.quantile(q); ok {
			*to = &value
		}
	}
}

func (m *measure) last(at [2]string) *string {
	if text, ok := m.lasts[at]; ok {
		return &text
	}
	return nil
}

// classOf returns the first digit of a status code, and 0 for other values.
func classOf(code string) int {
	if len(code) == 3 && code[0] >= '1' && code[0] <= '5' {
		return int(code[0] - '0')
	}
	return 0
}

// bounded leaves the routes out that were used least where there are too many.
func bounded(services []Service) ([]Service, int) {
	n := 0
	for i := range services {
		slices.SortFunc(services[i].Routes, func(a, b Route) int {
			return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Route, b.Route))
		})
		n += len(services[i].Routes)
	}
	if n <= maxRoutes {
		return services, 0
	}
	each, left := max(1, maxRoutes/len(services)), 0
	for i := range services {
		if more := len(services[i].Routes) - each; more > 0 {
			left += more
			services[i].Routes = services[i].Routes[:each]
		}
	}
	return services, left
}

// cacheUse returns how the cache was used. Requests that bypass it say nothing of it.
func cacheUse(results map[string]float64, seconds float64) *Cache {
	c := new(Cache)
	for result, n := range results {
		switch result {
		case "bypass":
			continue
		case "hit", "stale", "stale_error", "revalidated", "collapsed":
			c.Hits += n / seconds
		}
		c.Requests += n / seconds
	}
	if c.Requests > 0 {
		ratio := c.Hits / c.Requests
		c.HitRatio = &ratio
	}
	return c
}

func (m *measure) refusals(before *frame) []Refusal {
	var grown map[refusalKey]float64
	if m.rated {
		grown = growth(m.now.refusals, before.refusals)
	}
	list := []Refusal{}
	for k, n := range m.now.refusals {
		r := Refusal{By: k.by, Reason: k.reason, Total: n}
		if m.rated {
			r.Rate = grown[k] / m.seconds
		}
		if n > 0 {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Refusal) int {
		return cmp.Or(strings.Compare(a.By, b.By), strings.Compare(a.Reason, b.Reason))
	})
	return list
}

// note remembers responses with a status of 500 or more.
func (e *Engine) note(now time.Time, m *measure) {
	var list []Failure
	for k, n := range m.requests {
		if n > 0 && classOf(k.code) == 5 {
			list = append(list, Failure{Time: now.UnixMilli(), Service: k.service, Route: k.route, Code: k.code, Count: n})
		}
	}
	slices.SortFunc(list, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Service, b.Service), strings.Compare(a.Route, b.Route), strings.Compare(a.Code, b.Code))
	})
	e.failures = append(list, e.failures...)
	if len(e.failures) > maxFailures {
		e.failures = slices.Clone(e.failures[:maxFailures])
	}
}

// Lately is how long a request may take to be among those that failed once it is counted.
const Lately = 10 * time.Second

// identify finds which request was the latest of a failure. It may be known only at a later
// snapshot than the one in which the request is counted.
func (e *Engine) identify(now time.Time, failed []Failed) {
	for i := range e.failures {
		f := &e.failures[i]
		if f.Time < now.Add(-Lately).UnixMilli() {
			return
		}
		at := slices.IndexFunc(failed, func(r Failed) bool {
			return r.Service == f.Service && r.Route == f.Route && strconv.Itoa(r.Status) == f.Code && r.Ended.UnixMilli() <= f.Time
		})
		if f.RequestID == "" && at >= 0 {
			f.RequestID = failed[at].ID
		}
	}
}

// lastRequests reads the part traffic of the status: when services, with "" for the route,
// and their routes had their last requests.
func lastRequests(text json.RawMessage) map[[2]string]string {
	var list []struct {
		Service string
		Last    *string `json:"last_request"`
		Routes  []struct {
			Route string
			Last  *string `json:"last_request"`
		}
	}
	lasts := map[[2]string]string{}
	if json.Unmarshal(text, &list) != nil {
		return lasts
	}
	for _, s := range list {
		if s.Last != nil {
			lasts[[2]string{s.Service, ""}] = *s.Last
		}
		for _, r := range s.Routes {
			if r.Last != nil {
				lasts[[2]string{s.Service, r.Route}] = *r.Last
			}
		}
	}
	return lasts
}

// unused reads the report of calls.
func unused(text json.RawMessage) []Unused {
	list, left := []Unused{}, maxUnused
	if json.Unmarshal(text, &list) != nil {
		return []Unused{}
	}
	list = slices.DeleteFunc(list, func(u Unused) bool { return len(u.Operations) == 0 })
	for i := range list {
		if u := &list[i]; len(u.Operations) > left {
			u.More = len(u.Operations) - left
			u.Operations = u.Operations[:left]
		}
		left -= len(list[i].Operations)
	}
	return list
}
