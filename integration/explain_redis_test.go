package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/redistest"
)

// With limits in Redis, and without it, a dry run has the verdict of the request that
// follows.
func TestExplainLimitsInRedis(t *testing.T) {
	server := redistest.Start(t)
	g := start(t, `{
	admin $ADMIN
	auto_https off
	tentagate {
		redis `+server.URL()+` {
			timeout 5s
			dial_timeout 5s
		}
	}
}
http://$ADDR {
	route {
		ratelimit /delay* 3/1h {
			zone explained-delay
			delay 1s
			budget 5s
		}
		ratelimit /cost* 25/1h {
			zone explained-cost
			cost 10
			budget 5s
		}
		ratelimit /deny* 25/1h {
			zone explained-deny
			on_store_error deny
			budget 5s
		}
		respond ok
	}
}
`)
	compare := func(path string, times int, refused bool) {
		t.Helper()
		var e explained
		for range times {
			resp, err := http.Post("http://"+g.admin+"/tentagate/explain", "application/json", strings.NewReader(`{"url":"`+g.url(path)+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			e = explained{}
			if err := json.Unmarshal(text, &e); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", resp.StatusCode, text)
			}
			real := g.get(path)
			if e.Status != real.status {
				t.Errorf("%s: %d, of the request %d: %+v", path, e.Status, real.status, e.Steps)
			}
			if wait := e.Fields["Retry-After"]; real.header.Get("Retry-After") != "" {
				want, _ := strconv.Atoi(real.header.Get("Retry-After"))
				if got, _ := strconv.Atoi(strings.Join(wait, "")); got < want-60 || got > want+60 {
					t.Errorf("%s: Retry-After %d, of the request %d", path, got, want)
				}
			}
		}
		if (e.Outcome == "refused") != refused {
			t.Errorf("%s: %+v", path, e)
		}
	}
	compare("/delay", 5, true)
	compare("/cost", 4, true)
	compare("/deny", 1, false)
	server.Kill()
	compare("/delay?gone", 2, true)
	compare("/cost?gone", 2, true)
	compare("/deny?gone", 2, true)
}
