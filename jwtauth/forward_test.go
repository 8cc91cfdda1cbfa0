package jwtauth

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy" // to the service of the test

	"github.com/pythopus/tentagate/internal/servertest"
)

// What a hostile client says of itself never reaches the service, through the
// real proxy, and what the token says always does.
func TestForwardThroughTheProxy(t *testing.T) {
	seen := make(chan http.Header, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }))
	defer service.Close()
	gateway := servertest.New(t, ":80 {\n jwt_auth "+secret+" {\n optional\n forward sub X-User-Id\n forward org.id X-Org\n }\n reverse_proxy "+strings.TrimPrefix(service.URL, "http://")+"\n}")
	address := strings.TrimPrefix(gateway.URL, "http://")
	// The client writes its fields itself: Go's would mend them.
	ask := func(fields ...string) (int, http.Header) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		select {
		case h := <-seen:
			return resp.StatusCode, h
		default:
			return resp.StatusCode, nil
		}
	}
	auth := func(sub any) string {
		return "Authorization: Bearer " + mint(t, secret, jwt.MapClaims{"sub": sub})
	}
	for name, fields := range map[string][]string{
		"plain":                    {},
		"same name":                {"X-User-Id: mallory"},
		"twice":                    {"X-User-Id: mallory", "X-User-Id: mallory"},
		"other case":               {"x-uSER-iD: mallory"},
		"underscores":              {"X_User_Id: mallory", "X-User_Id: mallory", "x_user-id: mallory"},
		"connection":               {"Connection: close, X-User-Id"},
		"connection, other case":   {"Connection: x-user-ID"},
		"connection, twice":        {"Connection: keep-alive", "Connection: X-User-Id , x_user_id"},
		"connection, empty items":  {"Connection: ,,X-User-Id,,"},
		"proxy-connection":         {"Proxy-Connection: X-User-Id"},
		"connection and a forgery": {"Connection: X-User-Id", "X-User-Id: mallory", "X_USER_ID: mallory"},
		"another claim's field":    {"X-Org: mallory", "X_org: mallory"},
	} {
		for _, who := range []string{"ann", ""} {
			all := fields
			if who != "" {
				all = append([]string{auth(who)}, fields...)
			}
			status, h := ask(all...)
			if status != 200 || h.Get("X-User-Id") != who || (who == "") != (h["X-User-Id"] == nil) {
				t.Errorf("%s, user %q: %d, the service got %q", name, who, status, h["X-User-Id"])
			}
			for field, values := range h {
				if strings.Contains(strings.Join(values, " "), "mallory") {
					t.Errorf("%s, user %q: the service got %s %q", name, who, field, values)
				}
			}
		}
	}
	for _, sub := range []string{"a\r\nX-Admin: 1", "a\nb", "a\x00", "\t", "a\tb", "a\x7f", "a\u0085", "a\u009b", " ann", "ann "} {
		if status, h := ask(auth(sub)); status != 401 || h != nil {
			t.Errorf("subject %q: %d", sub, status)
		}
	}
	for _, sub := range []string{"", "Zoë", "日本", "a b", `"quoted"`, "a,b"} {
		if status, h := ask(auth(sub)); status != 200 || h.Get("X-User-Id") != sub {
			t.Errorf("subject %q: %d, the service got %q", sub, status, h["X-User-Id"])
		}
	}
}

// Only where the claim is written as a header field, and the field as a claim, they were
// swapped.
func TestForwardSwapped(t *testing.T) {
	for _, tc := range []struct {
		claim, header string
		ok            bool
	}{
		{"X-User", "sub", false},
		{"User-Id", "org-name", false},
		{"X-User", "Sub", true},
		{"X-User", "x-user", true},
		{"x-hasura-role", "Role", true},
		{"x-tenant", "Tenant", true},
		{"x-hasura-role", "role", true},
		{"sub", "user", true},
	} {
		f := Forward{Claim: tc.claim, Header: tc.header}
		if err := f.validate(); (err == nil) != tc.ok {
			t.Errorf("forward %s %s: %v", tc.claim, tc.header, err)
		}
	}
}
