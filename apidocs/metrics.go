package apidocs

import (
	"github.com/prometheus/client_golang/prometheus"
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

// Collect sends the series: of each service one, be it in several configurations.
func (documents) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, s := range sources.Values() {
		status := s.Status()
		if status.Document == nil || seen[s.service] {
			continue
		}
		seen[s.service] = true
		ch <- prometheus.MustNewConstMetric(descProblems, prometheus.GaugeValue, float64(len(status.Document.Problems)), s.service)
		ch <- prometheus.MustNewConstMetric(descFetched, prometheus.GaugeValue, float64(status.Fetched.UnixMilli())/1e3, s.service)
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
