package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// configURI is the endpoint of the running configuration.
const configURI = "/tentagate/config"

func init() {
	RegisterAPI("config", Endpoint{Pattern: configURI, Serve: serveConfig, Operations: []Operation{
		{Method: http.MethodGet, Summary: "The running configuration, with secrets masked", Answer: map[string]any{}},
	}})
}

// serveConfig answers with what Caddy's own /config/ has, without secrets.
func serveConfig(w http.ResponseWriter, r *http.Request) error {
	text, err := runningConfig(r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var config any
	if err := dec.Decode(&config); err != nil {
		return Error(http.StatusInternalServerError, err)
	}
	return JSON(w, masked(maskKnown(config)))
}

// runningConfig returns the configuration. Caddy keeps it to itself, so the admin server
// that asks is asked for it, by its rules for who may read it.
func runningConfig(r *http.Request) ([]byte, error) {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || fmt.Sprintf("%T", server.Handler) != "caddy.adminHandler" {
		return nil, Error(http.StatusNotFound, errors.New("the configuration can be read at Caddy's admin endpoint only"))
	}
	inner := r.Clone(r.Context())
	inner.Method, inner.RequestURI, inner.URL.Path, inner.URL.RawPath, inner.URL.RawQuery = http.MethodGet, "/config/", "/config/", "", ""
	inner.Body, inner.ContentLength = http.NoBody, 0
	answer := &buffer{header: http.Header{}, status: http.StatusOK}
	server.Handler.ServeHTTP(answer, inner)
	if answer.status != http.StatusOK {
		return nil, Error(answer.status, errors.New(strings.TrimSpace(answer.body.String())))
	}
	return answer.body.Bytes(), nil
}

// buffer keeps a response.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(status int) { b.status = status }

func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }
