package caddyfile_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	_ "github.com/pythopus/tentagate"
	"github.com/pythopus/tentagate/internal/servertest"
)

const secret = "a-secret-of-the-tests-of-this-package-0123456789"

func bearer(t *testing.T, subject string) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": subject, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + text
}

// seen is what a service got.
type seen struct{ Method, Target, Prefix, Host, Body string }

func service(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Header.Get("X-Forwarded-Prefix"), r.Host, string(body)})
	}))
	t.Cleanup(s.Close)
	return s
}

func environment(t *testing.T, assignments ...string) {
	t.Helper()
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, "JWT_") || strings.HasSuffix(name, "_SERVICE_URL") || name == "ALLOWED_ORIGINS" || name == "REDIS_URL" {
			t.Setenv(name, "")
		}
	}
	t.Setenv("JWT_SECRET_KEY", secret)
	for _, assignment := range assignments {
		name, value, _ := strings.Cut(assignment, "=")
		t.Setenv(name, value)
	}
}

// ask sends a request and returns the status, the header and the body. The
// target is sent as it is written.
func ask(t *testing.T, base, method, target string, fields ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(target, "?")
	req.URL.Opaque, req.URL.RawQuery = path, query
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// Every path of the gateway, and what the service behind it is asked for.
func TestRoutes(t *testing.T) {
	backend := service(t)
	environment(t, fmt.Sprintf(`BACKEND_SERVICES={"users":%q,"v":"%s/base/$1%%20x/"}`, backend.URL, backend.URL))
	gateway := servertest.New(t, `:80 {
	@health path /api/v/healthz
	tentagate {
		ratelimit off
		public /api/users/login /api/users/open/* @health
	}
}`).URL
	token := bearer(t, "ann")

	for _, tc := range []struct {
		method, target string
		anonymous      bool
		status         int
		want           string // the target that the service got
	}{
		{method: "GET", target: "/api/users/a/b?x=%2F&y=a+b", status: 200, want: "/a/b?x=%2F&y=a+b"},
		{method: "PATCH", target: "/api/users/a%20b", status: 200, want: "/a%20b"},
		{method: "GET", target: "/api/users/%C3%A9/%23", status: 200, want: "/%C3%A9/%23"},
		{method: "GET", target: "/api/users", status: 200, want: "/"},
		{method: "GET", target: "/api/users/", status: 200, want: "/"},
		{method: "GET", target: "/api/users?a=1", status: 200, want: "/?a=1"},
		{method: "GET", target: "/api/users/api/users/x", status: 200, want: "/api/users/x"},
		{method: "GET", target: "/API/Users/X", status: 200, want: "/X"},
		{method: "GET", target: "/api/%75sers/x", status: 200, want: "/x"},
		{method: "GET", target: "/api/v/x%20y", status: 200, want: "/base/$1%20x/x%20y"},
		{method: "GET", target: "/api/v", status: 200, want: "/base/$1%20x/"},
		{method: "GET", target: "/api/v/", status: 200, want: "/base/$1%20x/"},
		{method: "OPTIONS", target: "/api/users/x", status: 200, want: "/x"},

		{method: "GET", target: "/api/users/x", anonymous: true, status: 401},
		{method: "GET", target: "/api/nobody/x", anonymous: true, status: 401},
		{method: "GET", target: "/api/", anonymous: true, status: 401},
		{method: "GET", target: "/api/users/login", anonymous: true, status: 200, want: "/login"},
		{method: "GET", target: "/api/users/login/", anonymous: true, status: 401},
		{method: "GET", target: "/api/users/open/x", anonymous: true, status: 200, want: "/open/x"},
		{method: "GET", target: "/api/users/opener", anonymous: true, status: 401},
		{method: "GET", target: "/api/users/open/../x", anonymous: true, status: 400},
		{method: "GET", target: "/api/users/open/%2e%2e/x", anonymous: true, status: 400},
		{method: "GET", target: "/api/users/open%2fx", anonymous: true, status: 400},
		{method: "GET", target: "/api/v/healthz", anonymous: true, status: 200, want: "/base/$1%20x/healthz"},

		{method: "GET", target: "/api/nobody/x", status: 404},
		{method: "GET", target: "/api/usersx/y", status: 404},
		{method: "GET", target: "/api/", status: 404},
		{method: "GET", target: "/api", status: 404},
		{method: "GET", target: "/users/x", status: 404},
		{method: "GET", target: "/apis/users/x", status: 404},
		{method: "POST", target: "/", status: 404},
		{method: "GET", target: "/health", anonymous: true, status: 200},
		{method: "GET", target: "/livez", anonymous: true, status: 200},
		{method: "GET", target: "/readyz", anonymous: true, status: 200},
		{method: "GET", target: "/metrics", anonymous: true, status: 200},
		{method: "GET", target: "/", anonymous: true, status: 200},
		{method: "HEAD", target: "/", anonymous: true, status: 200},
	} {
		name := tc.method + " " + tc.target
		if tc.anonymous {
			name += " anonymous"
		}
		t.Run(name, func(t *testing.T) {
			fields := []string{"X-Forwarded-Prefix", "/of/the/client"}
			if !tc.anonymous {
				fields = append(fields, "Authorization", token)
			}
			status, header, body := ask(t, gateway, tc.method, tc.target, fields...)
			if status != tc.status {
				t.Fatalf("status %d, want %d: %s", status, tc.status, body)
			}
			if tc.want != "" {
				var got seen
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Fatal(err)
				}
				if got.Target != tc.want || got.Method != tc.method {
					t.Errorf("the service got %s %s, want %s", got.Method, got.Target, tc.want)
				}
				if got.Prefix != "/api/users" && got.Prefix != "/api/v" {
					t.Errorf("X-Forwarded-Prefix %q", got.Prefix)
				}
			}
			if status >= 400 {
				var p struct {
					Status   int
					Detail   string
					Instance string
				}
				if header.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(body), &p) != nil || p.Status != status || p.Detail == "" || p.Instance == "" {
					t.Errorf("%s %s", header.Get("Content-Type"), body)
				}
			}
		})
	}

	t.Run("details", func(t *testing.T) {
		if _, _, body := ask(t, gateway, "GET", "/api/nobody/x", "Authorization", token); !strings.Contains(body, `"detail":"Service not found"`) {
			t.Error(body)
		}
		_, header, body := ask(t, gateway, "GET", "/")
		var welcome struct {
			Name, Version string
			Links         map[string]string
		}
		if err := json.Unmarshal([]byte(body), &welcome); err != nil || welcome.Name != "TentaGate" || welcome.Version == "" || header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %s", err, body)
		}
		for _, link := range welcome.Links {
			if status, _, _ := ask(t, gateway, "GET", link); status != 200 {
				t.Errorf("the link %s leads to %d", link, status)
			}
		}
		if _, _, body := ask(t, gateway, "GET", "/metrics"); !strings.Contains(body, "tentagate_") {
			t.Error("no series of TentaGate")
		}
	})
}

