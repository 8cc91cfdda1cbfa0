package dryrun

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// maxMethod is the longest method that Caddy takes, in bytes.
const maxMethod = 32

// admit does what Caddy's server does in front of its routes: it refuses some requests,
// and drops fields whose names an application could take for those of others.
func (k *walk) admit(r *http.Request) error {
	if status, reason := refusal(r); status != 0 {
		return k.refuse(status, reason)
	}
	var dropped []string
	for name, values := range r.Header {
		if drops(k.server, name, len(values)) {
			dropped = append(dropped, name)
		}
	}
	if len(dropped) > 0 {
		slices.Sort(dropped)
		for _, name := range dropped {
			delete(r.Header, name)
		}
		k.record.Steps = append(k.record.Steps, explain.Step{
			Handler: "caddy", Result: explain.Passes,
			Reason: "the fields " + strings.Join(dropped, ", ") + " are dropped: see expected_underscore_headers and expected_dot_headers of the server",
		})
	}
	if strict := k.server.StrictSNIHost; strict != nil && *strict && r.TLS != nil && !strings.EqualFold(r.TLS.ServerName, hostOf(r)) {
		return k.refuse(http.StatusMisdirectedRequest, "the server has strict_sni_host, and the name in the TLS handshake is not the host")
	}
	return nil
}

// refuse records that the server itself refuses the request.
func (k *walk) refuse(status int, reason string) error {
	k.record.Steps = append(k.record.Steps, explain.Step{Handler: "caddy", Result: explain.Refuses, Status: status, Reason: reason})
	return caddyhttp.HandlerError{Err: errors.New(reason), StatusCode: status}
}

// refusal returns why the server refuses a request for its method or host, or 0.
func refusal(r *http.Request) (status int, reason string) {
	host := hostOf(r)
	switch {
	case len(r.Method) > maxMethod:
		return http.StatusMethodNotAllowed, "the method has more than 32 bytes"
	case r.Host == "":
		return http.StatusBadRequest, "the Host field is empty"
	case !httpguts.ValidHostHeader(r.Host) || host != "" && strings.Trim(host, ".") == "":
		return http.StatusBadRequest, "the Host field is invalid"
	}
	return 0, ""
}

// hostOf returns the host of a request without its port.
func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// drops reports whether the server drops a field that the request has so many lines of.
func drops(server *caddyhttp.Server, name string, lines int) bool {
	underscores, dots := server.ExpectedUnderscoreHeaders, server.ExpectedDotHeaders
	switch underscore, dot := strings.Contains(name, "_"), strings.Contains(name, "."); {
	case underscore && dot:
		return lines > 1 || !expects(underscores, name, false) && !expects(dots, name, false)
	case underscore:
		return lines > 1 || !expects(underscores, name, true)
	case dot:
		return lines > 1 || !expects(dots, name, true)
	}
	return expects(hyphenated(underscores, "_"), name, true) || expects(hyphenated(dots, "."), name, true)
}

// expects reports whether one of the entries is a field. Those that end in * are the
// beginnings of names.
func expects(entries []string, name string, beginnings bool) bool {
	return slices.ContainsFunc(entries, func(entry string) bool {
		entry, beginning := strings.CutSuffix(entry, "*")
		entry = http.CanonicalHeaderKey(entry)
		if beginning {
			return beginnings && strings.HasPrefix(name, entry)
		}
		return name == entry
	})
}

// hyphenated returns the entries as an application reads them.
func hyphenated(entries []string, separator string) []string {
	list := make([]string, len(entries))
	for i, entry := range entries {
		list[i] = strings.ReplaceAll(entry, separator, "-")
	}
	return list
}
