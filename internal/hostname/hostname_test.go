package hostname_test

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/pythopus/tentagate/internal/hostname"
)

func TestNormal(t *testing.T) {
	for _, tc := range []struct{ in, want, host string }{
		{"acme.test", "acme.test", "acme.test"},
		{"Acme.TEST", "acme.test", "acme.test"},
		{"acme.test.", "acme.test", "acme.test"},
		{"ACME.test.:80", "acme.test", "acme.test"},
		{"acme.test:80", "acme.test", "acme.test"},
		{"acme.test:443", "acme.test", "acme.test"},
		{"acme.test:", "acme.test", "acme.test"},
		{"acme.test:080", "acme.test", "acme.test"},
		{"acme.test:8080", "acme.test:8080", "acme.test"},
		{"Acme.test:8080", "acme.test:8080", "acme.test"},
		{"acme.test.:8080", "acme.test:8080", "acme.test"},
		{"acme.test:08080", "acme.test:8080", "acme.test"},
		{"%61cme.te%73t", "acme.test", "acme.test"},
		{"%41cme.test", "acme.test", "acme.test"},
		{"a%2Fb", "a%2fb", "a%2fb"},
		{"a%2fb", "a%2fb", "a%2fb"},
		{"a%4", "a%4", "a%4"},
		{"a%zz", "a%zz", "a%zz"},
		{"xn--Bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "bÜcher.example", "bÜcher.example"},
		{"127.0.0.1:80", "127.0.0.1", "127.0.0.1"},
		{"[::1]", "[::1]", "[::1]"},
		{"[::1]:80", "[::1]", "[::1]"},
		{"[0:0::1]:8080", "[::1]:8080", "[::1]"},
		{"[2001:DB8::A]", "[2001:db8::a]", "[2001:db8::a]"},
		{"::1", "[::1]", "[::1]"},
		{"", "", ""},
		{":80", "", ""},
		{":", "", ""},
		{"acme.test:http", "acme.test:http", "acme.test:http"},
		{"[::1", "[::1]", "[::1]"},
	} {
		if got := hostname.Normal(tc.in); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
		if got := hostname.Host(tc.in); got != tc.host {
			t.Errorf("host of %q: got %q, want %q", tc.in, got, tc.host)
		}
	}
	for _, in := range []string{"acme.test", "acme.test:8080", "[::1]:8080", "acme.test:80"} {
		if n := testing.AllocsPerRun(100, func() { _ = hostname.Normal(in) }); n != 0 {
			t.Errorf("%q: %v allocations", in, n)
		}
	}
}

func TestPlaceholder(t *testing.T) {
	for _, tc := range []struct {
		name, host, want string
		tls              *tls.ConnectionState
	}{
		{name: "http.request.host", host: "Acme.test:80", want: "acme.test"},
		{name: "http.request.host", host: "[::1]:80", want: "[::1]"},
		{name: "http.request.hostport", host: "Acme.test.:81", want: "acme.test:81"},
		{name: "http.request.host.labels.0", host: "Acme.test.", want: "test"},
		{name: "http.request.host.labels.1", host: "Acme.test:80", want: "acme"},
		{name: "http.request.host.labels.2", host: "acme.test", want: ""},
		{name: "http.request.port", host: "acme.test", want: "80"},
		{name: "http.request.port", host: "acme.test:", want: "80"},
		{name: "http.request.port", host: "acme.test", want: "443", tls: &tls.ConnectionState{}},
		{name: "http.request.port", host: "acme.test:081", want: "81"},
		{name: "http.request.tls.server_name", want: "acme.test", tls: &tls.ConnectionState{ServerName: "ACME.test"}},
		{name: "http.request.tls.server_name", want: ""},
		{name: "http.request.header.X-Forwarded-Host", want: "acme.test"},
	} {
		read, ok := hostname.Placeholder(tc.name)
		if !ok {
			t.Fatalf("%s is a host", tc.name)
		}
		r := &http.Request{Host: tc.host, TLS: tc.tls, Header: http.Header{"X-Forwarded-Host": {"ACME.test:443"}}}
		if got := read(r); got != tc.want {
			t.Errorf("%s of %q: got %q, want %q", tc.name, tc.host, got, tc.want)
		}
	}
	for _, name := range []string{"http.request.uri.path", "http.request.header.X-Tenant", "http.request.host.labels.x", "host"} {
		if _, ok := hostname.Placeholder(name); ok {
			t.Errorf("%s is no host", name)
		}
	}
}
