package guard_test

import (
	"net/http/httptest"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// The server's client_ip_headers are fields of its proxies.
func TestClientIPHeaders(t *testing.T) {
	const options = "{\n\tadmin off\n\tauto_https off\n\tlog {\n\t\toutput discard\n\t}\n\tservers {\n\t\ttrusted_proxies static 10.0.0.0/8\n\t\tclient_ip_headers x-edge-visitor\n\t}\n}\n"
	for block, want := range map[string]string{"guard": "/a <>", "": "/a <192.0.2.1>"} {
		config, err := servertest.Adapt(options + ":80 {\n\t" + block + "\n\trespond \"{path} <{header.X-Edge-Visitor}>\"\n}")
		if err != nil {
			t.Fatal(err)
		}
		handler, err := servertest.LoadJSON(t, config)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		if _, _, body := raw(t, server, "GET /a HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nX-Edge-Visitor: 192.0.2.1\r\n\r\n"); body != want {
			t.Errorf("%s: %s, want %s", block, body, want)
		}
	}
}
