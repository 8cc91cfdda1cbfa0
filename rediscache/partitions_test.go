package rediscache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// partitioned is a configuration in which two clients that ask for one URL get what is
// their own. In its text $OPTIONS are more options of http_cache, and $ORIGIN is an
// origin that answers with what X-Say and the content say.
type partitioned struct {
	config  string
	clients [2]asker
}

// asker is one of the clients.
type asker struct {
	port   int
	name   string // what the origin calls it
	method string // GET unless given
	body   string
	fields []string
}

func partitions() map[string]partitioned {
	proxy := func(say string) string { return "reverse_proxy $ORIGIN {\nheader_up X-Say " + say + "\n}\n" }
	choice := "handle @vip {\n" + proxy("first") + "}\nhandle {\n" + proxy("second") + "}\n"
	site := func(key, say string) string {
		return "http://:$1 {\nhttp_cache {\n$OPTIONS\nkey {\n" + key + "\n}\n}\n" + proxy(say) + "}\n"
	}
	by := func(field, prefix string) [2]asker {
		return [2]asker{
			{port: 1, name: "first", fields: []string{field, prefix + "first"}},
			{port: 1, name: "second", fields: []string{field, prefix + "second"}},
		}
	}
	vip := [2]asker{{port: 1, name: "first", fields: []string{"X-Vip", "1"}}, {port: 1, name: "second"}}
	return map[string]partitioned{
		"places": {
			"http://:$1 {\nhttp_cache {\n$OPTIONS\n}\n" + proxy("first") + "}\nhttp://:$2 {\nhttp_cache {\n$OPTIONS\n}\n" + proxy("second") + "}\n",
			[2]asker{{port: 1, name: "first"}, {port: 2, name: "second"}},
		},
		"matchers behind":                   {"http://:$1 {\n@vip header X-Vip 1\nhttp_cache {\n$OPTIONS\n}\n" + choice + "}\n", vip},
		"matchers behind, with a namespace": {"http://:$1 {\n@vip header X-Vip 1\nhttp_cache {\n$OPTIONS\nnamespace n\n}\n" + choice + "}\n", vip},
		"users":                             {site("per_user header X-User", "{header.X-User}"), by("X-User", "")},
		"key header":                        {site("header X-Tenant", "{header.X-Tenant}"), by("X-Tenant", "")},
		"key cookie":                        {site("cookie tenant", "{cookie.tenant}"), by("Cookie", "tenant=")},
		"key value":                         {site("value {header.X-Tenant}", "{header.X-Tenant}"), by("X-Tenant", "")},
		"content of QUERY": {site("body", "{header.X-None}"), [2]asker{
			{port: 1, name: "first", method: methodQuery, body: "first"}, {port: 1, name: "second", method: methodQuery, body: "second"},
		}},
	}
}

// partitionOrigin answers each client with its name, and with validators of its own.
type partitionOrigin struct {
	control string
	server  *httptest.Server
	mu      sync.Mutex
	asked   map[string]int // by path and name
}

func (o *partitionOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	name := r.Header.Get("X-Say") + string(body)
	o.mu.Lock()
	o.asked[r.URL.Path+name]++
	n := o.asked[r.URL.Path+name]
	o.mu.Unlock()
	w.Header().Set("Cache-Control", o.control)
	w.Header().Set("Surrogate-Key", "tag")
	if n == 1 || !strings.Contains(o.control, "revalidate") {
		n = 1
		w.Header().Set("Etag", tagOf(name))
		w.Header().Set("Last-Modified", modified[name])
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(fmt.Sprintf("%s %d", name, n)))
}

func (o *partitionOrigin) times(path, name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[path+name]
}

func tagOf(name string) string { return fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(name)))[:18] + `"` }

var modified = map[string]string{"first": "Mon, 01 Jan 2001 00:00:00 GMT", "second": "Tue, 01 Jan 2002 00:00:00 GMT"}

func (p partitioned) run(t *testing.T, options, control string) (*running, *partitionOrigin) {
	t.Helper()
	o := &partitionOrigin{control: control, asked: map[string]int{}}
	o.server = httptest.NewServer(o)
	t.Cleanup(o.server.Close)
	return runCaddyfile(t, strings.NewReplacer("$OPTIONS", options, "$ORIGIN", strings.TrimPrefix(o.server.URL, "http://")).Replace(p.config)), o
}

