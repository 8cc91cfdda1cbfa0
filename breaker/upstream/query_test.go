package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// A QUERY that an upstream has got may be sent to another, as a GET is, as long as
// its body was kept. Requests that may change something are sent once.
func TestQueryIsTriedAgain(t *testing.T) {
	const kept = 64 << 10
	for name, tc := range map[string]struct {
		method  string
		size    int
		chunked bool
		options string
		again   bool
	}{
		"GET":                       {"GET", 0, false, "", true},
		"GET with a small one":      {"GET", 10, true, "", true},
		"GET, of known length":      {"GET", 10, false, "", true},
		"GET with a large one":      {"GET", kept + 1, true, "", false},
		"no body":                   {"QUERY", 0, false, "", true},
		"an empty one, chunked":     {"QUERY", 0, true, "", true},
		"a small one":               {"QUERY", 10, false, "", true},
		"a small one, chunked":      {"QUERY", 10, true, "", true},
		"the largest":               {"QUERY", kept, false, "", true},
		"the largest, chunked":      {"QUERY", kept, true, "", true},
		"too large":                 {"QUERY", kept + 1, false, "", false},
		"too large, chunked":        {"QUERY", kept + 1, true, "", false},
		"much too large":            {"QUERY", 4 * kept, true, "", false},
		"POST":                      {"POST", 10, false, "", false},
		"PUT":                       {"PUT", 10, false, "", false},
		"an unknown method":         {"query", 10, false, "", false},
		"what the operator matches": {"QUERY", 10, false, "lb_retry_match method PUT", false},
		"no retries":                {"QUERY", 10, false, "lb_retries 0", false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var bodies []string
			// The first one that is asked takes the request and breaks off.
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				bodies = append(bodies, string(body))
				first := len(bodies) == 1
				mu.Unlock()
				if first {
					panic(http.ErrAbortHandler)
				}
				_, _ = fmt.Fprintf(w, "%s %d", r.Method, len(body))
			}))
			defer s.Close()
			options := tc.options
			if !strings.Contains(options, "lb_retries") {
				options += "\n\t\tlb_retries 2"
			}
			gateway := servertest.New(t, `
:80 {
	reverse_proxy `+s.Listener.Addr().String()+` {
		`+options+`
		transport tentagate {
			breaker query-upstream {
				consecutive 100
			}
		}
	}
}`)
			sent := strings.Repeat("0123456789", tc.size/10+1)[:tc.size]
			r, err := http.NewRequest(tc.method, gateway.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.size > 0 || tc.chunked {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(sent)), int64(tc.size)
				if tc.chunked {
					r.ContentLength = -1
				}
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			mu.Lock()
			defer mu.Unlock()
			want := 1
			if tc.again {
				want = 2
			}
			if len(bodies) != want {
				t.Errorf("it was sent %d times, want %d", len(bodies), want)
			}
			for i, body := range bodies {
				if body != sent {
					t.Errorf("attempt %d: %d bytes came, want %d", i+1, len(body), len(sent))
				}
			}
			switch {
			case tc.again && (resp.StatusCode != http.StatusOK || string(answer) != fmt.Sprintf("%s %d", tc.method, tc.size)):
				t.Errorf("%d %s", resp.StatusCode, answer)
			case !tc.again && resp.StatusCode != http.StatusBadGateway:
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
}
