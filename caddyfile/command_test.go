package caddyfile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const testSecret = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPaQeUiOoXtYw-VkZbMhJgFdSlNpArCuEvTq3"

func writeKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := t.TempDir() + "/key.pem"
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenCommand(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	public, edKey, _ := ed25519.GenerateKey(rand.Reader)
	sec1, _ := x509.MarshalECPrivateKey(ecKey)
	now := time.Now()
	for _, tc := range []struct {
		name      string
		command   tokenCommand
		algorithm string
		key       any
	}{
		{"secret", tokenCommand{secret: testSecret}, "HS256", []byte(testSecret)},
		{"HS512", tokenCommand{secret: testSecret, algorithm: "HS512"}, "HS512", []byte(testSecret)},
		{"RSA", tokenCommand{keyFile: writeKey(t, rsaKey)}, "RS256", &rsaKey.PublicKey},
		{"PKCS #1", tokenCommand{keyFile: writePEM(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), algorithm: "PS256"}, "PS256", &rsaKey.PublicKey},
		{"P-256", tokenCommand{keyFile: writeKey(t, ecKey)}, "ES256", &ecKey.PublicKey},
		{"SEC 1", tokenCommand{keyFile: writePEM(t, "EC PRIVATE KEY", sec1)}, "ES256", &ecKey.PublicKey},
		{"P-384", tokenCommand{keyFile: writeKey(t, ec384)}, "ES384", &ec384.PublicKey},
		{"Ed25519", tokenCommand{keyFile: writeKey(t, edKey)}, "EdDSA", public},
		{"Ed25519 by its own name", tokenCommand{keyFile: writeKey(t, edKey), algorithm: "Ed25519"}, "Ed25519", public},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnvironment(t)
			tc.command.subject, tc.command.ttl, tc.command.keyID = "ann", "15m", "k1"
			tc.command.claims = []string{"plan=gold", "n=5", `roles=["a","b"]`, "text=a=b"}
			text, err := tc.command.make(now)
			if err != nil {
				t.Fatal(err)
			}
			if tc.algorithm == "Ed25519" {
				// The library knows the curve by the older name alone.
				jwt.RegisterSigningMethod("Ed25519", func() jwt.SigningMethod { return ed25519Method{jwt.SigningMethodEdDSA} })
			}
			parsed, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return tc.key, nil }, jwt.WithValidMethods([]string{tc.algorithm}))
			if err != nil {
				t.Fatal(err)
			}
			claims := parsed.Claims.(jwt.MapClaims)
			if claims["sub"] != "ann" || claims["plan"] != "gold" || claims["n"] != 5.0 || len(claims["roles"].([]any)) != 2 || claims["text"] != "a=b" || parsed.Header["kid"] != "k1" {
				t.Errorf("%v %v", parsed.Header, claims)
			}
			if exp, _ := claims.GetExpirationTime(); exp.Unix() != now.Add(15*time.Minute).Unix() {
				t.Errorf("expires %v", exp)
			}
		})
	}
}

