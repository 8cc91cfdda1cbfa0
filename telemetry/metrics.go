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
	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/stage"
)

// Series of all services. Services and routes are those of the configuration and of the
// services' OpenAPI documents, never what a client sent.
var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Name: "requests_total",
		Help: "Requests, by service, route and status code of the response.",
	}, []string{"service", "route", "code"})

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

	requestBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Name: "request_body_bytes_total",
		Help: "Bytes of request bodies that were read, by service.",
	}, []string{"service"})

	responseBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Name: "response_body_bytes_total",
		Help: "Bytes of response bodies that were sent, by service. What passes an upgraded connection is not in it.",
	}, []string{"service"})

	stageDesc = prometheus.NewDesc("tentagate_request_stage_duration_seconds",
		"Time that requests spent at each stage of the gateway, by service and stage: guard, auth, limit, cache, upstream, response, other.",
		[]string{"service", "stage"}, nil)

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

	other  *routeSeries
	mu     sync.Mutex
	routes atomic.Pointer[map[string]*routeSeries]
	// fullUntil is the time in Unix seconds until which no route is added.
	fullUntil atomic.Int64
}

func newService(label, base string) *service {
	s := &service{
		label: label, base: base,
		inFlight:      inFlight.WithLabelValues(label),
		requestBytes:  requestBytes.WithLabelValues(label),
		responseBytes: responseBytes.WithLabelValues(label),
		other:         newRoute(label, route.Other),
	}
	s.routes.Store(new(map[string]*routeSeries))
	return s
}

// forget deletes the series.
func (s *service) forget() error {
	match := prometheus.Labels{"service": s.label}
	for _, vec := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{requests, durations, inFlight, requestBytes, responseBytes} {
		vec.DeletePartialMatch(match)
	}
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
	if template == "" {
		return s.other
	}
	at := now.Unix()
	known, ok := (*s.routes.Load())[template]
	if !ok {
		known = s.addRoute(template, at)
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
	more := maps.Clone(known)
	if more == nil {
		more = make(map[string]*routeSeries, 1)
	}
	if len(more) >= maxRoutes && !s.dropUnused(more, now) {
		return s.other
	}
	added := newRoute(s.label, template)
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
		rs.dropped.Store(true)
		match := prometheus.Labels{"service": rs.service, "route": rs.route}
		requests.DeletePartialMatch(match)
		durations.DeletePartialMatch(match)
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
	service, route string
	duration       prometheus.Observer
	used           atomic.Int64 // the latest request, in Unix seconds
	dropped        atomic.Bool  // its series are deleted
	// codes are created when the first response has the status.
	codes [len(codes.names)]atomic.Pointer[prometheus.Counter]
}

func newRoute(service, route string) *routeSeries {
	return &routeSeries{service: service, route: route, duration: durations.WithLabelValues(service, route)}
}

// count counts a response.
func (rs *routeSeries) count(status int) {
	i := codes.index(status)
	counter := rs.codes[i].Load()
	if counter == nil {
		if rs.dropped.Load() {
			return // of a request that was there before
		}
		c := requests.WithLabelValues(rs.service, rs.route, codes.names[i])
		counter = &c
		rs.codes[i].Store(counter)
	}
	(*counter).Inc()
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

// statusClientClosed is the status by which Caddy records that the client left.
const statusClientClosed = 499

var codes = func() (t codeTable) {
	n := uint8(0)
	t.names[n] = route.Other
	for status := range t.of {
		if http.StatusText(status) == "" && status != statusClientClosed {
			continue
		}
		n++
		t.names[n], t.of[status] = strconv.Itoa(status), n
	}
	return t
}()
