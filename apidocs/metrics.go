package apidocs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/pool"
)

// fetches counts the fetches of documents.
var fetches = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "tentagate_api_docs_fetches_total",
	Help: "Fetches of OpenAPI documents by result: ok, unchanged, none or error.",
}, []string{"service", "result"})

var (
	descProblems = prometheus.NewDesc("tentagate_api_docs_problems", "Problems of the OpenAPI document of a service that is in use.", []string{"service"}, nil)
	descFetched  = prometheus.NewDesc("tentagate_api_docs_last_success_timestamp_seconds", "When the OpenAPI document of a service was last known to be current.", []string{"service"}, nil)
)

// documents shows the state of the documents that are in use.
type documents struct{}

// Describe sends the descriptions of the series.
func (documents) Describe(ch chan<- *prometheus.Desc) {
	ch <- descProblems
	ch <- descFetched
}

// Collect sends the series, one of each service. Where several sites, or a reload, have
// documents of one name, it is the one with the most problems, and the oldest fetch.
func (documents) Collect(ch chan<- prometheus.Metric) {
	problems, fetched := map[string]int{}, map[string]time.Time{}
	for _, s := range sources.Values() {
		status := s.Status()
		if status.Document == nil {
			continue
		}
		problems[s.service] = max(problems[s.service], len(status.Document.Problems))
		if at, ok := fetched[s.service]; !ok || status.Fetched.Before(at) {
			fetched[s.service] = status.Fetched
		}
	}
	for service, at := range fetched {
		ch <- prometheus.MustNewConstMetric(descProblems, prometheus.GaugeValue, float64(problems[service]), service)
		ch <- prometheus.MustNewConstMetric(descFetched, prometheus.GaugeValue, float64(at.UnixMilli())/1e3, service)
	}
}

// validations counts the requests that were validated.
var validations = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "tentagate_api_docs_validations_total",
	Help: "Requests validated against the OpenAPI document of a service, by result: valid, unchecked, path, method, parameters, content_type or body.",
}, []string{"service", "result"})

// The results of validating a request.
const (
	resultValid = iota
	resultUnchecked
	resultPath
	resultMethod
	resultParameters
	resultContentType
	resultBody
	resultCount
)

var resultNames = [resultCount]string{"valid", "unchecked", "path", "method", "parameters", "content_type", "body"}

// validationCounters are those of one service, by result.
type validationCounters [resultCount]prometheus.Counter

// seriesOf are the series of services, by name. They end with the last handler that has the
// service.
var seriesOf = pool.New(func(service string) error {
	fetches.DeletePartialMatch(prometheus.Labels{"service": service})
	validations.DeletePartialMatch(prometheus.Labels{"service": service})
	return nil
})

func newValidationCounters(service string) *validationCounters {
	c := new(validationCounters)
	for i, name := range resultNames {
		c[i] = validations.WithLabelValues(service, name)
	}
	return c
}

func collectors() []prometheus.Collector {
	return []prometheus.Collector{fetches, validations, documents{}}
}
