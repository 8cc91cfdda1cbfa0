package rediscache

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Zero and `off` switch an option off, also after the way through JSON, or the
// error says what to write.
func TestZeroAndOff(t *testing.T) {
	off := map[string]func(*Handler) bool{
		"ttl %":                     func(h *Handler) bool { return h.TTL == 0 },
		"ttl 404 %":                 func(h *Handler) bool { return h.ttl(404) == 0 },
		"stale_while_revalidate %":  func(h *Handler) bool { return h.policy.StaleWhileRevalidate == 0 },
		"stale_if_error %":          func(h *Handler) bool { return h.policy.StaleIfError == 0 },
		"stale_when_disconnected %": func(h *Handler) bool { return h.StaleWhenDisconnected == 0 },
		"collapse_timeout %":        func(h *Handler) bool { return h.CollapseTimeout == 0 },
		"fill_timeout %":            func(h *Handler) bool { return h.FillTimeout == 0 },
		"hit_for_miss %":            func(h *Handler) bool { return h.HitForMiss == 0 },
		"jitter %":                  func(h *Handler) bool { return h.Jitter == 0 },
	}
	words := map[string]func(*Handler) bool{
		"tags off":          func(h *Handler) bool { return len(h.Tags) == 0 },
		"targets off":       func(h *Handler) bool { return len(h.Targets) == 0 },
		"lease off":         func(h *Handler) bool { return !h.Lease },
		"compress off":      func(h *Handler) bool { return !h.Compress },
		"early_refresh off": func(h *Handler) bool { return !h.EarlyRefresh },
		"store_cors off":    func(h *Handler) bool { return !h.StoreCORS },
		"match_type off":    func(h *Handler) bool { return !h.MatchType },
		"cache_status off":  func(h *Handler) bool { return h.CacheStatus == statusOff },
		"jitter 0%":         func(h *Handler) bool { return h.Jitter == 0 },
	}
	for line, is := range off {
		for _, zero := range []string{"0", "0s", "off"} {
			if zero == "0s" && line == "jitter %" {
				continue
			}
			words[strings.Replace(line, "%", zero, 1)] = is
		}
	}
	for line, is := range words {
		parsed := new(Handler)
		if err := parsed.UnmarshalCaddyfile(caddyfile.NewTestDispenser("http_cache {\nprofile rfc9111\n" + line + "\n}")); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		h := new(Handler)
		if err := json.Unmarshal(caddyconfig.JSON(parsed, nil), h); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		err := h.Provision(ctx)
		if err != nil || !is(h) {
			t.Errorf("%s: not off, %v", line, err)
		}
		cancel()
		_ = h.Cleanup()
	}
	for line, want := range map[string]string{
		"http_cache on":                                 "it takes a ttl such as 60s",
		"http_cache {\ntags on\n}":                      `tags: "on": it is on by default`,
		"http_cache {\ntargets true\n}":                 `targets: "true": it is on by default`,
		"http_cache off":                                "without the directive nothing is stored",
		"http_cache {\nmemory 0\n}":                     "store redis",
		"http_cache {\nmemory off\n}":                   "store redis",
		"http_cache {\nmemory 64\n}":                    "64MiB",
		"http_cache {\nmemory 1000\n}":                  "write a unit",
		"http_cache {\nmemory 64KiB\n}":                 "memory: 64KiB is too small: at least 1MiB",
		"http_cache {\nmax_object_size 5B\n}":           "max_object_size: 5B is too small: at least 1KiB",
		"http_cache {\nkey {\nbody 9B\n}\n}":            "body: 9B is too small: at least 1KiB",
		"http_cache {\npurge_method off\n}":             "leave the line out",
		"http_cache {\nmax_object_size 0\n}":            "bypass",
		"http_cache {\nmax_object_size 5\n}":            "5MiB",
		"http_cache {\nmax_variants 0\n}":               "from 1 to 1000",
		"http_cache {\nmax_error_ttl 0s\n}":             "above zero",
		"http_cache {\nbypass {\n/live/*\n}\n}":         "path /live/*",
		"http_cache {\nbypass { /live/* }\n}":           "path /live/*",
		"http_cache {\nbypass {\n@live\n}\n}":           "bypass @live",
		"http_cache {\nbypass {\nlive\n}\n}":            `"live" is not a matcher`,
		"http_cache {\nbypass live\n}":                  "accepted are /path, @name",
		"http_cache {\nbypass *\n}":                     "everything would pass",
		"http_cache {\nbypass\n}":                       "no matchers",
		"http_cache {\nbypass {\n}\n}":                  "no matchers",
		"http_cache {\nlease more\n}":                   "it takes none, or off",
		"http_cache {\nstale_while_revalidate minus\n}": "; to disable it, write off",
		"http_cache {\njitter 0.1\n}":                   "percentage",
		"http_cache {\nhit_for_miss 2\n}":               "; to disable it, write off",
		"http_cache {\nttl 60\n}":                       "; to disable it, write off",
	} {
		if err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", line, err, want)
		}
	}
	for want, h := range map[string]*Handler{
		"off: \"x\": accepted are": {Off: []string{"x"}},
		"the option is also set":   {Off: []string{"tags"}, Tags: []string{"A"}},
		"lease: needs":             {Off: []string{"collapse_timeout"}, Lease: true},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := h.Provision(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		cancel()
		_ = h.Cleanup()
	}
}

// Without collapse_timeout requests do not wait for each other.
func TestNoCollapsing(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache 60s {\n collapse_timeout off\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
		if n == 1 {
			s.hold()
		}
		_, _ = io.WriteString(w, "x")
	})
	first := make(chan struct{})
	go func() {
		defer close(first)
		s.get("/")
	}()
	s.wantAsked(1)
	s.get("/")
	s.release()
	<-first
	s.wantAsked(2)
}

// Without fill_timeout a request to the service ends with its last reader.
func TestNoFillTimeout(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	s := startSite(t, "http_cache 60s {\n fill_timeout 0\n}", func(w http.ResponseWriter, r *http.Request, _ int64) {
		_ = http.NewResponseController(w).Flush()
		close(entered)
		<-r.Context().Done()
		close(ended)
	})
	resp := s.open("/", 0)
	<-entered
	_ = resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the request to the service goes on")
	}
}

// Several bypasses: any of them will do, and within a block all matchers must fit.
func TestBypassAnyOf(t *testing.T) {
	g := newGateway(t, "http_cache 60s {\n bypass /live/* /now\n bypass {\n path /part/*\n query fresh=1\n}\n bypass {\n header X-Preview *\n}\n}", says())
	for path, passes := range map[string]bool{"/live/a": true, "/now": true, "/part/a?fresh=1": true, "/part/a": false, "/a?fresh=1": false, "/a": false} {
		g.send("GET", path)
		asked := g.asked.Load()
		if g.send("GET", path); (g.asked.Load() > asked) != passes {
			t.Errorf("%s: passes %v", path, !passes)
		}
	}
	asked := g.asked.Load()
	if g.send("GET", "/a", "X-Preview", "1"); g.asked.Load() == asked {
		t.Error("the second block does not count")
	}
}
