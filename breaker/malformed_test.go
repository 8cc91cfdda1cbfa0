package breaker

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// However malformed the requests of clients are, none counts as a failure of the
// service.
func TestMalformedRequests(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker malformed {
		consecutive 1
		trip 1% of 1
	}
	reverse_proxy `+p.addr+`
}`)
	addr := gateway.Listener.Addr().String()
	const host = " HTTP/1.1\r\nHost: x\r\n"
	for _, text := range []string{
		"CONNECT x:80" + host + "\r\n",
		"CONNECT /path" + host + "\r\n",
		"OPTIONS *" + host + "\r\n",
		"GET *" + host + "\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"M-SEARCH /" + host + "\r\n",
		"get /" + host + "\r\n",
		"GET //x//y/../z/%2e%2e/%2F" + host + "\r\n",
		"GET /%00%0d%0a" + host + "\r\n",
		"GET /%zz" + host + "\r\n",
		"GET /\x80\xff" + host + "\r\n",
		"GET /a?%zz;&=\x80" + host + "\r\n",
		"GET /#fragment" + host + "\r\n",
		"GET http://user:pass@other:99999/x" + host + "\r\n",
		"GET http:///x" + host + "\r\n",
		"GET http://[::1/x" + host + "\r\n",
		"GET urn:x" + host + "\r\n",
		"GET ftp://x/y" + host + "\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: \r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x:port\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: \x80\r\n\r\n",
		"GET /" + host + "X: \x80\xff\x01\r\n\r\n",
		"GET /" + host + "X: \x80\xff\r\n\r\n",
		"GET /" + host + "X : y\r\n\r\n",
		"GET /" + host + "Content-Length: -1\r\n\r\n",
		"GET /" + host + "Content-Length: 5\r\n\r\nhello",
		"GET /" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"GET /" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"GET /" + host + "Transfer-Encoding: identity\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: \x01\x80\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX Y: z\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nUnannounced: z\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n",
		"POST /" + host + "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 10_000) + "\r\nhello\r\n0\r\n\r\n",
		"POST /" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
		"POST /" + host + "Expect: the worst\r\nContent-Length: 0\r\n\r\n",
		"GET /" + host + "Connection: close, upgrade, x\r\nUpgrade: nothing\r\n\r\n",
		"GET /" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /" + host + "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
		"GET /" + host + "Connection: upgrade\r\nUpgrade: \x80\r\n\r\n",
		"GET /" + host + "TE: trailers, gzip;q=\r\n\r\n",
		"GET /" + host + "Content-Type: application/grpc\r\nTE: trailers\r\nGrpc-Timeout: 0n\r\n\r\n",
		"GET /" + host + "X: " + strings.Repeat("x", 100_000) + "\r\n\r\n",
		"GET /" + strings.Repeat("x", 100_000) + host + "\r\n",
	} {
		_, _ = raw(addr, text, false)
		if s := stands(t, "malformed"); s.State != "closed" || s.Failures != 0 {
			t.Fatalf("%.80q: %+v", text, s)
		}
	}
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
	gateway.Close() // the last request has ended then
	if s := stands(t, "malformed"); s.State != "closed" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}
