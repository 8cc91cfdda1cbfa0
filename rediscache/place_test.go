package rediscache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// running is a configuration that runs in this process. In its text $1 to $9
// are ports, $PUBLIC and $INTERNAL services, which answer with their name, what
// they were asked for and how often they were.
type running struct {
	t       *testing.T
	options string
	ports   [9]string
	names   map[string]string
	asked   atomic.Int64
}

func runCaddyfile(t *testing.T, text string) *running {
	t.Helper()
	return runWith(t, "", text)
}

// runWith is runCaddyfile with more global options.
func runWith(t *testing.T, options, text string) *running {
	t.Helper()
	r := &running{t: t, options: options, names: map[string]string{}}
	for i := range r.ports {
		r.ports[i] = strconv.Itoa(freeport.Get(t))
	}
	for _, name := range []string{"PUBLIC", "INTERNAL"} {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = fmt.Fprintf(w, "%s %s %s %s", name, req.Host, req.URL, req.Header.Get("X-Say"))
			r.asked.Add(1)
		}))
		t.Cleanup(origin.Close)
		r.names["$"+name] = strings.TrimPrefix(origin.URL, "http://")
	}
	r.load(text)
	t.Cleanup(func() { _ = caddy.Stop() })
	return r
}

func (r *running) load(text string) {
	r.t.Helper()
	if err := r.tryLoad(text); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) tryLoad(text string) error {
	for i, port := range r.ports {
		text = strings.ReplaceAll(text, fmt.Sprint("$", i+1), port)
	}
	for name, address := range r.names {
		text = strings.ReplaceAll(text, name, address)
	}
	config, err := servertest.Adapt("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel PANIC\n\t}\n" + r.options + "}\n" + text)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// get asks for /path at a port; fields are names and values, Host among them.
func (r *running) get(port int, path string, fields ...string) string {
	r.t.Helper()
	req, _ := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://127.0.0.1:"+r.ports[port-1]+path, nil)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "Host" {
			req.Host = fields[i+1]
			continue
		}
		req.Header.Add(fields[i], fields[i+1])
	}
	return r.do(req)
}

// do returns how the request was answered, and with what.
func (r *running) do(req *http.Request) string {
	r.t.Helper()
	resp, err := httpClient.Do(req)
	if err != nil { // a reload of Caddy can lose a connection that is just being made
		resp, err = httpClient.Do(req)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	how := "miss"
	if strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
		how = "hit"
	}
	return how + " " + string(body)
}

const cached = "http_cache 60s\nreverse_proxy "

