package caddyfile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/ratelimit"
)

// limits bound what a client may request, authenticated or not: they are checked
// before the token. Zero means no bound.
type limits struct {
	maxBody     int64         // bytes of a request's body
	bodyTimeout time.Duration // for which a body may stall
	bodyRate    int64         // bytes per second that it must have on average
	inFlight    int           // requests of an address at once
	refusals    string        // 401s and 403s of an address
}

// bound is an option of limits.
type bound struct {
	option, variable, standard string
	read                       func(l *limits, text string) error
}

// streamTimeout is how long a stream may be silent that a client sends: a gRPC
// call, or a WebSocket over HTTP/2.
const streamTimeout = "1h"

var bounds = []bound{
	{"max_body_size", "MAX_BODY_SIZE", "1GiB", func(l *limits, text string) error {
		n, err := humanize.ParseBytes(text)
		if l.maxBody = int64(min(n, math.MaxInt64)); err != nil {
			return parse.OrOff("%q is not a size such as 512KiB or 1GiB", text)
		}
		return parse.NeedsUnit(text, l.maxBody)
	}},
	{"body_timeout", "BODY_TIMEOUT", "60s", func(l *limits, text string) (err error) {
		if l.bodyTimeout, err = caddy.ParseDuration(text); err != nil || l.bodyTimeout < 0 {
			return parse.OrOff("%q is not a duration such as 30s or 1m", text)
		}
		return nil
	}},
	{"body_rate", "BODY_RATE", "100", func(l *limits, text string) (err error) {
		n, err := humanize.ParseBytes(text)
		if l.bodyRate = int64(min(n, math.MaxInt64)); err != nil {
			return parse.OrOff("%q is not a number of bytes per second, such as 100 or 1KB", text)
		}
		return nil
	}},
	{"in_flight", "MAX_IN_FLIGHT", "1000", func(l *limits, text string) (err error) {
		if l.inFlight, err = strconv.Atoi(text); err != nil || l.inFlight < 0 || l.inFlight > ratelimit.MaxCount {
			return parse.OrOff("%q is not a number of requests, such as 1000", text)
		}
		return nil
	}},
	{"refusals", "REFUSAL_LIMIT", "100/1m", func(l *limits, text string) (err error) {
		l.refusals, err = ratelimit.ParseLimit(text)
		return err
	}},
}

// set reads a text, or `off`.
func (b *bound) set(l *limits, text string) error {
	if parse.IsOff(text) {
		switch b.option {
		case "refusals":
			l.refusals = ""
		default:
			return b.read(l, "0")
		}
		return nil
	}
	return b.read(l, text)
}

// unmarshalLimits reads the block of limits.
func (g *gateway) unmarshalLimits(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	g.bounded = map[string]string{}
	if len(args) == 1 {
		if args[0] != off {
			return d.WrapErr(parse.Mend("limits: unexpected argument %q: it takes off or a block", args[0]))
		}
		for _, b := range bounds {
			g.bounded[b.option] = off
		}
		return noBlock(d, "limits off")
	}
	var options []parse.Option
	for _, b := range bounds {
		options = append(options, parse.Value(b.option, new(string), func(text string) (string, error) {
			g.bounded[b.option] = text
			return text, b.set(new(limits), text)
		}))
	}
	head := parse.Head(d)
	if err := parse.Block(d, options...); err != nil {
		return err
	}
	if len(g.bounded) == 0 {
		return head.Err("limits: missing value: it takes off or a block")
	}
	return nil
}

// limits returns the bounds that are written, those of the environment, or the
// defaults. Without limits for clients there are none for addresses either.
func (g *gateway) limits() (l limits, err error) {
	for _, b := range bounds {
		if text, written := g.bounded[b.option]; written {
			_ = b.set(&l, text) // it was checked where it stands
			continue
		}
		if err := noBlanks(b.variable); err != nil {
			return l, err
		}
		text, from := b.standard, b.option
		if value := getenv(b.variable); value != "" {
			text, from = value, b.variable
		} else if f := g.features["ratelimit"]; f != nil && f.off && (b.option == "in_flight" || b.option == "refusals") {
			continue
		}
		if err := b.set(&l, text); err != nil {
			return l, fmt.Errorf("%s: %w", from, err)
		}
	}
	return l, nil
}

// bodies returns the handlers that bound the bodies of requests, for requests
// that have one. Streams have no size and may be silent.
func (g *gateway) bodies(e *expansion, l limits) caddyhttp.RouteList {
	streams := []caddy.ModuleMap{{"method": caddyconfig.JSON(caddyhttp.MatchMethod{"CONNECT"}, nil)}}
	var grpc []string
	for _, s := range g.services {
		if strings.HasPrefix(s.upstreams[0], "h2c:") {
			grpc = append(grpc, apiPath+s.name+"/*")
		}
	}
	if len(grpc) > 0 {
		matcher := paths(grpc...)
		matcher["header"] = caddyconfig.JSON(map[string][]string{"Content-Type": {"application/grpc*"}}, nil)
		streams = append(streams, matcher)
	}
	var body []caddyfile.Segment
	if l.maxBody > 0 {
		body = append(body, statement{words: []string{"request_body"}, block: []statement{words("max_size", strconv.FormatInt(l.maxBody, 10))}}.segment())
	}
	var routes caddyhttp.RouteList
	if l.bodyTimeout > 0 {
		timeout := words("read_timeout", l.bodyTimeout.String())
		if l.bodyRate > 0 {
			timeout.words = append(timeout.words, strconv.FormatInt(l.bodyRate, 10))
		}
		body = append(body, statement{words: []string{"timeouts"}, block: []statement{timeout}}.segment())
		routes = e.chain(statement{words: []string{"timeouts"}, block: []statement{words("read_timeout", streamTimeout)}}.segment())
		for i := range routes {
			routes[i].MatcherSetsRaw = streams
		}
	}
	bounded := e.chain(body...)
	for i := range bounded {
		bounded[i].MatcherSetsRaw = []caddy.ModuleMap{{"has_body": caddyconfig.JSON(HasBody{}, nil), "not": caddyconfig.JSON(streams, nil)}}
	}
	return append(routes, bounded...)
}

// addresses returns the limits of each client address that count before a token
// is looked at.
func (g *gateway) addresses(l limits) []caddyfile.Segment {
	block := []statement{words("zone", g.zoneName("addresses")), words("headers", "off")}
	if l.refusals != "" {
		block = append(block, words(append([]string{"limit"}, strings.Fields(l.refusals)...)...), words("count", "after", "401", "403"))
	}
	if l.inFlight > 0 {
		block = append(block, words("max_concurrent", strconv.Itoa(l.inFlight)))
	}
	if len(block) == 2 {
		return nil
	}
	return []caddyfile.Segment{statement{words: []string{"ratelimit"}, block: block}.segment()}
}

// maxZone is the length that the name of a zone may have.
const maxZone = 64

// zoneName returns the name of a zone of the site.
func (g *gateway) zoneName(what string) string {
	if g.site == "" && len(what) <= maxZone {
		return what
	}
	if name := what + "." + g.site; len(name) <= maxZone {
		return name
	}
	sum := sha256.Sum256([]byte(what + "." + g.site))
	return what[:min(len(what), maxZone/2)] + "." + hex.EncodeToString(sum[:8])
}
