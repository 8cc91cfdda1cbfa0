package guard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/requestid"
)

// What Connection names is of this connection, unless it is for the service
// whatever a client says.
func TestConnectionNames(t *testing.T) {
	for _, tc := range []struct {
		connection []string
		gone, stay string
	}{
		{[]string{"X-Hop"}, "X-Hop", ""},
		{[]string{"x-hop"}, "X-Hop", ""},
		{[]string{"close, X-Hop"}, "X-Hop", ""},
		{[]string{"X-A,,\tX-B "}, "X-A X-B", ""},
		{[]string{"X-A", "X-B"}, "X-A X-B", "X-C"},
		{[]string{"keep-alive, Proxy-Hint, trailers"}, "Proxy-Hint", ""},
		{
			[]string{"Authorization, Cookie, Host, Cache-Control, Content-Type, Content-Length, Content-Encoding"},
			"",
			"Authorization Cookie Cache-Control Content-Type Content-Length Content-Encoding",
		},
		{
			[]string{"if-none-match, range, accept, accept-language, origin, sec-fetch-site, user-agent, x-request-id, idempotency-key, dpop, traceparent"},
			"",
			"If-None-Match Range Accept Accept-Language Origin Sec-Fetch-Site User-Agent X-Request-Id Idempotency-Key Dpop Traceparent",
		},
		{[]string{"a b, \"x\", (, ï"}, "", "X-A"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Connection"] = tc.connection
		for name := range strings.FieldsSeq(tc.gone + " " + tc.stay) {
			r.Header.Set(name, "1")
		}
		seen, _ := serve(t, new(Handler), r)
		for name := range strings.FieldsSeq(tc.gone) {
			if seen.Header.Get(name) != "" {
				t.Errorf("Connection %q: %s went on", tc.connection, name)
			}
		}
		for name := range strings.FieldsSeq(tc.stay) {
			if seen.Header.Get(name) == "" {
				t.Errorf("Connection %q: %s was dropped", tc.connection, name)
			}
		}
	}
}

// What decides about a request is read in its header, and so must not be in a trailer.
func TestTrailerNames(t *testing.T) {
	credentials.AddField("X-Trailer-Test")
	for name, want := range map[string]bool{
		"X-Sum": true, "Content-Digest": true, "Repr-Digest": true, "Grpc-Status": true, "Server-Timing": true,
		"Cookie": false, "X-Request-Id": false, "Authorization": false, "X-Api-Key": false, "Dpop": false, "X-User": false, "Traceparent": false,
		"X-Trailer-Test": false, "X-Acme-Api-Key": false, "Content-Type": false, "If-Match": false, "Accept": false, "X-Forwarded-For": false, "X-Real-Ip": false,
		"X-Http-Method-Override": false, "X~Sum": false, "Http2-Settings": false,
	} {
		if got := new(Handler).ordinaryTrailer(name); got != want {
			t.Errorf("%s: kept is %v", name, got)
		}
	}
}

// The server's client_ip_headers are fields of proxies wherever they are, in every spelling.
func TestClientFields(t *testing.T) {
	h := &Handler{clientFields: []string{"X-Edge-Visitor"}}
	for _, name := range []string{"X-Edge-Visitor", "X_edge_visitor", "X-Edge.visitor"} {
		if h.kindOf(name) != forwarded || h.ordinaryTrailer(name) || !h.endToEnd(name) {
			t.Errorf("%s is not taken for a field of a proxy", name)
		}
	}
	if h.kindOf("X-Edge") != ordinary || !h.ordinaryTrailer("X-Edge") || h.endToEnd("X-Edge") {
		t.Error("X-Edge is")
	}
}

// Fields that only look like those stay, and that of CGI programs' proxy never does.
func TestOtherFields(t *testing.T) {
	for name, want := range map[string]kind{
		"X-Client-Id": ordinary, "X-Client-Version": ordinary, "X-Ip": ordinary, "X-Device-Ip": ordinary, "X-Email-Address": ordinary, "X-Ship": ordinary, "X-Originals": ordinary,
		"X-For": ordinary, "Looking-For": ordinary, "Address": ordinary, "Ip": ordinary, "X-Array": ordinary, "X-Real": ordinary, "Proxy-Authorization": ordinary, "X-Proxy": ordinary,
		"Proxy": ambiguous, "X~Forwarded~Host": ambiguous, "X~Http~Method~Override": ambiguous, "X-Original-Url": override, "X-Http-Path-Override": override, "X-Override-Url": override,
	} {
		if got := kindOf(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// Who is near is known only where no field says that a proxy has another client.
func TestWhoNamesAClient(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Forwarded-For": true, "X-Real-Ip": true, "Forwarded": true, "Cf-Connecting-Ip": true, "X-Cluster-Client-Ip": true, "Fly-Client-Ip": true, "X-Azure-Clientip": true,
		"X-Original-Forwarded-For": true, "X-Envoy-External-Address": true, "X-Forwarded-Prefix": false, "X-Forwarded-Host": false, "X-Scheme": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set(name, "192.0.2.1")
		for _, keep := range [][]string{nil, {name}} {
			seen, _ := serve(t, &Handler{KeepForwarded: keep}, r.Clone(r.Context()))
			seen.Header.Del(name) // as a later handler may
			if n, _ := nearby.Parse([]string{"private_ranges"}); n.Has(seen) == want {
				t.Errorf("%s, keeping %q: near is %v", name, keep, want)
			}
		}
	}
}

// A trusted proxy's fields stay, also where a client behind it names them.
func TestForwardedFields(t *testing.T) {
	fields := strings.Fields("Forwarded X-Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Port X-Forwarded-Uri X-Forwarded-Method " +
		"X-Forwarded-Server X-Forwarded-Prefix X-Forwarded-User X-Forwarded-Client-Cert x-forwarded-anything X-Real-IP True-Client-IP X-Client-IP " +
		"CF-Connecting-IP CF-Connecting-IPv6 Fastly-Client-IP X-Cluster-Client-IP X-Original-Host X-Original-Forwarded-For Client-Cert X-SSL-Client-Cert Front-End-Https " +
		"X-Originating-IP Remote-Addr X-Original-Remote-Addr Proxy-Client-IP WL-Proxy-Client-IP HTTP-Client-IP Forwarded-For-IP X-Forward-For X-Vercel-Forwarded-For " +
		"DO-Connecting-IP Incap-Client-IP X-Sucuri-ClientIP Ali-CDN-Real-IP CDN-Src-IP X-Azure-ClientIP X-Azure-SocketIP X-Appengine-User-IP CloudFront-Viewer-Address " +
		"X-Client-Cert SSL-Client-Cert SSL-Client-Verify X-TLS-Client-Cert X-Client-Verify X-ARR-ClientCert X-ARR-SSL X-Envoy-External-Address X-Envoy-Original-Path X-Script-Name")
	for _, tc := range []struct {
		trusted    bool
		connection string
		keep       []string
		kept       func(name string) bool
	}{
		{false, "", nil, func(string) bool { return false }},
		{true, "", nil, func(string) bool { return true }},
		{true, strings.Join(fields, ", "), nil, func(string) bool { return true }},
		{false, "", []string{"x-real-ip", "X-Forwarded-Prefix"}, func(name string) bool { return name == "X-Real-IP" || name == "X-Forwarded-Prefix" }},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-User", "u")
		r.Header.Set("Via", "1.1 x")
		if tc.connection != "" {
			r.Header.Set("Connection", tc.connection)
		}
		for _, name := range fields {
			r.Header.Set(name, "1")
		}
		h := provisioned(t, &Handler{KeepForwarded: tc.keep})
		w := httptest.NewRecorder()
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, tc.trusted)
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			for _, name := range fields {
				if got := r.Header.Get(name) != ""; got != tc.kept(name) {
					t.Errorf("trusted %v, keeping %q: %s there: %v", tc.trusted, tc.keep, name, got)
				}
			}
			if r.Header.Get("X-User") == "" || r.Header.Get("Via") == "" {
				t.Error("a field of the client's own was dropped")
			}
			return nil
		})); err != nil {
			t.Error(err)
		}
	}
}

