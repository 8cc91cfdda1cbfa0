package telemetry

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/stage"
)

// Series of all services. Services and routes are those of the configuration and of the
// services' OpenAPI documents, never what a client sent.
var (
	requests = metrics.Counters("requests_total", "Requests, by service, route and status code of the response.", "service", "route", "code")

	durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tentagate", Name: "request_duration_seconds",
		Help: "Duration of requests until the response was sent, by service and route. Upgraded connections are not in it.",
		// The boundaries of http.server.request.duration in the semantic conventions
		// of OpenTelemetry.
		Buckets:                         []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"service", "route"})

	inFlight = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tentagate", Name: "requests_in_flight",
		Help: "Requests that are being handled, by service.",
	}, []string{"service"})

	requestBytes = metrics.Counters("request_body_bytes_total", "Bytes of request bodies that were read, by service.", "service")

	responseBytes = metrics.Counters("response_body_bytes_total", "Bytes of response bodies that were sent, by service. What passes an upgraded connection is not in it.", "service")

	stageDesc = metrics.Desc("request_stage_duration_seconds",
		"Time that requests spent at each stage of the gateway, by service and stage: guard, auth, limit, cache, upstream, response, other.", "service", "stage")

	stages = metrics.Collector(func(ch chan<- prometheus.Metric) { collectStages(ch) }, stageDesc)

	collectors = []prometheus.Collector{requests, durations, inFlight, requestBytes, responseBytes, stages}
)

// services are the services of all handlers, by label.
var services = pool.New((*service).forget)

// service has the series of one service.
type service struct {
	label string
	base  string // the path of the service, such as /api/users, if the handler knows it

	inFlight      prometheus.Gauge
	requestBytes  prometheus.Counter
	responseBytes prometheus.Counter
	stages        [stage.Count]stageHistogram

	other     *routeSeries
	mu        sync.Mutex // of what creates and deletes series
	forgotten bool       // all series are deleted; guarded by mu
	routes    atomic.Pointer[map[string]*routeSeries]
	// fullUntil is the time in Unix seconds until which no route is added.
	fullUntil atomic.Int64
}

func newService(label, base string) *service {
	s := &service{
		label: label, base: base,
		inFlight:      inFlight.WithLabelValues(label),
		requestBytes:  requestBytes.WithLabelValues(label),
		responseBytes: responseBytes.WithLabelValues(label),
	}
	s.other = s.newRoute(route.Other)
	s.routes.Store(new(map[string]*routeSeries))
	return s
}

// forget deletes the series. Requests that are still being handled create none again.
func (s *service) forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = true
	s.other.drop()
	for _, rs := range *s.routes.Load() {
		rs.drop()
	}
	inFlight.DeleteLabelValues(s.label)
	requestBytes.DeleteLabelValues(s.label)
	responseBytes.DeleteLabelValues(s.label)
	return nil
}

// maxRoutes is how many routes of a service have series of their own: what a service
// says in its OpenAPI document must not fill the memory. Documents change, so a new route
// takes the place of one that had no request for unusedAfter.
const (
	maxRoutes   = 1000
	unusedAfter = time.Hour
)

// route returns the series of a route for a request at a time.
func (s *service) route(template string, now time.Time) *routeSeries {
	at, known := now.Unix(), s.other
	if template != "" {
		var ok bool
		if known, ok = (*s.routes.Load())[template]; !ok {
			known = s.addRoute(template, at)
		}
	}
	if known.used.Load() != at {
		known.used.Store(at)
	}
	return known
}

func (s *service) addRoute(template string, now int64) *routeSeries {
	if len(template) > maxName || !utf8.ValidString(template) || now < s.fullUntil.Load() {
		return s.other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.routes.Load()
	if found, ok := known[template]; ok {
		return found
	}
	if s.forgotten {
		return s.other
	}
	more := maps.Clone(known)
	if more == nil {
		more = make(map[string]*routeSeries, 1)
	}
	if len(more) >= maxRoutes && !s.dropUnused(more, now) {
		return s.other
	}
	added := s.newRoute(template)
	added.used.Store(now)
	more[template] = added
	s.routes.Store(&more)
	return added
}

// dropUnused deletes the series of the routes that had no request for long, and reports
// whether there was one. If not, it is some time until it is tried again.
func (s *service) dropUnused(routes map[string]*routeSeries, now int64) bool {
	before := len(routes)
	maps.DeleteFunc(routes, func(_ string, rs *routeSeries) bool {
		if now-rs.used.Load() < int64(unusedAfter/time.Second) {
			return false
		}
		rs.drop()
		return true
	})
	if len(routes) < before {
		return true
	}
	const pause = 60 // seconds
	s.fullUntil.Store(now + pause)
	return false
}

// routeSeries has the series of one route.
type routeSeries struct {
	service  *service
	route    string
	duration prometheus.Observer
	used     atomic.Int64 // the latest request, in Unix seconds
	dropped  bool         // its series are deleted; guarded by mu of service
	// codes are created when the first response has the status.
	codes [len(codes.names)]atomic.Pointer[prometheus.Counter]
}

func (s *service) newRoute(template string) *routeSeries {
	return &routeSeries{service: s, route: template, duration: durations.WithLabelValues(s.label, template)}
}

// count counts a response.
func (rs *routeSeries) count(status int) {
	i := codes.index(status)
	counter := rs.codes[i].Load()
	if counter == nil {
		if counter = rs.addCode(i); counter == nil {
			return
		}
	}
	(*counter).Inc()
}

// addCode creates the series of a code, or returns nil if the series of the route are
// deleted: the request was there before.
func (rs *routeSeries) addCode(i uint8) *prometheus.Counter {
	rs.service.mu.Lock()
	defer rs.service.mu.Unlock()
	if rs.dropped {
		return nil
	}
	counter := requests.WithLabelValues(rs.service.label, rs.route, codes.names[i])
	rs.codes[i].Store(&counter)
	return &counter
}

// drop deletes the series, each by its labels: to look for them among those of all
// services would keep the scrapes and requests of all waiting. mu of service is held.
func (rs *routeSeries) drop() {
	rs.dropped = true
	for i, name := range codes.names {
		if rs.codes[i].Load() != nil {
			requests.DeleteLabelValues(rs.service.label, rs.route, name)
		}
	}
	durations.DeleteLabelValues(rs.service.label, rs.route)
}

// codeTable are the values of the label code: the registered statuses, 499 for a client
// that left, and one for all else that a service may send.
type codeTable struct {
	names [72]string
	of    [1000]uint8 // by status
}

func (t *codeTable) index(status int) uint8 {
	if status < 0 || status >= len(t.of) {
		return 0
	}
	return t.of[status]
}

var codes = func() (t codeTable) {
	n := uint8(0)
	t.names[n] = route.Other
	for status := range t.of {
		if http.StatusText(status) == "" && status != requeststate.StatusClientClosed {
			continue
		}
		n++
		t.names[n], t.of[status] = strconv.Itoa(status), n
	}
	return t
}()