// What is stored in one place is not found in another, whatever a client sends.
func TestPlacesAreApart(t *testing.T) {
	const proxies = "\tservers {\n\t\ttrusted_proxies static private_ranges\n\t}\n"
	const issue = "http://:$1 {\n" + cached + "$PUBLIC\n}\nhttp://localhost:$2 {\nbind 127.0.0.1\n" + cached + "$INTERNAL\n}"
	for name, tc := range map[string]struct {
		config        string
		first, second int // ports
		host          string
		fields        string // one, of the first
		want, other   string
	}{
		"servers":          {issue, 2, 1, "localhost:$2", "", "INTERNAL", "PUBLIC"},
		"servers, reverse": {issue, 1, 2, "localhost:$2", "", "PUBLIC", "INTERNAL"},
		"servers, same backend, one behind a guard": {
			"http://:$1 {\n" + cached + "$PUBLIC\n}\nhttp://:$2 {\nrequest_header X-Say internal\n" + cached + "$PUBLIC\n}",
			2, 1, "a.test", "", "internal", "PUBLIC",
		},
		"two listeners of one site": {"http://:$1, http://:$2 {\nrequest_header X-Say {http.request.local.port}\n" + cached + "$PUBLIC\n}", 1, 2, "a.test", "", "$1", "$2"},
		"header": {
			"http://:$1 {\n@vip header X-Vip 1\nhandle @vip {\n" + cached + "$INTERNAL\n}\nhandle {\n" + cached + "$PUBLIC\n}\n}",
			1, 1, "a.test", "X-Vip: 1", "INTERNAL", "PUBLIC",
		},
		"header, same backend": {
			"http://:$1 {\n@vip header X-Vip 1\nhandle @vip {\nrequest_header X-Say internal\n" + cached + "$PUBLIC\n}\nhandle {\n" + cached + "$PUBLIC\n}\n}",
			1, 1, "a.test", "X-Vip: 1", "internal", "PUBLIC",
		},
		"cookie": {
			"http://:$1 {\n@vip header_regexp Cookie vip=1\nroute @vip {\nrequest_header -Cookie\n" + cached + "$INTERNAL\n}\nroute {\n" + cached + "$PUBLIC\n}\n}",
			1, 1, "a.test", "Cookie: vip=1", "INTERNAL", "PUBLIC",
		},
		"address": {
			"http://:$1 {\n@office client_ip 10.0.0.0/8\nhandle @office {\n" + cached + "$INTERNAL\n}\nhandle {\n" + cached + "$PUBLIC\n}\n}",
			1, 1, "a.test", "X-Forwarded-For: 10.1.1.1", "INTERNAL", "PUBLIC",
		},
		"expression": {
			"http://:$1 {\n@vip `{header.X-Vip} == \"1\"`\nroute @vip {\n" + cached + "$INTERNAL\n}\nroute {\n" + cached + "$PUBLIC\n}\n}",
			1, 1, "a.test", "X-Vip: 1", "INTERNAL", "PUBLIC",
		},
		"one named route": {
			"&(app) {\nroute {\n" + cached + "$PUBLIC\n}\n}\nhttp://:$1 {\n@vip header X-Vip 1\nhandle @vip {\nrequest_header X-Say internal\ninvoke app\n}\nhandle {\nrequest_header X-Say public\ninvoke app\n}\n}",
			1, 1, "a.test", "X-Vip: 1", "internal", "public",
		},
	} {
		t.Run(name, func(t *testing.T) {
			options := ""
			if name == "address" {
				options = proxies
			}
			r := runWith(t, options, tc.config)
			ports := strings.NewReplacer("$1", r.ports[0], "$2", r.ports[1])
			fields := []string{"Host", ports.Replace(tc.host)}
			own := fields
			if field, value, ok := strings.Cut(tc.fields, ": "); ok {
				own = append(own, field, value)
			}
			for i, how := range []string{"miss", "hit"} {
				if got := r.get(tc.first, "/", own...); !strings.HasPrefix(got, how) || !strings.Contains(got, ports.Replace(tc.want)) {
					t.Errorf("first, %d: %s", i, got)
				}
			}
			for i, how := range []string{"miss", "hit"} {
				if got := r.get(tc.second, "/", fields...); !strings.HasPrefix(got, how) || !strings.Contains(got, ports.Replace(tc.other)) {
					t.Errorf("second, %d: %s", i, got)
				}
			}
		})
	}
}

// One named route that two handlers invoke is two places. Where it cannot be told any
// more which of them a request came by, nothing is shared.
func TestWaysThatCannotBeTold(t *testing.T) {
	for _, change := range []string{"request_header -X-Vip", "request_header X-Vip 0", "request_header -X-*", "request_header -*Vip"} {
		r := runCaddyfile(t, "&(app) {\nroute {\n"+cached+"$PUBLIC\n}\n}\nhttp://:$1 {\n@vip header X-Vip 1\nhandle @vip {\n"+change+"\nrequest_header X-Say internal\ninvoke app\n}\nhandle {\ninvoke app\n}\n}")
		if got := r.get(1, "/", "Host", "a.test", "X-Vip", "1"); !strings.Contains(got, "internal") {
			t.Fatal(got)
		}
		if got := r.get(1, "/", "Host", "a.test"); strings.Contains(got, "internal") {
			t.Errorf("%s: %s", change, got)
		}
	}
}

