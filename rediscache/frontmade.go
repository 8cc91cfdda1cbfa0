package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
)

// frontMade are the placeholders by which handlers in front of the cache, `vars` and
// `map`, tell requests apart. A service that gets them in a field may answer these
// differently, and what they were made of may be gone when the cache is reached.
type frontMade struct {
	// credentials are made of what identifies the client.
	credentials []string
	// chosen have values that the operator wrote, also into a file, or are made of what
	// the options of `key` leave out or name.
	chosen []string
	// sources are the placeholders that credentials are made of.
	sources map[string][]string
}

// origin is what a text of the configuration is made of.
type origin struct {
	credential bool // something that identifies the client
	chosen     bool // a value of frontMade.chosen, a file, or what the options of `key` leave out or name
	constant   bool // nothing of a request

	sources []string // the placeholders that are not constant
}

// findFrontMade reads the handlers in front.
func (c *chains) findFrontMade(before []caddyhttp.MiddlewareHandler) *frontMade {
	made := &frontMade{sources: map[string][]string{}}
	eachMade(before, func() int { return len(made.credentials) + len(made.chosen) }, func(name string, value any) {
		text, ok := value.(string)
		c.add(made, name, c.originOf(made, text), ok)
	}, func(name string, h *maphandler.Handler) {
		c.add(made, name, c.originOfMap(made, h), true)
	})
	slices.Sort(made.credentials)
	slices.Sort(made.chosen)
	return made
}

// add notes a placeholder. What `key value` names is part of the key, and no credential.
func (c *chains) add(m *frontMade, name string, of origin, isText bool) {
	if of.credential && slices.Contains(c.keyValues, name) {
		of = origin{chosen: true}
	}
	if of.credential {
		m.sources[name] = append(m.sources[name], of.sources...)
	}
	switch {
	case of.credential && !slices.Contains(m.credentials, name):
		m.credentials = append(m.credentials, name)
	case !of.credential && (of.constant || of.chosen || !isText) && !slices.Contains(m.chosen, name):
		m.chosen = append(m.chosen, name)
	}
}

// originOf reads the placeholders of a text.
func (c *chains) originOf(made *frontMade, text string) (of origin) {
	of.constant = true
	for _, name := range resolve.Placeholders(text) {
		if strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "system.") {
			continue
		}
		of.constant = false
		if sources := made.sources[name]; sources != nil {
			of.sources = append(of.sources, sources...)
		} else {
			of.sources = append(of.sources, name)
		}
		if strings.HasPrefix(name, "file.") {
			of.chosen = true // Caddy reads the file for each request
			continue
		}
		credential, keyed := c.identifies(name)
		of.credential = of.credential || credential || slices.Contains(made.credentials, name)
		of.chosen = of.chosen || keyed || slices.Contains(made.chosen, name)
	}
	return of
}

// originOfMap is that of the outputs of a map. They are the operator's words, whatever
// the source is, unless they take parts of it.
func (c *chains) originOfMap(made *frontMade, h *maphandler.Handler) origin {
	of := origin{chosen: true}
	outputs := func(texts []string, captures bool) {
		for _, text := range texts {
			one := c.originOf(made, text)
			of.credential = of.credential || one.credential || captures && strings.Contains(text, "$")
			of.sources = append(of.sources, one.sources...)
		}
	}
	from := c.originOf(made, h.Source)
	of.sources = append(of.sources, from.sources...)
	outputs(h.Defaults, false)
	for _, mapping := range h.Mappings {
		for _, output := range mapping.Outputs {
			if text, ok := output.(string); ok {
				outputs([]string{text}, from.credential && mapping.InputRegexp != "")
			}
		}
	}
	return of
}

// identifies reports whether a placeholder has what identifies the client, and whether
// it is something that the options of `key` leave out or name: it may be gone, or be
// another one, when the cache is reached.
func (c *chains) identifies(name string) (credential, keyed bool) {
	if field, ok := strings.CutPrefix(name, "http.request.header."); ok {
		field = http.CanonicalHeaderKey(field)
		switch {
		case slices.Contains(c.keyHeaders, field):
			return false, true
		case field == "Cookie":
			return !c.keyCookies, c.keyCookies
		}
		return field == "Authorization" || c.isCredential(field), false
	}
	if strings.HasPrefix(name, "http.request.cookie.") {
		return !c.keyCookies, c.keyCookies
	}
	if strings.HasPrefix(name, answerPrefix) {
		return true, false
	}
	ofURL := strings.HasPrefix(name, "http.request.uri") || strings.HasPrefix(name, "http.request.orig_uri")
	return false, ofURL && c.dropsQuery
}