// ask sends the client's request for the path.
func (r *running) ask(c asker, path string, fields ...string) (*http.Response, string) {
	r.t.Helper()
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	req, _ := http.NewRequestWithContext(r.t.Context(), method, "http://127.0.0.1:"+r.ports[c.port-1]+path, strings.NewReader(c.body))
	req.Host = "partitions.test"
	for i, all := 0, append(append([]string{}, c.fields...), fields...); i+1 < len(all); i += 2 {
		req.Header.Add(all[i], all[i+1])
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

// A condition is evaluated against what is the client's own, stored or not, whatever
// validators it has seen of others.
func TestConditionsStayInPartition(t *testing.T) {
	for kind, p := range partitions() {
		t.Run(kind, func(t *testing.T) {
			r, _ := p.run(t, "", "max-age=600")
			for _, stored := range []bool{true, false} {
				for mine := range p.clients {
					for theirs := range p.clients {
						me, other := p.clients[mine], p.clients[theirs]
						own := mine == theirs
						for i, fields := range [][]string{
							{"If-None-Match", tagOf(other.name)},
							{"If-Modified-Since", modified[other.name]},
							{"If-Range", tagOf(other.name), "Range", "bytes=1-2"},
							{"If-Range", modified[other.name], "Range", "bytes=1-2"},
						} {
							if me.method == methodQuery && fields[0] == "If-Range" {
								continue // bypasses the cache, and Go's server does not evaluate it
							}
							path := fmt.Sprintf("/%v/%d/%d/%d", stored, mine, theirs, i)
							if stored {
								r.ask(p.clients[0], path)
								r.ask(p.clients[1], path)
							}
							resp, body := r.ask(me, path, fields...)
							whole := me.name + " 1"
							switch {
							case resp.StatusCode == http.StatusNotModified && (own || fields[0] == "If-Modified-Since" && me.name == "first") && resp.Header.Get("Etag") == tagOf(me.name):
							case resp.StatusCode == http.StatusPartialContent && own && body == whole[1:3]:
							case resp.StatusCode == http.StatusOK && body == whole && (!own || fields[0] == "If-Range" || !stored):
							default:
								t.Errorf("stored %v: %s asks with %v: %d %q %s", stored, me.name, fields, resp.StatusCode, body, resp.Header.Get("Etag"))
							}
						}
					}
				}
			}
		})
	}
}

// A refresh in the background is stored where the client finds it, and no other.
func TestRefreshStaysInPartition(t *testing.T) {
	for kind, p := range partitions() {
		t.Run(kind, func(t *testing.T) {
			r, origin := p.run(t, "", "max-age=0, stale-while-revalidate=600")
			testkit.Eventually(t, "refreshes that are found", func() bool {
				done := true
				for _, c := range p.clients {
					resp, body := r.ask(c, "/")
					name, n, _ := strings.Cut(body, " ")
					if name != c.name {
						t.Fatalf("%s got %q, %s", c.name, body, resp.Header.Get("Cache-Status"))
					}
					done = done && len(n) > 0 && n > "2" && strings.Contains(resp.Header.Get("Cache-Status"), "hit") && origin.times("/", c.name) > 2
				}
				return done
			})
		})
	}
}

// A purge reaches what every client has of what it names.
func TestPurgeReachesEveryPartition(t *testing.T) {
	for kind, p := range partitions() {
		t.Run(kind, func(t *testing.T) {
			r, origin := p.run(t, "", "max-age=600")
			for i, scope := range []object.Scope{
				{URL: "https://partitions.test/shop/"}, {Prefix: "http://partitions.test/shop"}, {Host: "partitions.test"}, {Tag: "tag"}, {All: true},
			} {
				for _, c := range p.clients {
					r.ask(c, "/shop/")
					if resp, _ := r.ask(c, "/shop/"); !strings.Contains(resp.Header.Get("Cache-Status"), "hit") || origin.times("/shop/", c.name) != i+1 {
						t.Errorf("%s is not stored before %+v: %s", c.name, scope, resp.Header.Get("Cache-Status"))
					}
				}
				if _, err := purgeAll(context.Background(), []object.Scope{scope}); err != nil {
					t.Fatal(err)
				}
				for _, c := range p.clients {
					if resp, _ := r.ask(c, "/shop/"); strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
						t.Errorf("%+v does not reach what %s has", scope, c.name)
					}
				}
			}
		})
	}
}

// Places that share a namespace, but choose by different things, do not take what one
// of them chose for what the other did.
func TestNamespaceOfDifferentHandlers(t *testing.T) {
	const named = "http_cache 60s {\nnamespace shared\n}\n"
	choice := "@out header X-Out 1\n" + named + "handle @out {\nreverse_proxy $PUBLIC\n}\nhandle {\nreverse_proxy $INTERNAL\n}\n"
	for name, other := range map[string]string{
		"no choice":      named + "reverse_proxy $PUBLIC\n",
		"another choice": "@other header X-Other 1\n" + named + "handle @other {\nreverse_proxy $INTERNAL\n}\nhandle {\nreverse_proxy $PUBLIC\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := runCaddyfile(t, "http://:$1 {\n"+choice+"}\nhttp://:$2 {\n"+other+"}\n")
			if got := r.get(1, "/", "Host", "a.test"); !strings.Contains(got, "INTERNAL") {
				t.Fatal(got)
			}
			if got := r.get(2, "/", "Host", "a.test"); !strings.Contains(got, "PUBLIC") {
				t.Errorf("a client of the other place got %s", got)
			}
			r.get(2, "/other", "Host", "a.test")
			if got := r.get(1, "/other", "Host", "a.test"); !strings.Contains(got, "INTERNAL") {
				t.Errorf("a client of the first place got %s", got)
			}
			_ = caddy.Stop()
		})
	}
	// Those that choose alike share.
	r := runCaddyfile(t, "http://:$1 {\n"+choice+"}\nhttp://:$2 {\nheader X-Second 1\n"+choice+"}\n")
	for _, out := range []string{"1", "0"} {
		r.get(1, "/", "Host", "a.test", "X-Out", out)
		if got := r.get(2, "/", "Host", "a.test", "X-Out", out); !strings.HasPrefix(got, "hit") {
			t.Errorf("the same choice: %s", got)
		}
	}
}

