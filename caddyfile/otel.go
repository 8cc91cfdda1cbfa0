package caddyfile

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Parts of the built-in Caddyfile where OpenTelemetry is switched on.
const (
	builtinMetrics = "\n\tmetrics\n"
	builtinSiteLog = "\tlog\n\ttentagate {\n"
)

// Variables of the OpenTelemetry SDK by which it is seen whether telemetry is exported. The
// SDK itself reads all of them, and the others of the specification.
const (
	envOTELDisabled    = "OTEL_SDK_DISABLED"
	envOTELEndpoint    = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envOTELServiceName = "OTEL_SERVICE_NAME"
	envOTELResource    = "OTEL_RESOURCE_ATTRIBUTES"
	envOTELSampler     = "OTEL_TRACES_SAMPLER"
)

// withOTEL adds Caddy's tracing and its export of metrics by OTLP to the built-in
// Caddyfile, where the standard variables say that there is somebody to receive them.
func withOTEL(text string) string {
	if exports("TRACES") {
		text = strings.Replace(text, builtinSiteLog, "\ttracing\n"+builtinSiteLog, 1)
	}
	if exports("METRICS") {
		text = strings.Replace(text, builtinMetrics, "\n\tmetrics {\n\t\totlp\n\t}\n", 1)
	}
	return text
}

// exports reports whether a signal is exported: it has an exporter, or an endpoint.
func exports(signal string) bool {
	if strings.EqualFold(getenv(envOTELDisabled), "true") {
		return false
	}
	switch getenv("OTEL_" + signal + "_EXPORTER") {
	case "none":
		return false
	case "":
		return getenv(envOTELEndpoint) != "" || getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
	}
	return true
}

// nameService names the gateway in telemetry, unless the environment does.
func nameService() error {
	if getenv(envOTELServiceName) != "" || strings.Contains(getenv(envOTELResource), "service.name=") {
		return nil
	}
	return os.Setenv(envOTELServiceName, "tentagate")
}

// otelWords are what variables of the SDK take that would otherwise be reported without
// their name, or not at all.
var otelWords = map[string][]string{
	"OTEL_TRACES_EXPORTER":        {"otlp", "console", "none"},
	"OTEL_METRICS_EXPORTER":       {"otlp", "console", "none", "prometheus"},
	"OTEL_EXPORTER_OTLP_PROTOCOL": {"http/protobuf", "grpc"},
	envOTELSampler: {
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio", "always_on", "always_off", "traceidratio",
	},
}

// checkOTEL checks the variables of the SDK where telemetry is exported: it takes its
// defaults for most mistakes.
func checkOTEL() error {
	if !exports("TRACES") && !exports("METRICS") {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(otelWords)) {
		value := getenv(name)
		if name == envOTELSampler {
			value = strings.ToLower(value) // as the SDK reads it
		}
		if value != "" && !slices.Contains(otelWords[name], value) {
			return fmt.Errorf("%s: unknown value %q: accepted are %s", name, value, strings.Join(otelWords[name], ", "))
		}
	}
	for _, name := range []string{envOTELEndpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"} {
		if value := getenv(name); value != "" {
			if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return fmt.Errorf("%s: it is not a URL such as http://collector:4318", name)
			}
		}
	}
	if value := getenv("OTEL_METRIC_EXPORT_INTERVAL"); value != "" {
		if n, err := strconv.Atoi(value); err != nil || n <= 0 {
			return fmt.Errorf("OTEL_METRIC_EXPORT_INTERVAL: %q is not a number of milliseconds, such as 60000", value)
		}
	}
	if value := getenv("OTEL_TRACES_SAMPLER_ARG"); value != "" && strings.HasSuffix(strings.ToLower(getenv(envOTELSampler)), "ratio") {
		if n, err := strconv.ParseFloat(value, 64); err != nil || !(n >= 0 && n <= 1) {
			return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is not a number from 0 to 1, such as 0.01", value)
		}
	}
	return nil
}