func TestTokenCommandErrors(t *testing.T) {
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for _, tc := range []struct {
		name    string
		command tokenCommand
		want    string
	}{
		{"none", tokenCommand{}, "no key: set JWT_SECRET_KEY, or give --secret or --key"},
		{"both", tokenCommand{secret: testSecret, keyFile: "x"}, "--secret and --key are both given"},
		{"short", tokenCommand{secret: "short"}, "the secret has 5 bytes: HS256 takes at least 32"},
		{"ttl", tokenCommand{secret: testSecret, ttl: "-1h"}, "--ttl \"-1h\""},
		{"claim", tokenCommand{secret: testSecret, claims: []string{"x"}}, "--claim \"x\": write it as name=value"},
		{"algorithm", tokenCommand{secret: testSecret, algorithm: "RS256"}, "algorithm \"RS256\" does not fit the key: accepted are HS256, HS384, HS512"},
		{"algorithm of the key", tokenCommand{keyFile: writeKey(t, ecKey), algorithm: "ES384"}, "accepted are ES256"},
		{"curve", tokenCommand{keyFile: writeKey(t, p224)}, "the curve P-224 is not used in tokens"},
		{"no file", tokenCommand{keyFile: "/does/not/exist"}, "no such file"},
		{"no PEM", tokenCommand{keyFile: writePEM(t, "CERTIFICATE", []byte("x"))}, "no private key in PEM form"},
		{"encrypted", tokenCommand{keyFile: writePEM(t, "ENCRYPTED PRIVATE KEY", []byte("x"))}, "the key is encrypted"},
		{"broken", tokenCommand{keyFile: writePEM(t, "PRIVATE KEY", []byte("x"))}, "its PRIVATE KEY cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnvironment(t)
			if tc.command.ttl == "" {
				tc.command.ttl = "1h"
			}
			if _, err := tc.command.make(time.Now()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// The token's claims are those that a gateway with the same environment wants.
func TestTokenOfEnvironment(t *testing.T) {
	clearEnvironment(t)
	t.Setenv(envSecret, testSecret+"\n")
	t.Setenv(envAlgorithm, "HS384")
	t.Setenv(envIssuer, "https://issuer.example.com")
	t.Setenv(envAudience, "api, web")
	text, err := (&tokenCommand{ttl: "1h", subject: "ann"}).make(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return []byte(testSecret), nil },
		jwt.WithValidMethods([]string{"HS384"}), jwt.WithIssuer("https://issuer.example.com"), jwt.WithAudience("api"), jwt.WithSubject("ann")); err != nil {
		t.Error(err)
	}
}

func TestHealthcheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
		case "/moved":
			http.Redirect(w, r, "/health", http.StatusFound)
		case "/hangs":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	for url, want := range map[string]string{
		server.URL + "/health": "",
		server.URL + "/readyz": "answered 503",
		server.URL + "/moved":  "answered 302",
		server.URL + "/hangs":  "deadline exceeded",
		secure.URL:             "certificate",
		"localhost:8000":       "--url",
		"ftp://localhost":      "--url",
		"http://127.0.0.1:1":   "refused",
	} {
		timeout := 10 * time.Second
		if strings.HasSuffix(url, "/hangs") {
			timeout = 50 * time.Millisecond
		}
		err := (&healthCommand{url: url, timeout: timeout}).run(context.Background())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
	}
	err := (&healthCommand{url: secure.URL, timeout: 10 * time.Second, insecure: true}).run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "answered 404") {
		t.Errorf("--insecure: %v", err)
	}
}

func TestHealthcheckAddress(t *testing.T) {
	for _, tc := range []struct{ listen, name, want string }{
		{"", "", defaultHealthURL},
		{"", ":8001", "http://127.0.0.1:8001/health"},
		{"", "http://127.0.0.2:8001", "http://127.0.0.2:8001/health"},
		{"", "api.example.com", "https://api.example.com:443/health"},
		{"", "api.example.com:8443, www.example.com", "https://api.example.com:8443/health"},
		{"", "http://api.example.com", "http://api.example.com:80/health"},
		{"", "*.example.com:80", "http://health.example.com:80/health"},
		{"", "[::1]", "https://[::1]:443/health"},
		{"", "https://:8443", "https://127.0.0.1:8443/health"},
		{":9000", ":8001", "http://127.0.0.1:9000/health"},
		{"[::1]:9000", "", "http://[::1]:9000/health"},
		{"9000", "", "error: --listen"},
	} {
		t.Setenv("SERVER_NAME", tc.name)
		got, err := (&healthCommand{listen: tc.listen}).address()
		expect(t, got, err, tc.want)
	}
}

// A site with a name is asked on this machine, by its name.
func TestHealthcheckOfANamedSite(t *testing.T) {
	asked := make(chan string, 1)
	site := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.TLS.ServerName + " " + r.Host
	}))
	t.Cleanup(site.Close)
	_, port, _ := net.SplitHostPort(site.Listener.Addr().String())
	t.Setenv("SERVER_NAME", "api.example.com:"+port)
	if err := (&healthCommand{timeout: 10 * time.Second}).run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got, want := <-asked, "api.example.com api.example.com:"+port; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// Without an address of the admin API there is a socket, named after that of the gateway.
