package health

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/healthcheck"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/version"
)

const (
	typeJSON = "application/json"
	// typeHealth is the media type of details, after draft-inadarei-api-health-check.
	typeHealth = "application/health+json"
)

// Responses without details.
const (
	healthy   = `{"status":"healthy"}`
	alive     = `{"status":"alive"}`
	ready     = `{"status":"ready"}`
	readyWarn = `{"status":"ready","redis":"warn"}`
	unready   = `{"status":"unready","redis":"down"}`
	draining  = `{"status":"draining"}`
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.run)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if !h.isProbe(path) {
		return next.ServeHTTP(w, r)
	}
	if !h.Log {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	w.Header().Set("Cache-Control", "no-store")
	if err := checkMethod(w, r); err != nil {
		return err
	}
	switch path {
	case h.LivePath:
		respond(w, r, http.StatusOK, typeJSON, alive)
	case h.ReadyPath:
		status, body := h.readiness(r)
		respond(w, r, status, typeJSON, body)
	default:
		verbose, structured := requested(r)
		if !verbose && !structured || h.details != nil && !h.details.Has(r) {
			respond(w, r, http.StatusOK, typeJSON, healthy)
			return nil
		}
		body, err := json.Marshal(h.report(r, structured))
		if err != nil {
			return err
		}
		respond(w, r, http.StatusOK, typeHealth, string(body))
	}
	return nil
}

// isProbe reports whether a path is one of the handler's.
func (h *Handler) isProbe(path string) bool {
	return path == h.Path || path == h.LivePath || path == h.ReadyPath
}

// checkMethod refuses methods other than GET and HEAD.
func checkMethod(w http.ResponseWriter, r *http.Request) error {
	return problem.Allow(w, r, "probes use GET or HEAD", http.MethodGet, http.MethodHead)
}

// readiness returns the response to a readiness probe.
func (h *Handler) readiness(r *http.Request) (status int, body string) {
	switch {
	case shuttingDown(r):
		return http.StatusServiceUnavailable, draining
	case h.redis == nil || h.redis.Up():
		return http.StatusOK, ready
	case len(h.Require) > 0 && !h.redis.Usable():
		return http.StatusServiceUnavailable, unready
	default:
		// An outage of a shared dependency must not take all gateways out at once.
		return http.StatusOK, readyWarn
	}
}

// report and check have the members of the draft that apply here.
type report struct {
	Status  string             `json:"status"`
	Version string             `json:"version,omitempty"`
	Notes   []string           `json:"notes,omitempty"`
	Checks  map[string][]check `json:"checks"`
}

type check struct {
	ComponentType string `json:"componentType,omitempty"`
	Value         *int64 `json:"observedValue,omitempty"`
	Unit          string `json:"observedUnit,omitempty"`
	Status        string `json:"status"`
	Output        string `json:"output,omitempty"`
}

// report collects the details. The state of Redis is that of the last heartbeat.
func (h *Handler) report(r *http.Request, structured bool) report {
	uptime := int64(time.Since(started) / time.Second)
	result := report{
		Status:  "healthy", // as in the plain response
		Version: version.Of(),
		Checks: map[string][]check{
			"uptime": {{ComponentType: "system", Value: &uptime, Unit: "s", Status: "pass"}},
		},
	}
	if structured {
		result.Status = "pass" // as in the draft
	}
	if h.redis != nil {
		state := "pass"
		if !h.redis.Up() {
			state, result.Status = "warn", "warn"
		}
		instances := int64(h.redis.Instances())
		result.Checks["redis:connection"] = []check{{ComponentType: "datastore", Status: state}}
		result.Checks["gateway:instances"] = []check{{ComponentType: "system", Value: &instances, Status: state}}
	}
	if h.warning != "" {
		result.Status = "warn"
		result.Notes = append(result.Notes, h.warning)
	}
	result.addProvided()
	if shuttingDown(r) {
		result.Status = "warn"
		result.Notes = append(result.Notes, "the server is shutting down")
	}
	return result
}

// addProvided adds the checks of other features.
func (r *report) addProvided() {
	for name, list := range healthcheck.All() {
		for _, c := range list {
			r.Checks[name] = append(r.Checks[name], check{ComponentType: c.ComponentType, Status: c.Status, Output: c.Output})
			if c.Status != healthcheck.Pass {
				r.Status = "warn"
			}
		}
	}
}

// requested reports whether details are requested by the query, and whether by
// their media type.
func requested(r *http.Request) (verbose, structured bool) {
	if r.URL.RawQuery != "" {
		verbose = r.URL.Query().Has("verbose")
	}
	for _, value := range r.Header["Accept"] {
		for item := range strings.SplitSeq(value, ",") {
			mediaType, params, err := mime.ParseMediaType(item)
			if err != nil || mediaType != typeHealth {
				continue
			}
			// A weight of 0 means "not acceptable" (RFC 9110 §12.4.2).
			if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
				return verbose, true
			}
		}
	}
	return verbose, false
}

// shuttingDown reports whether the server is about to close its listeners.
func shuttingDown(r *http.Request) bool {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := repl.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}

func respond(w http.ResponseWriter, r *http.Request, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body)) // the client may be gone
	}
}
