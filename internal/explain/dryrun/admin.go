// Package dryrun leads a request through the handlers of the running configuration
// without effects: nothing is counted, taken or stored, and no backend is asked. It has
// the endpoint of the admin API and the command.
//
// No handler runs that is not known to be safe: those that implement explain.Handler
// explain themselves, a few of Caddy's run as they are, and in front of any other the
// dry run ends.
package dryrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/running"
)

// uri is the endpoint of the admin API.
const uri = "/tentagate/explain"

// timeout bounds a dry run, which may wait for Redis.
const timeout = 5 * time.Second

func init() {
	admin.RegisterAPI("explain", admin.Endpoint{Pattern: uri, Serve: serve, Operations: []admin.Operation{{
		Method: http.MethodPost, Summary: "What the gateway would do with a request, without doing it", Body: Request{}, Answer: Answer{},
		Fails: map[int]string{http.StatusBadRequest: "The request is malformed, or several servers listen on the port of the URL", http.StatusNotFound: "No server listens on the port of the URL"},
	}}})
}

// Outcome is what becomes of a request.
type Outcome string

// The outcomes.
const (
	forwarded Outcome = "forwarded" // a service is asked
	refused   Outcome = "refused"   // with a 4xx or 5xx of the gateway
	answered  Outcome = "answered"  // by the gateway, as from its cache
	unknown   Outcome = "unknown"   // the last handler cannot be tried without a real request
)

// Answer is what the gateway would do.
type Answer struct {
	Method string `json:"method"`
	// URL has no values of parameters.
	URL string `json:"url"`
	// Server is the name of the server in the configuration, and the addresses that it
	// listens on.
	Server string `json:"server"`
	// Client is the address of the client, as the server's trusted_proxies make it.
	Client  string  `json:"client"`
	Outcome Outcome `json:"outcome"`
	// Status is what the client gets, left out if the service decides.
	Status int            `json:"status,omitempty"`
	Steps  []explain.Step `json:"steps"`
	// Upstreams are those of the reverse_proxy.
	Upstreams []Upstream `json:"upstreams,omitempty"`
	// Fields are those of the response that say why.
	Fields map[string][]string `json:"response_fields,omitempty"`
}

// shownFields are response fields that hold no secret.
var shownFields = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Max-Age",
	"Allow", "Cache-Status", "Proxy-Status", "Ratelimit", "Ratelimit-Policy", "Retry-After", "Www-Authenticate",
}

func serve(w http.ResponseWriter, r *http.Request) error {
	var q Request
	if err := admin.ReadJSON(r, maxBody, &q, form); err != nil {
		return err
	}
	u, err := q.check()
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	app, ok := running.App[*caddyhttp.App]("http")
	if !ok {
		return admin.Error(http.StatusNotFound, errors.New("the running configuration has no HTTP server"))
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	answer, err := Run(ctx, app, &q, u)
	if err != nil {
		return err
	}
	return admin.JSON(w, answer)
}

// Run finds out what becomes of a request whose URL is u. The error is one for the admin
// API.
func Run(ctx context.Context, app *caddyhttp.App, q *Request, u *url.URL) (*Answer, error) {
	to, err := find(app, u)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && len(to.server.TLSConnPolicies) > 0 {
		return nil, admin.Error(http.StatusBadRequest, fmt.Errorf("url: %s speaks TLS: write https", strings.Join(to.server.Listen, ", ")))
	}
	w := &header{fields: http.Header{}}
	r := q.make(ctx, w, u, to)
	k := &walk{server: to.server}
	k.run(w, r)
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	answer := &Answer{
		Method: q.Method, URL: masked(u), Server: to.String(), Client: cmp.Or(client, q.Client),
		Outcome: k.outcome(), Status: k.record.Status, Steps: k.record.Steps, Upstreams: k.upstreams, Fields: map[string][]string{},
	}
	for _, name := range shownFields {
		if values := w.fields[name]; len(values) > 0 {
			answer.Fields[name] = values
		}
	}
	return answer, nil
}

func (k *walk) outcome() Outcome {
	switch {
	case k.record.Status >= http.StatusBadRequest:
		return refused
	case k.record.Status != 0:
		return answered
	case k.forwarded:
		return forwarded
	case len(k.record.Steps) > 0 && k.record.Steps[len(k.record.Steps)-1].Result == explain.Answers:
		return answered // without a response
	}
	return unknown
}