// Only what the matchers look at counts: a named route that sites of other hosts
// invoke is cached.
func TestWaysThatCanBeTold(t *testing.T) {
	for _, change := range []string{"vars tenant tenant", "request_header -X-Internal-*", "request_header X-Tenant {http.vars.tenant}"} {
		r := runCaddyfile(t, "&(app) {\nroute {\n"+cached+"$PUBLIC\n}\n}\nhttp://tenant-a.test:$1 {\n@p path /tenant*\nhandle @p {\n"+change+"\ninvoke app\n}\n}\nhttp://tenant-b.test:$1 {\n"+change+"\ninvoke app\n}")
		for _, host := range []string{"tenant-a.test", "tenant-b.test"} {
			for _, how := range []string{"miss", "hit"} {
				if got := r.get(1, "/tenant", "Host", host); !strings.HasPrefix(got, how) {
					t.Errorf("%s, %s: %s, want a %s", change, host, got, how)
				}
			}
		}
	}
}

// A site keeps what it has over reloads and changes elsewhere, and purges reach
// every place.
func TestPlaceOverReloads(t *testing.T) {
	const first = "http://a.test:$1 {\nheader X-A 1\n" + cached + "$PUBLIC\n}\n"
	r := runCaddyfile(t, first)
	r.get(1, "/", "Host", "a.test")
	for _, change := range []string{
		first + "# the same\n",
		"# further down\n\n\n" + first,
		"http://b.test:$1 {\n" + cached + "$INTERNAL\n}\n" + first,
		first + "http://:$1 {\n" + cached + "$INTERNAL\n}\n",
		"http://:$2 {\n" + cached + "$INTERNAL\n}\n" + first,
		strings.Replace(first, "X-A 1", "X-A 2", 1),
		strings.Replace(first, "60s", "90s", 1),
	} {
		r.load(change)
		if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, "hit PUBLIC") {
			t.Errorf("with %s: %s", change, got)
		}
	}
	r.load(strings.Replace(first, "$PUBLIC", "$INTERNAL", 1))
	if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, "miss INTERNAL") {
		t.Errorf("of another backend: %s", got)
	}
}

func TestPurgeReachesEveryPlace(t *testing.T) {
	const purging = "http_cache 60s {\npurge_method {\nallow private_ranges\n}\n}\nreverse_proxy "
	r := runCaddyfile(t, "http://a.test:$1 {\n@vip header X-Vip 1\nhandle @vip {\n"+purging+"$INTERNAL\n}\nhandle {\n"+purging+"$PUBLIC\n}\n}\nhttp://:$2 {\n"+purging+"$PUBLIC\n}")
	all := func(want string) {
		t.Helper()
		for _, got := range []string{r.get(1, "/", "Host", "a.test"), r.get(1, "/", "Host", "a.test", "X-Vip", "1"), r.get(2, "/", "Host", "a.test")} {
			if !strings.HasPrefix(got, want) {
				t.Errorf("got %s, want a %s", got, want)
			}
		}
	}
	for _, method := range []string{"PURGE", "DELETE"} {
		all("miss")
		all("hit")
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+r.ports[1]+"/", nil)
		req.Host = "A.test.:80"
		resp, err := httpClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	all("miss")
}

func TestNamespace(t *testing.T) {
	named := func(rules string) string { return "http_cache 60s {\nnamespace shop\n" + rules + "}\nreverse_proxy " }
	r := runCaddyfile(t, "http://:$1 {\n"+named("")+"$PUBLIC\n}\nhttp://:$2 {\n"+named("lease\n")+"$INTERNAL\n}\nhttp://:$3 {\n"+cached+"$INTERNAL\n}")
	r.get(1, "/", "Host", "a.test")
	if got := r.get(2, "/", "Host", "a.test"); !strings.HasPrefix(got, "hit PUBLIC") {
		t.Errorf("the same namespace: %s", got)
	}
	if got := r.get(3, "/", "Host", "a.test"); !strings.HasPrefix(got, "miss") {
		t.Errorf("no namespace: %s", got)
	}
	err := r.tryLoad("http://:$1 {\n" + named("") + "$PUBLIC\n}\nhttp://:$2 {\n" + named("key {\nquery deny a\n}\n") + "$INTERNAL\n}")
	if err == nil || !strings.Contains(err.Error(), "http_cache: namespace shop: ") || strings.Count(err.Error(), "at Caddyfile:") != 2 {
		t.Errorf("two sets of rules: %v", err)
	}
}

