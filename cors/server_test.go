package cors_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	_ "github.com/pythopus/tentagate/cors"
	"github.com/pythopus/tentagate/internal/servertest"
)

const page = "https://app.example.com"

// send sends a request with an Origin, or without.
func send(t *testing.T, server *httptest.Server, method, path, from string, fields ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if from != "" {
		r.Header.Set("Origin", from)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// backend sends CORS fields itself.
func backend(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Access-Control-Allow-Origin", "*")
		w.Header().Add("Access-Control-Allow-Origin", "https://other.test")
		w.Header().Set("Access-Control-Allow-Private-Network", "true")
		w.Header().Set("Vary", "Accept-Language")
		switch r.URL.Path {
		case "/hints":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // the client has read the event
			return
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/unchanged":
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "from the service, "+r.Method)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// check checks that the fields are there once, and the service's are not.
func check(t *testing.T, what string, resp *http.Response, status int, from string) {
	t.Helper()
	if resp.StatusCode != status {
		t.Errorf("%s: got %d, want %d", what, resp.StatusCode, status)
	}
	got := resp.Header
	want := []string{from}
	if from == "" {
		want = nil
	}
	if !slices.Equal(got["Access-Control-Allow-Origin"], want) {
		t.Errorf("%s: Access-Control-Allow-Origin is %q, want %q", what, got["Access-Control-Allow-Origin"], want)
	}
	if n := len(got["Access-Control-Expose-Headers"]); n != len(want) {
		t.Errorf("%s: Access-Control-Expose-Headers is there %d times", what, n)
	}
	if got.Get("Access-Control-Allow-Private-Network") != "" {
		t.Errorf("%s: the service's fields came through", what)
	}
	if n := strings.Count(strings.Join(got["Vary"], ", "), "Origin"); n != 1 {
		t.Errorf("%s: Vary is %q", what, got["Vary"])
	}
}

func TestEveryAnswerCarriesTheFieldsOnce(t *testing.T) {
	service := backend(t)
	site := `:80 {
	cors ` + page + `
	basic_auth /private {
		alice $2a$04$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	respond /static "hello"
	error /teapot "short and stout" 418
	redir /moved /static
	reverse_proxy /gone 127.0.0.1:1
	reverse_proxy ` + service + `
	encode
`
	for name, server := range map[string]*httptest.Server{
		"h1":           servertest.New(t, site+"}"),
		"h2":           servertest.NewTLS(t, site+"}"),
		"access log":   servertest.New(t, site+"\tlog {\n\t\toutput discard\n\t}\n}"),
		"error routes": servertest.New(t, site+"\thandle_errors {\n\t\trespond \"sorry {err.status_code}\" {err.status_code}\n\t}\n}"),
		"403 route":    servertest.New(t, site+"\thandle_errors 403 {\n\t\trespond sorry\n\t}\n}"),
	} {
		server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, from := range []string{page, "https://evil.test", "null", ""} {
			allowed := ""
			if from == page {
				allowed = page
			}
			for path, status := range map[string]int{
				"/": 200, "/hints": 200, "/unchanged": 304, "/static": 200, "/moved": 302,
				"/private": 401, "/teapot": 418, "/gone": 502, "/broken": 502,
			} {
				check(t, name+" "+path+" from "+from, send(t, server, http.MethodGet, path, from), status, allowed)
			}
			// OPTIONS that is no preflight is the service's.
			resp := send(t, server, http.MethodOptions, "/", from)
			check(t, name+" OPTIONS from "+from, resp, 200, allowed)
			if body, _ := io.ReadAll(resp.Body); string(body) != "from the service, OPTIONS" {
				t.Errorf("%s: OPTIONS got %s", name, body)
			}
		}
		resp := send(t, server, http.MethodOptions, "/private", page, "Access-Control-Request-Method", "DELETE")
		if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != page || resp.Header.Get("Access-Control-Allow-Methods") == "" {
			t.Errorf("%s: the preflight got %d %v", name, resp.StatusCode, resp.Header)
		}
	}
}

// An event arrives while the response goes on.
func TestStreaming(t *testing.T) {
	server := servertest.New(t, ":80 {\n\tlog {\n\t\toutput discard\n\t}\n\tcors "+page+"\n\treverse_proxy "+backend(t)+"\n}")
	resp := send(t, server, http.MethodGet, "/events", page)
	check(t, "events", resp, 200, page)
	event := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(resp.Body, event); err != nil || string(event) != "data: 1\n\n" {
		t.Errorf("got %q, %v", event, err)
	}
	_ = resp.Body.Close()
}

// An informational response passes, and does not use up the fields of the
// final one.
func TestEarlyHints(t *testing.T) {
	server := servertest.New(t, ":80 {\n\tcors "+page+"\n\treverse_proxy "+backend(t)+"\n}")
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, fields textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints && fields.Get("Link") != "" {
			hints++
		}
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/hints", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", page)
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	check(t, "hints", resp, 200, page)
	if hints != 1 {
		t.Errorf("got %d early hints", hints)
	}
}

// A site whose header directive edits the fields in place changes no other
// answer.
func TestEditedFieldsStayWhereTheyAre(t *testing.T) {
	service := backend(t)
	handler := servertest.Handler(t, `http://a.test {
	header {
		Vary Origin HACKED
		Access-Control-Expose-Headers X-Request-Id HACKED
		Access-Control-Allow-Origin https HACKED
		defer
	}
	cors `+page+`
	reverse_proxy `+service+`
}
http://b.test {
	cors `+page+`
	reverse_proxy `+service+`
}`)
	for i, host := range []string{"a.test", "b.test", "a.test", "b.test"} {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		r.Header.Set("Origin", page)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if host == "b.test" {
			check(t, fmt.Sprintf("request %d", i), w.Result(), 200, page)
		}
	}
}

// A `*` is the origin, or where there is another origin, the matcher, as it is
// for every directive.
func TestStar(t *testing.T) {
	for directive, want := range map[string]string{
		"cors *":                             "*",
		"cors * {\n\t\tmax_age 1m\n\t}":      "*",
		"cors {\n\t\tallowed_origins *\n\t}": "*",
		"cors /api/* *":                      "*",
		"cors * " + page:                     page,
		"cors * {\n\t\tallowed_origins " + page + "\n\t}": page,
		"route {\n\t\tcors *\n\t}":                        "*",
	} {
		server := servertest.New(t, ":80 {\n\t"+directive+"\n\trespond ok\n}")
		if got := send(t, server, http.MethodGet, "/api/x", page).Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: got %q, want %q", directive, got, want)
		}
	}
	server := servertest.New(t, ":80 {\n\tcors /api/* *\n\trespond ok\n}")
	if got := send(t, server, http.MethodGet, "/", page).Header["Access-Control-Allow-Origin"]; got != nil {
		t.Errorf("beside the matcher: got %q", got)
	}
}

func TestConfigurationErrorsAtLoad(t *testing.T) {
	for directive, want := range map[string]string{
		"cors * {\n\t\tallow_credentials\n\t}": "excludes allow_credentials",
		"cors null":                            "null is not an origin",
		"cors app.example.com":                 "write https://",
		"cors":                                 "missing origins",
	} {
		if _, err := servertest.Load(t, ":80 {\n\t"+directive+"\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", directive, err, want)
		}
	}
}
