package rediscache

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// query is a request with content.
type query struct {
	method, path, body string
	chunked            bool
	fields             []string
}

// ask returns the answer, and whether the service was not asked for it.
func (s *site) ask(q query) (body string, stored bool) {
	s.t.Helper()
	if q.path == "" {
		q.path = "/search"
	}
	before := s.asked.Load()
	r := s.request(q.method, q.path, q.fields...)
	if q.body != "" || q.chunked {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(q.body)), int64(len(q.body))
		if q.chunked {
			r.ContentLength = -1
		}
	}
	resp, err := httpClient.Do(r)
	if err != nil {
		s.t.Fatalf("%s: %v", q.method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", q.method, err)
	}
	return string(text), s.asked.Load() == before
}

// echo answers with what was asked.
func echo(w http.ResponseWriter, r *http.Request, _ int64) {
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("X-Fresh") != "" {
		w.Header().Set("Cache-Control", "public, max-age=60")
	}
	_, _ = fmt.Fprintf(w, "%s %s %s %s %q %v", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding"), body, err)
}

const queryBlock = "http_cache 60s {\nkey {\nbody\n%s\n}\n}"

// A QUERY is answered only with what was answered to the same content of the same
// type, and never for a request with another method.
func TestQueryContentIsPartOfTheKey(t *testing.T) {
	first := query{method: "QUERY", body: "a=1", fields: []string{"Content-Type", "text/plain"}}
	with := func(change func(*query)) query {
		q := first
		q.fields = append([]string(nil), first.fields...)
		change(&q)
		return q
	}
	for name, tc := range map[string]struct {
		option string
		second query
		stored bool
	}{
		"the same":            {"", first, true},
		"in chunks":           {"", with(func(q *query) { q.chunked = true }), true},
		"with Expect":         {"", with(func(q *query) { q.fields = append(q.fields, "Expect", "100-continue") }), true},
		"another body":        {"", with(func(q *query) { q.body = "a=2" }), false},
		"a longer body":       {"", with(func(q *query) { q.body += " " }), false},
		"no body":             {"", with(func(q *query) { q.body = "" }), false},
		"no chunk":            {"", with(func(q *query) { q.body, q.chunked = "", true }), false},
		"another type":        {"", with(func(q *query) { q.fields[1] = "application/json" }), false},
		"another charset":     {"", with(func(q *query) { q.fields[1] += "; charset=latin1" }), false},
		"no type":             {"", with(func(q *query) { q.fields = nil }), false},
		"a coding":            {"", with(func(q *query) { q.fields = append(q.fields, "Content-Encoding", "gzip") }), false},
		"a language":          {"", with(func(q *query) { q.fields = append(q.fields, "Content-Language", "de") }), false},
		"two types":           {"", with(func(q *query) { q.fields = append(q.fields, "Content-Type", "text/plain") }), false},
		"another path":        {"", with(func(q *query) { q.path = "/find" }), false},
		"another query":       {"", with(func(q *query) { q.path = "/search?a" }), false},
		"GET":                 {"", query{method: "GET"}, false},
		"GET with body":       {"", with(func(q *query) { q.method = "GET" }), false},
		"HEAD":                {"", query{method: "HEAD"}, false},
		"POST":                {"", with(func(q *query) { q.method = "POST" }), false},
		"query":               {"", with(func(q *query) { q.method = "query" }), false},
		"a part":              {"", with(func(q *query) { q.fields = append(q.fields, "Range", "bytes=0-3") }), false},
		"a cookie":            {"", with(func(q *query) { q.fields = append(q.fields, "Cookie", "a=b") }), false},
		"an API key":          {"", with(func(q *query) { q.fields = append(q.fields, "X-Api-Key", "a") }), false},
		"authorized":          {"", with(func(q *query) { q.fields = append(q.fields, "Authorization", "a") }), false},
		"a user":              {"", with(func(q *query) { q.fields = append(q.fields, "X-User", "ann") }), false},
		"a user with his own": {"per_user", with(func(q *query) { q.fields = append(q.fields, "X-User", "ann") }), false},
		"a field that counts": {"header X-Shop", with(func(q *query) { q.fields = append(q.fields, "X-Shop", "a") }), false},
		"no-store":            {"", with(func(q *query) { q.fields = append(q.fields, "Cache-Control", "no-store") }), false},
		"a token in the URL":  {"", with(func(q *query) { q.path = "/search?access_token=x" }), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, fmt.Sprintf(queryBlock, tc.option), echo)
			want, stored := s.ask(first)
			if stored || !strings.HasPrefix(want, `QUERY /search text/plain  "a=1" <nil>`) {
				t.Fatalf("the service got %s", want)
			}
			direct := fmt.Sprintf("%s %s", tc.second.method, tc.second.path)
			got, stored := s.ask(tc.second)
			if stored != tc.stored {
				t.Errorf("answered from the cache: %v", stored)
			}
			if stored && got != want || !stored && tc.second.method != "HEAD" && !strings.HasPrefix(got, strings.TrimSpace(direct)) {
				t.Errorf("got %s", got)
			}
			if !stored && tc.second.body != "" && !strings.Contains(got, fmt.Sprintf("%q", tc.second.body)) {
				t.Errorf("the body did not reach the service: %s", got)
			}
			safe := rfc9111.Safe(tc.second.method) // the others make invalid what is stored
			if again, stored := s.ask(first); stored != safe || again != want {
				t.Errorf("the first one again: got %s, stored %v", again, stored)
			}
		})
	}
}