// QUERY is stored by its content in Redis too, over HTTP/1.1 and HTTP/2, and with
// leases.
func TestQueryInRedis(t *testing.T) {
	redisServer := redistest.Start(t)
	for _, protocol := range []string{"h1", "h2c"} {
		for _, options := range []string{"store redis", "store redis\nlease", "store both\nlease"} {
			t.Run(protocol+", "+options, func(t *testing.T) {
				o := &partitionOrigin{control: "max-age=600", asked: map[string]int{}}
				o.server = httptest.NewServer(o)
				t.Cleanup(o.server.Close)
				global := "\tservers {\n\t\tprotocols " + protocol + "\n\t}\n\ttentagate {\n\t\tredis " + redisServer.URL() + "\n\t}\n"
				r := runWith(t, global, "http://:$1 {\nhttp_cache {\n"+options+"\nkey {\nbody\n}\n}\nreverse_proxy "+strings.TrimPrefix(o.server.URL, "http://")+"\n}\n")
				transport := &http.Transport{Protocols: new(http.Protocols)}
				transport.Protocols.SetHTTP1(protocol == "h1")
				transport.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
				defer transport.CloseIdleConnections()
				// Without a length, with one, and with what the key counts as the same.
				query := func(body string, chunked bool) string {
					req, _ := http.NewRequestWithContext(t.Context(), methodQuery, "http://127.0.0.1:"+r.ports[0]+"/"+protocol, strings.NewReader(body))
					req.Host = "query.test"
					if chunked {
						req.ContentLength = -1
					}
					resp, err := transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					text, err := io.ReadAll(resp.Body)
					if err != nil || resp.ProtoMajor != map[string]int{"h1": 1, "h2c": 2}[protocol] {
						t.Fatalf("%q %v, HTTP/%d", text, err, resp.ProtoMajor)
					}
					return string(text)
				}
				// Redis may take longer than its budget, and then the origin is asked again.
				testkit.Eventually(t, "answers from Redis", func() bool {
					before := o.times("/"+protocol, "first") + o.times("/"+protocol, "second")
					for range 2 {
						for _, name := range []string{"first", "second"} {
							for _, chunked := range []bool{false, true} {
								if got := query(name, chunked); got != name+" 1" {
									t.Fatalf("%s got %q", name, got)
								}
							}
						}
					}
					return o.times("/"+protocol, "first")+o.times("/"+protocol, "second") == before
				})
			})
		}
	}
}