// unique returns a name for what outlives a gateway in this process.
func unique() string { return "t" + strings.ToLower(rand.Text()[:10]) }

// Answers are kept for the user who asked, and the 101st request is refused.
func TestCacheAndLimit(t *testing.T) {
	count := 0
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		count++
		_, _ = fmt.Fprint(w, count)
	}))
	defer backend.Close()
	environment(t, "BACKEND_SERVICES=s="+backend.URL, "ALLOWED_ORIGINS=https://app.example.com/")
	gateway := servertest.New(t, ":80 {\n\ttentagate {\n\t\tratelimit 100/1m {\n\t\t\tzone "+unique()+"\n\t\t}\n\t}\n}").URL
	get := func(user string) (int, http.Header, string) {
		return ask(t, gateway, "GET", "/api/s/x", "Authorization", bearer(t, user), "Origin", "https://app.example.com")
	}
	_, header, first := get("ann")
	if _, _, again := get("ann"); again != first {
		t.Errorf("ann got %s, then %s", first, again)
	}
	if _, _, other := get("bob"); other == first {
		t.Error("bob got the answer that is ann's")
	}
	if header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("CORS: %v", header)
	}
	passed, status := 3, 200
	for ; passed <= 110; passed++ {
		if status, header, _ = get("ann"); status != 200 {
			break
		}
	}
	if status != 429 || passed != 100 || header.Get("Retry-After") == "" {
		t.Errorf("%d requests passed, then came %d %v", passed, status, header)
	}
}

// One service's breaker leaves the others alone, and a 4xx leaves it closed.
func TestBreakers(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fail":
			w.WriteHeader(http.StatusInternalServerError)
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer backend.Close()
	breaking, neighbour := unique(), unique()
	environment(t, "BACKEND_SERVICES="+breaking+"="+backend.URL+","+neighbour+"="+backend.URL)
	gateway := servertest.New(t, ":80 {\n\ttentagate {\n\t\tcache off\n\t\tratelimit off\n\t}\n}").URL
	get := func(path string) int {
		status, _, _ := ask(t, gateway, "GET", path, "Authorization", bearer(t, "ann"))
		return status
	}
	for range 10 {
		get("/api/" + breaking + "/missing")
	}
	for i := range 5 {
		if status := get("/api/" + breaking + "/fail"); status != 500 {
			t.Errorf("failure %d: %d", i+1, status)
		}
	}
	if status := get("/api/" + breaking + "/x"); status != 503 {
		t.Errorf("after 5 failures: %d", status)
	}
	if status := get("/api/" + neighbour + "/x"); status != 200 {
		t.Errorf("the neighbour: %d", status)
	}
}

// handle_errors restyles what the directive refuses.
func TestHandleErrors(t *testing.T) {
	environment(t, "BACKEND_SERVICES=s=http://127.0.0.1:1")
	gateway := servertest.New(t, ":80 {\n\ttentagate\n\thandle_errors {\n\t\trespond \"own {err.status_code}\"\n\t}\n}").URL
	for path, want := range map[string]string{"/nothing": "own 404", "/api/s/x": "own 401"} {
		if _, _, body := ask(t, gateway, "GET", path); body != want {
			t.Errorf("%s: %q", path, body)
		}
	}
}

// What the environment lacks is told when the configuration is loaded.
func TestMissingKeys(t *testing.T) {
	for _, tc := range []struct{ assignment, want string }{
		{"JWT_SECRET_KEY=", "JWT_SECRET_KEY"},
		{"JWT_SECRET_KEY=short", "32"},
	} {
		environment(t, "BACKEND_SERVICES=s=http://127.0.0.1:1", tc.assignment)
		_, err := servertest.Load(t, ":80 {\n\ttentagate\n}")
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.assignment, err, tc.want)
		}
	}
}