// Names that a service could spell as another's do not go on.
func TestOddNames(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, name := range []string{"X~User", "X!User", "X'User", "X|User", "X`User", "X+User", "X*User", "X#User", "X$User", "X%User", "X&User", "X^User"} {
		r.Header[name] = []string{"admin"}
	}
	r.Header["X_Allowed"], r.Header["x-Lower"] = []string{"1"}, []string{"1"} // the server's decision
	seen, _ := serve(t, new(Handler), r)
	if len(seen.Header) != 3 || seen.Header[requestid.Header] == nil {
		t.Errorf("the next handler saw %v", seen.Header)
	}
}

// HTTP/2 and HTTP/3 carry what HTTP/1.1 cannot: it is refused before a handler
// or a service reads it.
func TestFramedRequests(t *testing.T) {
	ok := func(*http.Request) {}
	for name, tc := range map[string]struct {
		change func(r *http.Request)
		status int
	}{
		"as it should be":       {ok, 204},
		"method with a blank":   {func(r *http.Request) { r.Method = "G ET" }, 400},
		"method with an end":    {func(r *http.Request) { r.Method = "GET / HTTP/1.0\r\n" }, 400},
		"no method":             {func(r *http.Request) { r.Method = "" }, 400},
		"method with a colon":   {func(r *http.Request) { r.Method = "GET:" }, 400},
		"version in the query":  {func(r *http.Request) { r.RequestURI = "/x?a HTTP/1.0" }, 400},
		"blank in the query":    {func(r *http.Request) { r.RequestURI = "/x?a b" }, 400},
		"blank in the path":     {func(r *http.Request) { r.RequestURI = "/x y" }, 400},
		"tab":                   {func(r *http.Request) { r.RequestURI = "/x?a\tb" }, 400},
		"line feed":             {func(r *http.Request) { r.RequestURI = "/x?a\nb" }, 400},
		"delete":                {func(r *http.Request) { r.RequestURI = "/x?a\x7f" }, 400},
		"fragment":              {func(r *http.Request) { r.RequestURI = "/x#a" }, 400},
		"a URL for a path":      {func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", "other.test" }, 400},
		"no authority":          {func(r *http.Request) { r.Host = "" }, 400},
		"user in the authority": {func(r *http.Request) { r.Host = "user@gateway.test" }, 400},
		"blank in it":           {func(r *http.Request) { r.Host = "gateway.test other" }, 400},
		"path in it":            {func(r *http.Request) { r.Host = "gateway.test/x" }, 400},
		"two hosts":             {func(r *http.Request) { r.Header["Host"] = []string{"other.test"} }, 400},
		"the same host":         {func(r *http.Request) { r.Header["Host"] = []string{"Example.com"} }, 204},
		"blank in front":        {func(r *http.Request) { r.Header["X-A"] = []string{"a", " b"} }, 400},
		"blank behind":          {func(r *http.Request) { r.Header["X-A"] = []string{"b "} }, 400},
		"tab behind":            {func(r *http.Request) { r.Header["X-A"] = []string{"b\t"} }, 400},
		"blank alone":           {func(r *http.Request) { r.Header["X-A"] = []string{" "} }, 400},
		"nothing":               {func(r *http.Request) { r.Header["X-A"] = []string{""} }, 204},
		"length without body":   {func(r *http.Request) { r.Header["Content-Length"] = []string{"5"} }, 400},
		"length of zero":        {func(r *http.Request) { r.Header["Content-Length"] = []string{"0"} }, 204},
		"no length":             {func(r *http.Request) { r.Header["Content-Length"] = []string{"0x0"} }, 400},
		"two lengths":           {func(r *http.Request) { r.Header["Content-Length"] = []string{"0", "0"} }, 400},
	} {
		for _, major := range []int{2, 3} {
			r := httptest.NewRequest(http.MethodGet, "/x", nil)
			r.ProtoMajor, r.ProtoMinor, r.Proto = major, 0, "HTTP/"+string(rune('0'+major))+".0"
			tc.change(r)
			if seen, w := serve(t, new(Handler), r); w.Code != tc.status || (seen != nil) != (tc.status == 204) {
				t.Errorf("HTTP/%d, %s: got %d", major, name, w.Code)
			}
		}
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"gateway.test": true, "gateway.test.": true, "gateway.test:8000": true, "gateway.test:": true, "GATEWAY.test": true, "a_b.test": true,
		"localhost": true, "127.0.0.1": true, "127.0.0.1:80": true, "[::1]": true, "[::1]:80": true, "[2001:db8::1]:": true, "xn--bcher-kva.test": true,
		"": false, ":80": false, "a b": false, " a": false, "a\t": false, "u@a": false, "u:p@a": false, "a/b": false, `a\b`: false, "a?b": false, "a#b": false,
		"a:b": false, "a:80:80": false, "a:65536": false, "a:-1": false, "a:+1": false, "::1": false, "[::1": false, "[::1]x": false, "[::1%25eth0]": false,
		"[a]": false, "[127.0.0.1]": false, "[]": false, "a,b": false, "a%2eb": false, "a<b": false, "é": false, "a]": false, "[::1]:x": false,
	} {
		if got := validHost(host); got != want {
			t.Errorf("%q: got %v", host, got)
		}
	}
}

func TestUpgradeInHTTP10(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.ProtoMinor, r.Proto = 0, "HTTP/1.0"
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	if seen, _ := serve(t, new(Handler), r); seen.Header["Upgrade"] != nil || seen.Header["Connection"] != nil {
		t.Errorf("the next handler saw %v", seen.Header)
	}
}
