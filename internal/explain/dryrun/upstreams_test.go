package dryrun_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain/dryrun"
	"github.com/pythopus/tentagate/internal/servertest"
)

// Without an available upstream a dry run goes on as a real request does.
func TestNoUpstream(t *testing.T) {
	const proxy = "reverse_proxy $ADDR {\n fail_duration 10m\n }"
	const circuits = "reverse_proxy $ADDR {\n transport tentagate {\n breaker $NAME {\n consecutive 1\n open_for 10m\n }\n }\n }"
	for name, tc := range map[string]struct {
		site   string
		status int
		last   string
	}{
		"alone":         {proxy, 503, "reverse_proxy refuses"},
		"handle_errors": {proxy + "\n handle_errors 503 {\n respond 451\n }", 451, "static_response answers"},
		"stale":         {"http_cache\n " + proxy, 200, "http_cache answers"},
		"circuits":      {"circuit_breaker around-$NAME {\n consecutive 100\n }\n " + circuits, 503, "circuit_breaker refuses"},
		"open":          {"circuit_breaker around-$NAME {\n consecutive 100\n open {\n respond 418\n }\n }\n " + circuits, 418, "static_response answers"},
	} {
		t.Run(name, func(t *testing.T) {
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=1, stale-if-error=600")
				w.Header().Set("Age", "2")
			}))
			site := strings.NewReplacer("$ADDR", service.Listener.Addr().String(), "$NAME", "dry-"+name).Replace(tc.site)
			server := servertest.Handler(t, ":80 {\n "+site+"\n}").(*caddyhttp.Server)
			send := func() int {
				w := httptest.NewRecorder()
				server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://"+name+".test/", nil))
				return w.Code
			}
			if status := send(); status != 200 {
				t.Fatalf("the service: %d", status)
			}
			service.Close()
			send() // fails
			answer, err := run(t, map[string]*caddyhttp.Server{"srv0": server}, &dryrun.Request{URL: "http://" + name + ".test/"})
			if err != nil {
				t.Fatal(err)
			}
			last := answer.Steps[len(answer.Steps)-1]
			if real := send(); answer.Status != tc.status || real != tc.status || last.Handler+" "+string(last.Result) != tc.last {
				t.Errorf("%d, of a real request %d: %+v", answer.Status, real, answer.Steps)
			}
		})
	}
}