func TestAdminSocket(t *testing.T) {
	runtime := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	for _, tc := range []struct{ listen, server, variable, want string }{
		{":8005", "", "", "/8005.sock|0600"},
		{"", "api.example.com", "", "/api.example.com.sock|0600"},
		{"", "", "", "/8000.sock|0600"},
		{":8006", "", "off", ""},
		{":8007", "", "localhost:2019", ""},
	} {
		t.Setenv("SERVER_NAME", tc.server)
		t.Setenv(envAdmin, tc.variable)
		got := (&gatewayCommand{listen: tc.listen}).withSocket(builtin)
		if tc.want == "" {
			if got != builtin {
				t.Errorf("%+v: got %s", tc, got)
			}
			continue
		}
		want := fmt.Sprintf("\tadmin unix/%s/tentagate-%d%s\n", runtime, os.Geteuid(), tc.want)
		if !strings.Contains(got, want) {
			t.Errorf("%+v: want %q in\n%s", tc, want, got)
		}
	}
	t.Setenv(envAdmin, "")
	if got := (&gatewayCommand{admin: "off"}).withSocket("text"); got != "text" {
		t.Errorf("with --admin=off: %s", got)
	}
}

func TestBuiltinCaddyfile(t *testing.T) {
	if string(caddyfile.Format([]byte(builtin))) != builtin {
		t.Error("the built-in Caddyfile is not formatted")
	}
	for _, part := range []string{builtinSite, builtinAdmin, builtinImport, builtinLog, builtinBlock, builtinBody, builtinMetrics, builtinSiteLog} {
		if strings.Count(builtin, part) != 1 {
			t.Errorf("%q: the flags replace it, but it is not there once", part)
		}
	}
	for _, tc := range []struct {
		command gatewayCommand
		want    string
	}{
		{gatewayCommand{}, "{$SERVER_NAME::8000} {\n\tlog\n"},
		{gatewayCommand{}, "\tadmin {$TENTAGATE_ADMIN:off}\n"},
		{gatewayCommand{listen: ":9000"}, "\n:9000 {\n\tlog\n"},
		{gatewayCommand{listen: "127.0.0.1:9000"}, "\n:9000 {\n\tbind 127.0.0.1\n\tlog\n"},
		{gatewayCommand{listen: "[::1]:9000"}, "\n:9000 {\n\tbind ::1\n"},
		{gatewayCommand{admin: "localhost:2020"}, "\tadmin localhost:2020\n"},
		{gatewayCommand{listen: "9000"}, "error: --listen \"9000\": write it as :8000"},
		{gatewayCommand{listen: ":x"}, "error: --listen"},
		{gatewayCommand{listen: "a b:80"}, "error: --listen"},
		{gatewayCommand{listen: "{x}:80"}, "error: --listen"},
		{gatewayCommand{admin: "x"}, "error: --admin=x: accepted are host:port, as in --admin=localhost:2019, a Unix socket, as in --admin=unix//run/tentagate.sock, and off"},
		{gatewayCommand{admin: "unix//run/x.sock|0600"}, "\tadmin unix//run/x.sock|0600\n"},
		{gatewayCommand{admin: "unix/x.sock"}, "error: --admin=unix/x.sock"},
	} {
		tc.command.print = true
		var out bytes.Buffer
		err := tc.command.run(&out)
		if part, ok := strings.CutPrefix(tc.want, "error: "); ok {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: got %v, want %q", tc.command, err, part)
			}
		} else if err != nil || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%+v: got %v and\n%s\nwant %q in it", tc.command, err, out.String(), tc.want)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	for _, tc := range []struct{ name, value, listen, want string }{
		{"SHUTDOWN_DELAY", "soon", "", `SHUTDOWN_DELAY: "soon" is not a duration such as 10s`},
		{"GRACE_PERIOD", "-1s", "", "GRACE_PERIOD"},
		{"GRACE_PERIOD", "1m", "", ""},
		{"TRUSTED_PROXIES", "private_ranges, 10.0.0.0/8 192.0.2.1", "", ""},
		{"TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.0/33", "", "TRUSTED_PROXIES: entry 2 of 2"},
		{"TRUSTED_PROXIES", " , ", "", "has no value"},
		{"TRUSTED_PROXIES", "none", "", "nor private_ranges; unset it for none"},
		{"MAX_HEADER_SIZE", "off", "", "such as 16KiB; unset it for its default"},
		{"READ_HEADER_TIMEOUT", "0", "", "such as 10s; unset it for its default"},
		{"TENTAGATE_OPTIONS", "cache 30s {\n\tlease\n}\nheader X \"}\"", "", ""},
		{"TENTAGATE_OPTIONS", "cache off\n}", "", "TENTAGATE_OPTIONS:2: a closing brace without an opening one"},
		{"CADDY_GLOBAL_OPTIONS", "servers {", "", "CADDY_GLOBAL_OPTIONS: an opening brace without a closing one"},
		{"SERVER_NAME", "https://api.example.com, *.example.com:8443 [::1]:80 :9000 localhost http:// münchen.example *.*.example.com", "", ""},
		{"SERVER_NAME", "8000", "", `SERVER_NAME: "8000" is not the address of a site: write it as api.example.com, api.example.com:8443 or :8000`},
		{"SERVER_NAME", "localhost:abc", "", "SERVER_NAME"},
		{"SERVER_NAME", ":99999", "", "SERVER_NAME"},
		{"SERVER_NAME", "https://api.example.com/x", "", "SERVER_NAME"},
		{"SERVER_NAME", "{env.NAME}", "", "SERVER_NAME"},
		{"SERVER_NAME", "off", "", "SERVER_NAME"},
		{"OTEL_TRACES_EXPORTER", "off", "", `OTEL_TRACES_EXPORTER: unknown value "off": accepted are otlp, console, none`},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "", "OTEL_EXPORTER_OTLP_ENDPOINT: it is not a URL such as http://collector:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "", ""},
		{"OTEL_METRIC_EXPORT_INTERVAL", "60s", "", ""}, // nothing is exported
		{"TENTAGATE_ADMIN", "on", "", `TENTAGATE_ADMIN: "on"`},
		{"TENTAGATE_ADMIN", "unix//run/x.sock|0600", "", ""},
		{"TENTAGATE_ADMIN", "tcp/127.0.0.1:2019", "", ""},
		{"TENTAGATE_ADMIN", "off", "", ""},
		{"SERVER_NAME", "example.com", ":80", "both given"},
		{"SERVER_NAME", " ", ":80", ""},
		{"LOG_CREDENTIALS", " , ", "", `LOG_CREDENTIALS: " , " names no query parameter`},
		{"LOG_CREDENTIALS", "sig,", "", ""},
		{"METRICS_LISTEN", ":8000", "", `METRICS_LISTEN: ":8000" is where the gateway listens itself`},
		{"METRICS_LISTEN", "127.0.0.1:8000", ":8000", "METRICS_LISTEN"},
		{"METRICS_LISTEN", ":8000", "127.0.0.1:8000", "METRICS_LISTEN"},
		{"METRICS_LISTEN", "[::1]:8000", "[::1]:8000", "METRICS_LISTEN"},
		{"METRICS_LISTEN", "0.0.0.0:8000", "127.0.0.1:8000", "METRICS_LISTEN"},
		{"METRICS_LISTEN", "127.0.0.1:8000", "0.0.0.0:8000", "METRICS_LISTEN"},
		{"METRICS_LISTEN", "127.0.0.2:8000", "127.0.0.1:8000", ""},
		{"METRICS_LISTEN", ":8000", ":9000", ""},
		{"METRICS_LISTEN", ":9090", "", ""},
		{"METRICS_LISTEN", "off", "", ""},
		{"SERVER_NAME", "api.example.com, http://shop.example.com:9090", "", `METRICS_LISTEN: ":9090" is where`},
		{"SERVER_NAME", "api.example.com", "", ""},
	} {
		t.Run(tc.name+"="+tc.value, func(t *testing.T) {
			for _, name := range []string{"SHUTDOWN_DELAY", "GRACE_PERIOD"} {
				t.Setenv(name, "1s")
			}
			t.Setenv("TRUSTED_PROXIES", "")
			t.Setenv("SERVER_NAME", "")
			t.Setenv("METRICS_LISTEN", ":9090")
			t.Setenv(tc.name, tc.value)
			err := (&gatewayCommand{listen: tc.listen}).checkEnvironment()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if tc.name == "TRUSTED_PROXIES" && err == nil && os.Getenv(tc.name) != "private_ranges 10.0.0.0/8 192.0.2.1" {
				t.Errorf("it became %q", os.Getenv(tc.name))
			}
		})
	}
}
