package dryrun

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// Request is the body of a request to the endpoint.
type Request struct {
	// URL is the whole URL, with scheme and host. The port says which server is asked;
	// without one a server that is alone is taken.
	URL string `json:"url"`
	// Method. Default: GET.
	Method string `json:"method,omitempty"`
	// Headers are the request fields. Host replaces the host of the URL.
	Headers map[string][]string `json:"headers,omitempty"`
	// Token is sent as `Authorization: Bearer`.
	Token string `json:"token,omitempty"`
	// Client is the address from which the request comes. Default: 127.0.0.1.
	Client string `json:"client,omitempty"`
}

// Bounds of a request.
const (
	maxBody    = 128 << 10
	maxFields  = 200
	defaultAsk = "127.0.0.1"
)

// form is an example of a request.
const form = `{"url": "https://api.example.com/api/users/1", "method": "GET", "headers": {"Origin": ["https://app.example.com"]}, "token": "…", "client": "203.0.113.7"}`

// check refuses what is not a request, and sets the defaults.
func (q *Request) check() (*url.URL, error) {
	u, err := url.Parse(q.URL)
	switch {
	case err != nil:
		return nil, errors.New("url: it cannot be read: write a whole URL such as https://api.example.com/api/users/1")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("url: write a whole URL with http or https and a host, such as https://api.example.com/api/users/1")
	case u.User != nil:
		return nil, errors.New("url: leave user and password out; send them in the field Authorization")
	}
	q.Method = cmp.Or(q.Method, http.MethodGet)
	if !httpguts.ValidHeaderFieldName(q.Method) {
		return nil, errors.New("method: it is a token such as GET")
	}
	q.Client = cmp.Or(q.Client, defaultAsk)
	if _, err := netip.ParseAddr(q.Client); err != nil {
		return nil, fmt.Errorf("client: %q is not an IP address such as 203.0.113.7", q.Client)
	}
	return u, q.checkFields()
}

// checkFields does not repeat values: they may be secrets.
func (q *Request) checkFields() error {
	n := 0
	for name, values := range q.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("headers: %.100q is not the name of a field, such as Origin", name)
		}
		for _, value := range values {
			if n++; n > maxFields {
				return fmt.Errorf("headers: more than %d fields", maxFields)
			}
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("headers: the value of %s has characters that no field can have", name)
			}
		}
	}
	switch {
	case !httpguts.ValidHeaderFieldValue(q.Token):
		return errors.New("token: it has characters that no field can have")
	case q.Token != "" && len(q.fields()["Authorization"]) > 1:
		return errors.New("token: it is sent in Authorization, which headers has too: give one of them")
	}
	return nil
}

// fields returns the header of the request.
func (q *Request) fields() http.Header {
	h := http.Header{}
	for name, values := range q.Headers {
		for _, value := range values {
			h.Add(name, value)
		}
	}
	if q.Token != "" {
		h.Add("Authorization", "Bearer "+q.Token)
	}
	return h
}

// make returns the request as the server would get it.
func (q *Request) make(ctx context.Context, w http.ResponseWriter, u *url.URL, to destination) *http.Request {
	target := *u
	target.Scheme, target.Host, target.Fragment, target.RawFragment = "", "", "", ""
	target.Path = cmp.Or(target.Path, "/")
	r := &http.Request{
		Method: q.Method, URL: &target, RequestURI: target.RequestURI(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: q.fields(), Host: u.Host, Body: http.NoBody, RemoteAddr: net.JoinHostPort(q.Client, "50000"),
	}
	if hosts := r.Header["Host"]; len(hosts) > 0 {
		r.Host = hosts[0]
		r.Header.Del("Host")
	}
	if len(to.server.TLSConnPolicies) > 0 {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: serverName(r)}
	}
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, to.local)
	r = caddyhttp.PrepareRequest(r.WithContext(ctx), caddy.NewReplacer(), w, to.server)
	requeststate.Of(r).DryRun = true
	return r
}

// serverName is the name that a client sends in the TLS handshake: it has none for an
// address.
func serverName(r *http.Request) string {
	host := strings.Trim(hostOf(r), "[]")
	if net.ParseIP(host) != nil {
		return ""
	}
	return host
}

// masked returns a URL without the values in its query, which may be secrets.
func masked(u *url.URL) string {
	shown := *u
	shown.Fragment, shown.RawFragment = "", ""
	if shown.RawQuery != "" {
		parts := strings.Split(shown.RawQuery, "&")
		for i, part := range parts {
			if name, _, ok := strings.Cut(part, "="); ok {
				parts[i] = name + "=*****"
			} else {
				parts[i] = "*****"
			}
		}
		shown.RawQuery = strings.Join(parts, "&")
	}
	return shown.String()
}
