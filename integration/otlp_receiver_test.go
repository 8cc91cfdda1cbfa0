package integration

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlpReceiver receives what a gateway pushes by OTLP/HTTP.
type otlpReceiver struct {
	url string

	mu       sync.Mutex
	pushes   int // of metrics
	metrics  map[string]*metrics.Metric
	spans    map[string]*trace.Span // those of a server, by trace id
	resource map[string]string      // of the latest spans
}

func newOTLPReceiver(t testing.TB) *otlpReceiver {
	t.Helper()
	o := &otlpReceiver{spans: map[string]*trace.Span{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		switch r.URL.Path {
		case "/v1/metrics":
			err = o.addMetrics(data)
		case "/v1/traces":
			err = o.addSpans(data)
		default:
			http.NotFound(w, r)
		}
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
	}))
	t.Cleanup(s.Close)
	o.url = s.URL
	return o
}

// environment has a gateway push to the receiver, soon.
func (o *otlpReceiver) environment() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + o.url, "OTEL_METRIC_EXPORT_INTERVAL=100", "OTEL_BSP_SCHEDULE_DELAY=20"}
}

func (o *otlpReceiver) addMetrics(data []byte) error {
	var push collectormetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(data, &push); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pushes++
	o.metrics = map[string]*metrics.Metric{}
	for _, resource := range push.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				o.metrics[m.GetName()] = m
			}
		}
	}
	return nil
}

func (o *otlpReceiver) addSpans(data []byte) error {
	var push collectortrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &push); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, resource := range push.GetResourceSpans() {
		o.resource = attributesOf(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				if s.GetKind() == trace.Span_SPAN_KIND_SERVER {
					o.spans[hex.EncodeToString(s.GetTraceId())] = s
				}
			}
		}
	}
	return nil
}

// latest returns how often metrics were pushed, and those of the last time.
func (o *otlpReceiver) latest() (int, map[string]*metrics.Metric) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pushes, o.metrics
}

// span returns the span of a trace, or nil.
func (o *otlpReceiver) span(id string) *trace.Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.spans[id]
}

// attributesOf returns texts and numbers as text.
func attributesOf(list []*common.KeyValue) map[string]string {
	found := make(map[string]string, len(list))
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			found[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			found[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return found
}
