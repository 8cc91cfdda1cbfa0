package ratelimit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/servertest"
)

// handlersOf provisions a Caddyfile and returns its limits, which are detached
// from their zones when the test ends.
func handlersOf(t *testing.T, text string) ([]*Handler, error) {
	t.Helper()
	config, err := servertest.Adapt("{\nadmin off\nauto_https off\n}\n" + text)
	if err != nil {
		return nil, err
	}
	app, err := servertest.App(config)
	if err != nil {
		return nil, err
	}
	var handlers []*Handler
	var walk func(routes caddyhttp.RouteList)
	walk = func(routes caddyhttp.RouteList) {
		for _, route := range routes {
			for _, handler := range route.Handlers {
				switch h := handler.(type) {
				case *caddyhttp.Subroute:
					walk(h.Routes)
				case *Handler:
					handlers = append(handlers, h)
					t.Cleanup(func() { _ = h.Cleanup() })
				}
			}
		}
	}
	for _, server := range app.Servers {
		walk(server.Routes)
		if server.Errors != nil {
			walk(server.Errors.Routes)
		}
		for _, route := range server.NamedRoutes {
			walk(caddyhttp.RouteList{*route})
		}
	}
	return handlers, nil
}

// storedAs returns the names under which the directives of a Caddyfile keep their
// counters, by the limits of the directive and its option headers, which does not
// make it another.
func storedAs(t *testing.T, text string) map[string]string {
	t.Helper()
	handlers, err := handlersOf(t, text)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, h := range handlers {
		limit := strings.TrimSuffix(strings.Join(h.Limits, ",")+" "+h.Headers, " standard")
		if had, ok := names[limit]; ok && had != h.zone.id {
			t.Fatalf("%s has two names", limit)
		}
		names[limit] = h.zone.id
	}
	return names
}

// What is written elsewhere does not matter to the counters of a directive
// without a zone. The limits identify the directives here.
func TestUnnamedZonesDoNotMove(t *testing.T) {
	const was = ":8000 {\nratelimit /b 3/1h\nrespond ok\n}\n"
	name := storedAs(t, was)["3/1h"]
	for _, text := range []string{
		"# a comment\n\n" + was,
		":8000 {\nratelimit /a 5/1h\nratelimit /b 3/1h\nrespond other\n}\n",
		":8000 {\nhandle /b {\nratelimit 3/1h\n}\n}\n", // the same in other words
		":8000 {\nratelimit 5/1h\nratelimit /b 3/1h\nratelimit /c 7/1h\nrespond ok\n}\n",
		":8000 {\nratelimit {\nzone z\nlimit 5/1h\n}\nratelimit /b 3/1h\nrespond ok\n}\n",
		"http://a.test:8000 {\nratelimit /b 5/1h\n}\n" + was,
		":7000 {\nratelimit /a 5/1h\n}\n" + was,
		":9000 {\nratelimit 5/1h\n}\n" + was,
		"&(named) {\nratelimit /b 5/1h\n}\n" + was,
		":8001 {\nratelimit /b 3/1h\nrespond ok\n}\n", // a gateway that differs by its port
	} {
		if got := storedAs(t, text)["3/1h"]; got != name {
			t.Errorf("it moved to %s in\n%s", got, text)
		}
	}
}

// A limit that is changed goes on with its counters.
func TestUnnamedZonesOverAChangeOfLimits(t *testing.T) {
	const site = ":8000 {\nratelimit /b %s\nratelimit /c 7/1h\n}\n"
	was, is := storedAs(t, fmt.Sprintf(site, "3/1h")), storedAs(t, fmt.Sprintf(site, "4/1h"))
	if was["3/1h"] != is["4/1h"] || is["4/1h"] == is["7/1h"] {
		t.Errorf("%v became %v", was, is)
	}
	// Two with one key have counters of their own, in whatever order they stand.
	two := storedAs(t, ":8000 {\nratelimit /b 3/1h\nratelimit /b 4/1m\n}\n")
	turned := storedAs(t, ":8000 {\nratelimit /b 4/1m\nratelimit /b 3/1h\n}\n")
	if two["3/1h"] == two["4/1m"] || two["3/1h"] != turned["3/1h"] || two["4/1m"] != turned["4/1m"] {
		t.Errorf("%v became %v", two, turned)
	}
}

