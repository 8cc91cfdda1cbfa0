package caddyfile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// Errors of handlers in front of the gateway are answered with a problem too,
// wherever the directive or guard stands, unless handle_errors restyles them. A
// site without either stays as Caddy has it.
func TestErrorsInFront(t *testing.T) {
	backend := service(t)
	environment(t, "BACKEND_SERVICES=s="+backend.URL)
	const (
		bob      = "basic_auth {\n bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n"
		problems = "a problem"
	)
	upstream := strings.TrimPrefix(backend.URL, "http://")
	for _, tc := range []struct {
		name, site string
		path       string
		status     int
		want       string // of the body; problems stands for a problem
	}{
		{"basic_auth", bob + "tentagate", "/api/s/x", 401, problems},
		{"basic_auth, another path", bob + "tentagate", "/nothing", 401, problems},
		{"error", "error /gone 410\ntentagate", "/gone", 410, problems},
		{"error with a text", "error /gone \"10.1.2.3 said no\" 502\ntentagate", "/gone", 502, problems},
		{"error without a standard text", "error /gone 599\ntentagate", "/gone", 599, problems},
		{"in a handle", "handle /gone {\nerror 410\n}\ntentagate", "/gone", 410, problems},
		{"directive in a handle", bob + "handle /api/* {\ntentagate\n}", "/api/s/x", 401, problems},
		{"directive in a route", "route {\nerror /gone 410\ntentagate\n}", "/gone", 410, problems},
		{"proxy in front", "handle /x/* {\nreverse_proxy 127.0.0.1:1\n}\ntentagate", "/x/y", 502, problems},
		{"guard alone", "guard\n" + bob + "reverse_proxy " + upstream, "/x", 401, problems},
		{"guard, then error", "guard\nerror /gone 410\nreverse_proxy " + upstream, "/gone", 410, problems},
		{"guard behind", "route {\nerror /gone 410\nguard\nreverse_proxy " + upstream + "\n}", "/gone", 410, problems},
		{"restyled", bob + "tentagate\nhandle_errors {\nrespond \"own {err.status_code}\"\n}", "/api/s/x", 401, "own 401"},
		{"restyled, of the directive", "tentagate\nhandle_errors {\nrespond \"own {err.status_code}\"\n}", "/api/s/x", 401, "own 401"},
		{"restyled with guard", "guard\n" + bob + "handle_errors {\nrespond \"own {err.status_code}\"\n}", "/x", 401, "own 401"},
		{"restyled for its status", bob + "tentagate\nhandle_errors 401 {\nrespond own\n}", "/api/s/x", 401, "own"},
		{"restyled for another status", bob + "tentagate\nhandle_errors 404 {\nrespond own\n}", "/api/s/x", 401, problems},
		{"error routes that answer nothing", bob + "tentagate\nhandle_errors {\nheader X-Y z\n}", "/api/s/x", 401, problems},
		{"neither", bob + "respond hello", "/x", 401, ""},
	} {
		for _, around := range []string{"", "http://other.test:80 {\nguard\n}\n", "http://other.test:80 {\nhandle_errors {\nrespond other\n}\n}\n"} {
			gateway := servertest.New(t, around+"http://:80 {\n"+tc.site+"\n}").URL
			status, header, body := ask(t, gateway, "GET", tc.path)
			if status != tc.status {
				t.Errorf("%s: status %d, want %d", tc.name, status, tc.status)
			}
			if tc.want != problems {
				if body != tc.want {
					t.Errorf("%s: got %q, want %q", tc.name, body, tc.want)
				}
				continue
			}
			var p struct {
				Type, Title, Instance string
				Status                int
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != status || p.Type == "" || p.Instance == "" || strings.Contains(body, "10.1") ||
				header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %v %s %q", tc.name, err, header.Get("Content-Type"), body)
			}
			if status == 401 && strings.Contains(tc.site, bob) && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic") {
				t.Errorf("%s: %v", tc.name, header)
			}
			if status, _, body := ask(t, gateway, "HEAD", tc.path); status != tc.status || body != "" {
				t.Errorf("%s: HEAD: %d %q", tc.name, status, body)
			}
		}
	}
}