// answerPrefix is how placeholders begin of the fields with which another service has
// answered that was asked about the request, as `forward_auth` does.
const answerPrefix = "http.reverse_proxy.header."

// isAnswer reports whether placeholders have nothing but such fields.
func isAnswer(placeholders []string) bool {
	return !slices.ContainsFunc(placeholders, func(name string) bool { return !strings.HasPrefix(name, answerPrefix) })
}

// credentialsBehind returns the placeholders that name the client, or of which handlers
// behind make what names it to a service: its Authorization, an API key. Those that
// count already, or have values of the operator, are left out.
func (c *chains) credentialsBehind(ch *chain, made *frontMade) (names []string) {
	add := func(name string) {
		credential, keyed := c.identifies(name)
		switch {
		case credential && !strings.HasPrefix(name, answerPrefix), keyed, slices.Contains(names, name),
			slices.Contains(made.credentials, name), slices.Contains(made.chosen, name), slices.Contains(c.keyValues, name), ch.reads.Decides(name),
			strings.HasPrefix(name, "http.auth."), strings.HasPrefix(name, "http.request.tls."), // which say who it is themselves
			strings.HasPrefix(name, "http.request.remote"), name == "http.vars.client_ip":
		default:
			names = append(names, name)
		}
	}
	if ch.proxies {
		for _, name := range ch.placeholders {
			if strings.HasPrefix(name, answerPrefix) {
				add(name)
			}
		}
	}
	ch.reads.EachMade(func(field string, of []string) {
		if field == "Authorization" || field == "Cookie" && !c.keyCookies || c.isCredential(field) {
			for _, name := range of {
				add(name)
			}
		}
	})
	return names
}

// constant is a request field for which handlers in front have fixed values.
type constant struct {
	name   string
	values []string
}

// inKeyOrPrivate reports whether a field is in the key already, or says who asks.
func inKeyOrPrivate(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return name == "Host" || name == "Authorization" || name == "Cookie"
}

// addConstant notes a fixed value. Not every request may get it.
func (ch *chain) addConstant(name, value string) {
	if name = http.CanonicalHeaderKey(name); inKeyOrPrivate(name) {
		return
	}
	value = caddy.NewReplacer().ReplaceKnown(value, "")
	i := slices.IndexFunc(ch.constants, func(c constant) bool { return c.name == name })
	if i < 0 {
		i = len(ch.constants)
		ch.constants = append(ch.constants, constant{name: name})
	}
	if !slices.Contains(ch.constants[i].values, value) {
		ch.constants[i].values = append(ch.constants[i].values, value)
	}
}

// appendConstants appends which of the fixed values the request has.
func (ch *chain) appendConstants(b []byte, header http.Header) []byte {
	for _, c := range ch.constants {
		for _, value := range c.values {
			if slices.Contains(header[c.name], value) {
				b = cachekey.AppendPart(cachekey.AppendPart(append(b, 'o'), c.name), value)
			}
		}
	}
	return b
}

// madeCredentials calls f with the credentials that the request has in fields and
// variables of handlers in front, until it returns false.
func (ch *chain) madeCredentials(r *http.Request, f func(name, value string) bool) {
	for _, name := range ch.credentialFields {
		if value := strings.Join(r.Header[name], "\x00"); value != "" && !ch.isStatic(name, r.Header[name]) && !f(name, value) {
			return
		}
	}
	if len(ch.credentialVars) == 0 {
		return
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl == nil {
		return
	}
	for _, name := range ch.credentialVars {
		if value, _ := repl.GetString(name); value != "" && !f(name, value) {
			return
		}
	}
}

// hasMadeCredentials reports whether there is one.
func (ch *chain) hasMadeCredentials(r *http.Request) (has bool) {
	ch.madeCredentials(r, func(string, string) bool { has = true; return false })
	return has
}
