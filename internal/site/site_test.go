package site

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/pythopus/tentagate/internal/servertest"
)

// probe is a handler that has a place.
type probe struct {
	Label    string              `json:"label,omitempty"`
	Option   string              `json:"option,omitempty"`
	Position string              `json:"position,omitempty"`
	Inner    caddyhttp.RouteList `json:"inner,omitempty"`

	finder *Finder
}

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.site_probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) Provision(ctx caddy.Context) error {
	p.finder = NewFinder(ctx, p)
	return p.Inner.Provision(ctx)
}

func (p *probe) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	w.Header().Add("Place", p.Label+"="+string(p.finder.Place(r).AppendName(nil, r)))
	if p.Label == "inner" {
		return p.Inner.Compile(next).ServeHTTP(w, r)
	}
	return next.ServeHTTP(w, r)
}

func init() {
	caddy.RegisterModule(&probe{})
	httpcaddyfile.RegisterHandlerDirective("probe", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		p := &probe{Position: fmt.Sprint("Caddyfile:", h.Line())}
		h.Args(&p.Label, &p.Option)
		return p, nil
	})
	httpcaddyfile.RegisterHandlerDirective("inner", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		sub, err := httpcaddyfile.ParseSegmentAsSubroute(h)
		if err != nil {
			return nil, err
		}
		return &probe{Label: "inner", Inner: sub.(*caddyhttp.Subroute).Routes}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("probe", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("inner", httpcaddyfile.Before, "handle")
}

// config is a configuration that was loaded.
type config struct {
	t   testing.TB
	app *caddyhttp.App
}

func load(t testing.TB, caddyfile string) config {
	t.Helper()
	text, err := servertest.Adapt("{\n\tadmin off\n\tauto_https off\n}\n" + caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	return loadJSON(t, text)
}

func loadJSON(t testing.TB, text []byte) config {
	t.Helper()
	app, err := servertest.App(text)
	if err != nil {
		t.Fatal(err)
	}
	return config{t, app}
}

// get asks the server that listens at the port for a URL, and returns the places
// that the request came through.
func (c config) get(port int, url string, change ...func(*http.Request)) string {
	c.t.Helper()
	for _, server := range c.app.Servers {
		for _, s := range socketsOf(server) {
			if uint(port) < s.StartPort || uint(port) > s.EndPort {
				continue
			}
			r := httptest.NewRequest(http.MethodGet, url, nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})))
			for _, f := range change {
				f(r)
			}
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			places := w.Header()["Place"]
			if len(places) == 0 {
				c.t.Fatalf("%s: no place: %d", url, w.Code)
			}
			return strings.Join(places, " ")
		}
	}
	c.t.Fatalf("nobody listens at %d", port)
	return ""
}

func differ(t testing.TB, what, a, b string) {
	t.Helper()
	if a == b {
		t.Errorf("%s: both are %s", what, a)
	}
}

func same(t testing.TB, what, a, b string) {
	t.Helper()
	if a != b {
		t.Errorf("%s: %s and %s", what, a, b)
	}
}

func TestServersAreApart(t *testing.T) {
	for name, sites := range map[string][2]string{
		"another backend":      {"http://:8000 {\n%s\nreverse_proxy 127.0.0.1:1\n}", "http://:9000 {\n%s\nreverse_proxy 127.0.0.1:2\n}"},
		"another host":         {"http://:8000 {\n%s\nreverse_proxy 127.0.0.1:1\n}", "http://localhost:9000 {\n%s\nreverse_proxy 127.0.0.1:1\n}"},
		"another address":      {"http://:8000 {\n%s\nreverse_proxy 127.0.0.1:1\n}", "http://:9000 {\nbind 127.0.0.1\n%s\nreverse_proxy 127.0.0.1:1\n}"},
		"alike but for a port": {"http://:8000 {\n%s\nreverse_proxy 127.0.0.1:1\n}", "http://:9000 {\n%s\nreverse_proxy 127.0.0.1:1\n}"},
		"another guard":        {"http://:8000 {\nbasic_auth {\nbob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n%s\nreverse_proxy 127.0.0.1:1\n}", "http://:9000 {\n%s\nreverse_proxy 127.0.0.1:1\n}"},
		"another option":       {"http://:8000 {\n%s 1\nreverse_proxy 127.0.0.1:1\n}", "http://:9000 {\n%s 2\nreverse_proxy 127.0.0.1:1\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			caddyfile := fmt.Sprintf(sites[0], "probe p") + "\n" + fmt.Sprintf(sites[1], "probe p")
			c := load(t, strings.ReplaceAll(caddyfile, "basic_auth", "@auth header X-Auth 1\nbasic_auth @auth"))
			differ(t, "two servers", c.get(8000, "http://localhost:9000/"), c.get(9000, "http://localhost:9000/"))
		})
	}
}