// The service sees one host for all requests that share a key.
func TestOriginSeesTheHostOfTheKey(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nvars seen \"{http.request.hostport} {http.request.host} {http.request.port} {http.request.host.labels.0} {http.request.host.labels.2}\"\n"+
		"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say \"{http.request.hostport} {http.request.host} {http.request.port} {http.request.host.labels.0} {http.request.host.labels.2} {http.reverse_proxy.upstream.host}\"\n}\n}")
	for i, host := range []string{"app.test:443", "APP.test", "app.test.", "App.Test.:80", "app.test:0443", "%61pp.test"} {
		path := fmt.Sprint("/", i)
		spelt, plain, fresh := r.get(1, path, "Host", host), r.get(1, path, "Host", "app.test"), r.get(1, path+"?", "Host", "app.test")
		if !strings.HasPrefix(plain, "hit") || plain[4:] != spelt[5:] {
			t.Errorf("%s: %s, then %s", host, spelt, plain)
		}
		if want := strings.Replace(fresh[5:], "?", "", 1); spelt[5:] != want {
			t.Errorf("%s: the service says %s, and %s of the plain host", host, spelt[5:], want)
		}
	}
	if got := r.get(1, "/0", "Host", "app.test:8443"); !strings.HasPrefix(got, "miss") {
		t.Errorf("another port: %s", got)
	}
}

// Gateways with one configuration share, whatever ports they have.
func TestReplicasShareByPlace(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Say"))
	}))
	t.Cleanup(origin.Close)
	redisServer := redistest.Start(t)
	config := func(more string) string {
		return "@vip header X-Vip 1\nhandle @vip {\nrequest_header X-Say vip\n" + cached + origin.URL + "\n}\nhandle {\n" + cached + origin.URL + "\n}" + more
	}
	a := startGateway(t, redisServer.URL(), config(""))
	b := startGateway(t, redisServer.URL(), config("\n}\nhttp://other.test:"+strconv.Itoa(freeport.Get(t))+" {\n"+cached+origin.URL))
	for _, vip := range []string{"1", ""} {
		// A write is dropped while Redis counts as unreachable, which load alone can
		// cause: each look is after another response that is stored.
		testkit.Eventually(t, "the other gateway has it", func() bool {
			first, err := a.do(http.MethodGet, "/", "X-Vip", vip, "Cache-Control", "no-cache")
			if err != nil {
				return false
			}
			r, err := b.do(http.MethodGet, "/", "X-Vip", vip, "Cache-Control", "only-if-cached")
			return err == nil && r.hit() && r.body == first.body
		})
	}
}

// A secret that the operator sends to the service is no credential of the client. What
// a client sends in its place is, and requests with and without it share nothing.
func TestSecretsOfTheOperator(t *testing.T) {
	t.Setenv("ORIGIN_SECRET_TEST", "s3cret")
	for _, value := range []string{"{env.ORIGIN_SECRET_TEST}", "s3cret"} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n@set not header X-Own 1\nrequest_header @set X-Origin-Secret "+value+"\nrequest_header @set X-Say secret\n"+cached+"$PUBLIC\n}\n}")
		for _, how := range []string{"miss", "hit"} {
			if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, how) || !strings.Contains(got, "secret") {
				t.Errorf("%s: %s, want a %s", value, got, how)
			}
		}
		for range 2 {
			if got := r.get(1, "/", "Host", "a.test", "X-Own", "1", "X-Origin-Secret", "other"); !strings.HasPrefix(got, "miss") {
				t.Errorf("%s, a client's: %s", value, got)
			}
		}
		if got := r.get(1, "/", "Host", "a.test", "X-Own", "1"); strings.Contains(got, "secret") {
			t.Errorf("%s, without it: %s", value, got)
		}
	}
}
