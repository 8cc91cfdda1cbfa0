package caddyfile

import (
	"os"
	"strings"
	"testing"
)

// The standard variables of OpenTelemetry switch tracing and the export of metrics on.
func TestOTELEnvironment(t *testing.T) {
	for _, test := range []struct {
		environment    string
		traces, pushes bool
	}{
		{"", false, false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT= ", false, false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", true, true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector:4318/v1/traces", true, false},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://collector:4318/v1/metrics", false, true},
		{"OTEL_TRACES_EXPORTER=otlp", true, false},
		{"OTEL_METRICS_EXPORTER=otlp", false, true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 OTEL_METRICS_EXPORTER=none", true, false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 OTEL_TRACES_EXPORTER=none", false, true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 OTEL_SDK_DISABLED=true", false, false},
	} {
		t.Run(test.environment, func(t *testing.T) {
			for _, entry := range os.Environ() {
				if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "OTEL_") {
					t.Setenv(name, "")
				}
			}
			for entry := range strings.FieldsSeq(test.environment) {
				name, value, _ := strings.Cut(entry, "=")
				t.Setenv(name, value)
			}
			text := withOTEL(builtin)
			if got := strings.Contains(text, "\ttracing\n"); got != test.traces {
				t.Errorf("tracing is on: %t", got)
			}
			if got := strings.Contains(text, "\t\totlp\n"); got != test.pushes {
				t.Errorf("metrics are exported: %t", got)
			}
		})
	}
}

func TestServiceName(t *testing.T) {
	for _, test := range []struct{ name, resource, want string }{
		{"", "", "tentagate"},
		{"edge", "", "edge"},
		{"", "team=api,service.name=edge", ""},
		{"", "team=api", "tentagate"},
	} {
		t.Setenv(envOTELServiceName, test.name)
		t.Setenv(envOTELResource, test.resource)
		if err := nameService(); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv(envOTELServiceName); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