// A GET that was stored answers no QUERY, with content or without.
func TestQueryIsNotAnsweredFromGet(t *testing.T) {
	s := startSite(t, fmt.Sprintf(queryBlock, ""), echo)
	s.ask(query{method: "GET"})
	for _, body := range []string{"", "a"} {
		if got, stored := s.ask(query{method: "QUERY", body: body}); stored || !strings.HasPrefix(got, "QUERY") {
			t.Errorf("%q: got %s", body, got)
		}
	}
	if got, stored := s.ask(query{method: "GET"}); !stored || !strings.HasPrefix(got, "GET") {
		t.Errorf("the GET: %s, stored %v", got, stored)
	}
}

// What the key does not ask for, and what is too large, passes whole and changes
// nothing that is stored.
func TestQueryPasses(t *testing.T) {
	large := make([]byte, 200_000)
	_, _ = rand.Read(large)
	for name, tc := range map[string]struct {
		block, body string
		stored      bool
	}{
		"not asked for":     {"http_cache 60s", "a", false},
		"off":               {"http_cache 60s {\nkey {\nbody off\n}\n}", "a", false},
		"as large as it is": {"http_cache 60s {\nkey {\nbody 1KiB\n}\n}", strings.Repeat("a", 1024), true},
		"one byte more":     {"http_cache 60s {\nkey {\nbody 1KiB\n}\n}", strings.Repeat("a", 1025), false},
		"the default":       {fmt.Sprintf(queryBlock, ""), strings.Repeat("a", 64<<10), true},
		"over the default":  {fmt.Sprintf(queryBlock, ""), string(large), false},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " chunked ", chunked), func(t *testing.T) {
				s := startSite(t, tc.block, echo)
				s.ask(query{method: "GET"})
				q := query{method: "QUERY", body: tc.body, chunked: chunked, fields: []string{"X-Fresh", "1"}}
				for range 2 {
					if got, stored := s.ask(q); stored || got != fmt.Sprintf("QUERY /search   %q <nil>", tc.body) {
						t.Errorf("stored %v, %d bytes came", stored, len(got))
					}
					if tc.stored {
						break
					}
				}
				if _, stored := s.ask(q); stored != tc.stored {
					t.Errorf("answered from the cache: %v", stored)
				}
				if _, stored := s.ask(query{method: "GET"}); !stored {
					t.Error("the QUERY made the GET invalid")
				}
			})
		}
	}
}

// A write makes invalid what was answered to QUERY too, and so does a purge.
func TestQueryIsInvalidated(t *testing.T) {
	s := startSite(t, fmt.Sprintf(queryBlock, ""), echo)
	q := query{method: "QUERY", body: "a"}
	s.ask(q)
	if _, stored := s.ask(q); !stored {
		t.Fatal("it is not stored")
	}
	s.ask(query{method: "DELETE"})
	if _, stored := s.ask(q); stored {
		t.Error("it is stored after a write")
	}
}

