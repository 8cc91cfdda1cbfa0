package caddyfile

import (
	"os"
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
