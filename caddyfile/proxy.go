package caddyfile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// envHeaderTimeout is the variable with the response header timeout.
const envHeaderTimeout = "RESPONSE_HEADER_TIMEOUT"

// defaultHeaderTimeout is how long a service may take until its answer begins.
const defaultHeaderTimeout = 60 * time.Second

// upstreamRules are the rules of the circuits for the addresses of a service with
// several. Only an address that cannot be reached or does not answer is excluded: an
// error status is mostly the same at every address. No fault of a client counts.
var upstreamRules = []statement{
	words("failure", "transport", "timeout"), words("consecutive", "3"), words("open_for", "10s", "max", "1m"),
}

// headerTimeout reads `60s` and `off`.
func headerTimeout(text string) (time.Duration, error) {
	if parse.IsOff(text) {
		return 0, nil
	}
	d, err := caddy.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, parse.OrOff("%q is not a duration such as 60s or 5m", text)
	}
	return d, nil
}

// proxy returns the reverse_proxy directive of a service.
func (g *gateway) proxy(s *service) caddyfile.Segment {
	proxy := statement{words: append([]string{"reverse_proxy"}, s.upstreams...)}
	given := map[string]bool{}
	options := make([]caddyfile.Segment, len(s.options))
	ours := true // whether the transport is ours
	for i, option := range s.options {
		name := option.Directive()
		given[name] = true
		switch name {
		case "transport":
			options[i], ours = g.transport(s, option)
		default:
			options[i] = option
		}
	}
	if !given["transport"] {
		option, _ := g.transport(s, words("transport", "tentagate").segment())
		options = slices.Insert(options, 0, option)
	}
	if s.discovered {
		proxy.block = append(proxy.block, s.discovery()...)
	}
	if s.several() {
		if ours {
			options = balanced(options, given)
		}
		if !given["lb_retries"] {
			proxy.block = append(proxy.block, words("lb_retries", "1"))
		}
	}
	return withBlock(proxy.segment(), options...)
}

// transport completes the transport of a service. The options of `transport
// http` are options of `transport tentagate` too, so that one becomes the other
// and keeps the defaults that are not written. Another transport stays as it is;
// the second result is then false.
func (g *gateway) transport(s *service, written caddyfile.Segment) (caddyfile.Segment, bool) {
	args := argsOf(written)
	if len(args) != 1 || args[0] != "http" && args[0] != "tentagate" {
		return written, false
	}
	segment := slices.Clone(written)
	segment[1].Text = "tentagate"
	var standard []statement
	if g.headerTimeout > 0 {
		standard = append(standard, words("response_header_timeout", g.headerTimeout.String()))
	}
	if s.several() {
		standard = append(standard, statement{words: []string{"breaker", g.stateName(s.name)}, block: upstreamRules})
	}
	if host, secure := s.secureName(); secure {
		standard = append(standard, words("tls_server_name", host))
	}
	given := optionsOf(segment)
	for _, l := range linesOf(segment) {
		if l.Directive() == "response_header_timeout" && len(l.Segment) == 2 && l.Segment[1].Text == off {
			segment = replaceLine(segment, l, nil)
		}
	}
	return withDefaults(segment, given, standard...), true
}

// balanced makes the policy of a service leave out the addresses whose circuit
// is open, as long as there is another one.
func balanced(options []caddyfile.Segment, given map[string]bool) []caddyfile.Segment {
	const share = "99%"
	standard := statement{words: []string{"lb_policy", "available", "round_robin"}, block: []statement{words("max_ejection", share)}}
	if !given["lb_policy"] {
		return append(options, standard.segment())
	}
	for i, option := range options {
		args := argsOf(option)
		if option.Directive() != "lb_policy" || len(args) == 0 || args[0] == "available" {
			continue
		}
		available := option[1]
		available.Text = "available"
		options[i] = withBlock(slices.Insert(slices.Clone(option), 1, available), words("max_ejection", share).segment())
	}
	return options
}

// completeTimeout finds how long services may take until their answer begins.
func (g *gateway) completeTimeout() (err error) {
	if g.headerTimeoutText != "" {
		return nil // checked where it is written
	}
	if err := noBlanks(envHeaderTimeout); err != nil {
		return err
	}
	if g.headerTimeout, err = headerTimeout(cmp.Or(getenv(envHeaderTimeout), defaultHeaderTimeout.String())); err != nil {
		return fmt.Errorf("%s: %w", envHeaderTimeout, err)
	}
	return nil
}