// Directives that are not the same have counters of their own, whatever was
// written before or after them.
func TestUnnamedZonesAreApart(t *testing.T) {
	const was = ":8000 {\nratelimit /b 3/1h\nrespond ok\n}\n"
	name := storedAs(t, was)["3/1h"]
	for _, text := range []string{
		":8000 {\nratelimit /a 3/1h\n}\n",
		":8000 {\nratelimit 3/1h\n}\n",
		":8000 {\nratelimit /b 3/1h {\nkey {header.X}\n}\n}\n",
		":8000 {\nratelimit /b 3/1h {\ncount status 401\n}\n}\n",
		":8000 {\nhandle /a {\nratelimit /b 3/1h\n}\n}\n",
		":8000 {\n@b not path /b\nratelimit @b 3/1h\n}\n",
		"http://a.test:8000 {\nratelimit /b 3/1h\n}\n",
		":8000 {\nbind 127.0.0.1\nratelimit /b 3/1h\n}\n",
	} {
		for limit, got := range storedAs(t, text) {
			if got == name {
				t.Errorf("%s has the counters of another in\n%s", limit, text)
			}
		}
	}
	for _, text := range []string{
		":8000 {\nratelimit /b %s\nratelimit /b %s\n}\n",
		"http://a.test:8000 {\nratelimit /b %s\n}\nhttp://b.test:8000 {\nratelimit /b %s\n}\n",
		":8000 {\nratelimit /b %s\n}\n:9000 {\nratelimit /b %s\n}\n",
		":8000 {\nhandle /x {\nratelimit %s\n}\nhandle /y {\nratelimit %s\n}\n}\n",
	} {
		names := storedAs(t, fmt.Sprintf(text, "3/1h", "3/1h {\nheaders off\n}"))
		if len(names) != 2 || names["3/1h"] == names["3/1h off"] {
			t.Errorf("%v in\n%s", names, text)
		}
	}
}

// One directive of a site with several listeners counts all its clients
// together.
func TestUnnamedZonesOfOneSite(t *testing.T) {
	if got := storedAs(t, ":8000, :9000 {\nratelimit 3/1h\n}\n"); len(got) != 1 {
		t.Errorf("%v", got)
	}
	// What answers call them is not moved by named routes either.
	names := storedAs(t, "&(named) {\nratelimit 5/1h\n}\n:8000 {\nratelimit 3/1h\ninvoke named\n}\n")
	if names["3/1h"] == names["5/1h"] {
		t.Errorf("%v", names)
	}
}

// The counters of a running gateway stay with their directive over a reload that
// writes another above.
func TestServerUnnamedZones(t *testing.T) {
	g := startGateway(t, "ratelimit /b 3/1h\nhandle /n/* {\nratelimit 2/1h\n}")
	if codes := g.statuses(4, "/b"); count(codes, 200) != 3 {
		t.Fatalf("/b: %v", codes)
	}
	if codes := g.statuses(3, "/n/x"); count(codes, 200) != 2 {
		t.Fatalf("/n/x: %v", codes)
	}
	if err := g.load("ratelimit /a 3/1h\nratelimit /b 3/1h\nhandle /m/* {\nratelimit 2/1h\n}\nhandle /n/* {\nratelimit 2/1h\n}"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/a": 3, "/b": 0, "/m/x": 2, "/n/x": 0} {
		if codes := g.statuses(4, path); count(codes, 200) != want {
			t.Errorf("%s: %v, want %d admitted", path, codes, want)
		}
	}
	// They are known to the admin API by what answers call them.
	if resp := g.get("/a"); !strings.Contains(resp.Header.Get("RateLimit"), `"default`) {
		t.Errorf("RateLimit: %s", resp.Header.Get("RateLimit"))
	}
	if code, body := adminRequest(t, "GET", "/tentagate/ratelimit/default-2/127.0.0.1"); code != 200 || !strings.Contains(body, `"zone": "default-2"`) {
		t.Errorf("%d %s", code, body)
	}
}
