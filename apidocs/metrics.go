package apidocs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/pool"
)

// fetches counts the fetches of documents.
var fetches = metrics.Counters("api_docs_fetches_total", "Fetches of OpenAPI documents by result: ok, unchanged, none or error.", "service", "result")

var (
	descProblems = metrics.Desc("api_docs_problems", "Problems of the OpenAPI document of a service that is in use.", "service")
	descFetched  = metrics.Desc("api_docs_last_success_timestamp_seconds", "When the OpenAPI document of a service was last known to be current.", "service")
)

// collectDocuments sends the state of the documents that are in use, one of each service. Where
// several sites, or a reload, have documents of one name, it is the one with the most problems,
// and the oldest fetch.
func collectDocuments(ch chan<- prometheus.Metric) {
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
		metrics.SendGauge(ch, descProblems, float64(problems[service]), service)
		metrics.SendGauge(ch, descFetched, float64(at.UnixMilli())/1e3, service)
	}
}

// validations counts the requests that were validated.
var validations = metrics.Counters("api_docs_validations_total",
	"Requests validated against the OpenAPI document of a service, by result: valid, unchecked, path, method, parameters, content_type or body.", "service", "result")

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
	return []prometheus.Collector{fetches, validations, metrics.Collector(collectDocuments, descProblems, descFetched)}
}