// Those who ask the same at once get one answer, and others get their own.
func TestQueriesCollapse(t *testing.T) {
	var s *site
	s = startSite(t, fmt.Sprintf(queryBlock, ""), func(w http.ResponseWriter, r *http.Request, n int64) {
		s.hold()
		echo(w, r, n)
	})
	const each = 20
	wait := all(3*each, func(i int) {
		r := s.request("QUERY", "/search")
		want := fmt.Sprintf("QUERY /search   \"%d\" <nil>", i%2)
		if r.Body, r.ContentLength = io.NopCloser(strings.NewReader(fmt.Sprint(i%2))), 1; i%3 == 2 {
			r, want = s.request("GET", "/search"), `GET /search   "" <nil>`
		}
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	})
	testkit.Eventually(t, "waiting", func() bool { return waiting() == 3*each-3 })
	s.release()
	wait()
	s.wantAsked(3)
}

// A stale answer is validated and refreshed by the same QUERY.
func TestQueryIsRefreshed(t *testing.T) {
	for name, block := range map[string]string{
		"by its client":     "http_cache {\nkey {\nbody\n}\n}",
		"in the background": "http_cache {\nstale_while_revalidate 60s\nkey {\nbody\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 2)
			s := startSite(t, block, func(w http.ResponseWriter, r *http.Request, n int64) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Etag", `"a"`)
				w.Header().Set("Cache-Control", "max-age=60")
				if n == 1 {
					w.Header().Set("Age", "60")
				}
				seen <- fmt.Sprintf("%s %s %q %s", r.Method, body, r.Header["If-None-Match"], r.Header.Get("Content-Type"))
				if r.Header.Get("If-None-Match") == `"a"` {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				_, _ = io.WriteString(w, "found")
			})
			q := query{method: "QUERY", body: "a", fields: []string{"Content-Type", "text/plain"}}
			s.ask(q)
			if got, want := <-seen, "QUERY a [] text/plain"; got != want {
				t.Errorf("the service got %s, want %s", got, want)
			}
			if got, _ := s.ask(q); got != "found" {
				t.Errorf("got %s", got)
			}
			if got, want := <-seen, `QUERY a ["\"a\""] text/plain`; got != want {
				t.Errorf("the service got %s, want %s", got, want)
			}
			testkit.Eventually(t, "the refreshed answer", func() bool { got, stored := s.ask(q); return stored && got == "found" })
		})
	}
}

// What breaks off is neither stored nor answers for what is whole.
func TestBrokenQueryIsNotStored(t *testing.T) {
	s := startSite(t, fmt.Sprintf(queryBlock, ""), echo)
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"short":         "Content-Length: 10\r\n\r\nabc",
		"empty":         "Content-Length: 3\r\n\r\n",
		"no chunk size": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZZ\r\n",
		"no last chunk": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = fmt.Fprintf(conn, "QUERY /%s HTTP/1.1\r\nHost: %s\r\n%s", url.PathEscape(name), u.Host, text)
			_ = conn.(*net.TCPConn).CloseWrite()
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				if resp.StatusCode < 400 {
					t.Errorf("status %d", resp.StatusCode)
				}
				resp.Body.Close()
			}
			for _, body := range []string{"", "abc"} {
				if got, stored := s.ask(query{method: "QUERY", path: "/" + url.PathEscape(name), body: body}); stored || !strings.HasSuffix(got, fmt.Sprintf("%q <nil>", body)) {
					t.Errorf("%q: got %s, stored %v", body, got, stored)
				}
			}
		})
	}
}

func TestBodyMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"body": "", "body 1KiB": "", "body 16MiB": "", "body off": "", "body 0": "",
		"body 17MiB": "up to 16 MiB", "body 64": "64 bytes is too small: at least 1KiB; write a unit, such as 64KiB", "body much": "not a size", "body 1KiB 2KiB": "unexpected argument", "body\nbody": "more than once",
	} {
		err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("http_cache {\nkey {\n" + line + "\n}\n}"))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "body")) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}