func TestPlacesOfASiteAreApart(t *testing.T) {
	for name, tc := range map[string]struct {
		site   string
		change func(*http.Request)
	}{
		"remote_ip":                  {"@office remote_ip 10.0.0.0/8\nhandle @office {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nhandle {\nprobe p\nreverse_proxy 127.0.0.1:1\n}", func(r *http.Request) { r.RemoteAddr = "10.1.2.3:4" }},
		"header":                     {"@vip header X-Vip 1\nhandle @vip {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nhandle {\nprobe p\nreverse_proxy 127.0.0.1:1\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
		"named route":                {"@vip header X-Vip 1\nhandle @vip {\nrequest_header X-Role internal\ninvoke app\n}\nhandle {\ninvoke app\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
		"named route, path stripped": {"@vip header X-Vip 1\nhandle_path /api/* {\nhandle @vip {\nrequest_header X-Role internal\ninvoke app\n}\nhandle {\ninvoke app\n}\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
		"expression":                 {"@vip `{header.X-Vip} == \"1\"`\nroute @vip {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nroute {\nprobe p\nreverse_proxy 127.0.0.1:1\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
		"not":                        {"@vip not header X-Vip 1\nroute @vip {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nroute {\nprobe p\nreverse_proxy 127.0.0.1:1\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
		"regexp":                     {"@vip header_regexp X-Vip ^1$\nroute @vip {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n@no header_regexp X-Vip ^2$\nroute @no {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nroute {\nprobe p\nreverse_proxy 127.0.0.1:1\n}", func(r *http.Request) { r.Header.Set("X-Vip", "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			text := "&(app) {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nhttp://:8000 {\n" + tc.site + "\n}"
			c, again := load(t, text), load(t, strings.ReplaceAll(text, "8000", "8111"))
			plain, other := c.get(8000, "http://a.test/api/x"), c.get(8000, "http://a.test/api/x", tc.change)
			differ(t, "two places", plain, other)
			same(t, "a replica", plain, again.get(8111, "http://a.test/api/x"))
			same(t, "a replica", other, again.get(8111, "http://a.test/api/x", tc.change))
		})
	}
}

// What is elsewhere in the file, and where in the file a site is, does not
// matter.
func TestStable(t *testing.T) {
	const site = "{\n@m {\nheader X-A 1\nheader X-B 2\nheader X-C 3\nvars {http.request.uri.query.a} 1 {http.request.uri.query.b} 2\n}\nhandle @m {\nprobe m\nreverse_proxy 127.0.0.1:3\n}\nprobe p\nreverse_proxy 127.0.0.1:1 {\nheader_up X-1 1\nheader_up X-2 2\nheader_up X-3 3\n}\n}\n"
	for _, address := range []string{"http://:8000", "http://app.test:8000", "http://:8000, http://:8001"} {
		first := load(t, address+" "+site).get(8000, "http://app.test:8000/")
		for _, change := range []string{
			"%s%s",
			"# a comment\n\n\n%s%s",
			"%s%s\nhttp://other.test:8000 {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n",
			"http://other.test:8000 {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n%s%s",
			"%s%s\nhttp://:8001, http://:9000 {\nrespond hi\n}\n",
			"http://:7000 {\nprobe p\nreverse_proxy 127.0.0.1:4\n}\n%s%s",
			"http://other.test:8001 {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n%s%s",
			"https://secure.test {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n%s%s",
		} {
			if strings.Contains(change, ":8001, ") && strings.Contains(address, ":8001") {
				continue
			}
			c := load(t, fmt.Sprintf(change, address+" ", site))
			same(t, address+" with "+change, c.get(8000, "http://app.test:8000/"), first)
		}
	}
}

func TestListenersOfOneSite(t *testing.T) {
	c := load(t, "http://:8000, http://:9000 {\nprobe p\nreverse_proxy 127.0.0.1:1\n}")
	differ(t, "two listeners", c.get(8000, "http://a.test/"), c.get(9000, "http://a.test/"))
	c = loadJSON(t, []byte(`{"admin":{"disabled":true},"apps":{"http":{"servers":{"a":{"listen":[":8000-8002"],"automatic_https":{"disable":true},
		"routes":[{"handle":[{"handler":"site_probe","label":"p"}]}]}}}}}`))
	differ(t, "two ports of a range", c.get(8000, "http://a.test/"), c.get(8001, "http://a.test/"))
}

func TestInsideOfHandlers(t *testing.T) {
	c := load(t, "http://:8000 {\ninner {\nprobe p\nreverse_proxy 127.0.0.1:1\n}\nhandle_errors {\nroute {\nprobe p\nrespond no\n}\n}\n}")
	places := strings.Fields(c.get(8000, "http://a.test/"))
	if len(places) != 3 {
		t.Fatalf("got %q", places)
	}
	for i, a := range places {
		if strings.Contains(a, "=?") {
			t.Errorf("%s is not found", a)
		}
		for _, b := range places[:i] {
			differ(t, "two places", a, b)
		}
	}
}

func TestAround(t *testing.T) {
	c := load(t, "http://a.test:8000 {\n@x path /x\nhandle @x {\nprobe other\n}\nhandle {\nprobe first\nforward_auth 127.0.0.1:5 {\nuri /\ncopy_headers X-User\n}\nprobe p\nreverse_proxy 127.0.0.1:1\n}\n}\nhttp://b.test:8000 {\nprobe b\n}")
	for _, server := range c.app.Servers {
		x := newIndex([]*caddyhttp.Server{server})
		for _, n := range x.order {
			p, ok := n.handler.(*probe)
			if !ok || p.Label != "p" {
				continue
			}
			place := x.place(server, p)
			check := func(what string, list []caddyhttp.MiddlewareHandler, want string) {
				t.Helper()
				var got []string
				for _, h := range list {
					if p, ok := h.(*probe); ok {
						got = append(got, p.Label)
					} else if id := moduleID(h); id == "http.handlers.reverse_proxy" {
						got = append(got, "proxy")
					}
				}
				slices.Sort(got)
				if text := strings.Join(got, " "); text != want {
					t.Errorf("%s: got %s, want %s", what, text, want)
				}
			}
			check("before", place.Before(), "first proxy")
			check("server", HandlersOf(server, server.Routes), "b first other p proxy proxy")
		}
	}
}

func TestNoServer(t *testing.T) {
	f := &Finder{handler: &probe{}}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if p := f.Place(r); p != nil || len(p.AppendName(nil, r)) > 0 {
		t.Errorf("got %v", p)
	}
}

func newIndex(servers []*caddyhttp.Server) *index {
	x := new(index)
	x.make(servers)
	return x
}

func BenchmarkName(b *testing.B) {
	c := load(b, "http://:8000, http://:9000 {\nprobe p\nrespond hi\n}")
	for _, server := range c.app.Servers {
		for _, n := range newIndex([]*caddyhttp.Server{server}).order {
			p, ok := n.handler.(*probe)
			if !ok {
				continue
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			ctx := context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9000}))
			r = r.WithContext(context.WithValue(ctx, caddyhttp.ServerCtxKey, server))
			var array [64]byte
			b.ReportAllocs()
			for b.Loop() {
				p.finder.Place(r).AppendName(array[:0], r)
			}
			return
		}
	}
}
