package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/testkit"
)

// certified is a client with a key and a certificate that it made itself.
func certified(t testing.TB) (*ecdsa.PrivateKey, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func base64url(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// Tokens bound to a certificate and to a DPoP key, over TLS with client
// certificates, through the path that a rewrite changes.
func TestConfirmation(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("Authorization")+r.Header.Get("DPoP"))
	}))
	defer backend.Close()
	g := start(t, `{
	admin $ADMIN
	skip_install_trust
	auto_https disable_redirects
}
https://localhost:$PORT {
	tls internal {
		client_auth {
			mode request
		}
	}
	log
	route {
		rewrite /in/* /out{uri}
		jwt_auth {env.JWT_SECRET_KEY} {
			dpop
			certificate_bound
			strip_token
		}
		reverse_proxy `+strings.TrimPrefix(backend.URL, "http://")+`
	}
}
`, "JWT_SECRET_KEY="+secret)
	_, port, _ := net.SplitHostPort(g.addr)
	key, certificate := certified(t)
	_, foreign := certified(t)
	sum := sha256.Sum256(certificate.Certificate[0])
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := base64url(point[1:33]), base64url(point[33:])
	thumbprint := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))

	bound := func(cnf map[string]any) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "cnf": cnf}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	prove := func(access, address string) string {
		hash := sha256.Sum256([]byte(access))
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"jti": rand.Text(), "htm": "GET", "htu": address, "iat": time.Now().Unix(), "ath": base64url(hash[:])})
		tok.Header["typ"] = "dpop+jwt"
		tok.Header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	client := func(certificates ...tls.Certificate) *http.Client {
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", Certificates: certificates}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: 30 * time.Second}
	}
	owner, stranger, nobody := client(certificate), client(foreign), client()
	testkit.Eventually(t, "the server's certificate", func() bool {
		conn, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	address := "https://localhost:" + port + "/in/a"
	byCertificate, byKey := bound(map[string]any{"x5t#S256": base64url(sum[:])}), bound(map[string]any{"jkt": base64url(thumbprint[:])})
	used := prove(byKey, address)
	for _, tc := range []struct {
		name          string
		client        *http.Client
		authorization string
		proof         string
		want          int
	}{
		{"the certificate", owner, "Bearer " + byCertificate, "", 200},
		{"another certificate", stranger, "Bearer " + byCertificate, "", 401},
		{"no certificate", nobody, "Bearer " + byCertificate, "", 401},
		{"a proof", nobody, "DPoP " + byKey, used, 200},
		{"the proof again", nobody, "DPoP " + byKey, used, 401},
		{"another proof", nobody, "DPoP " + byKey, prove(byKey, address+"?query"), 200},
		{"a proof for the rewritten path", nobody, "DPoP " + byKey, prove(byKey, "https://localhost:"+port+"/out/in/a"), 401},
		{"no proof", nobody, "DPoP " + byKey, "", 401},
		{"a proof, as a bearer token", nobody, "Bearer " + byKey, prove(byKey, address), 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", tc.authorization)
		if tc.proof != "" {
			req.Header.Set("DPoP", tc.proof)
		}
		resp, err := tc.client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tc.want || tc.want == 200 && string(body) != "/out/in/a " {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, body)
		}
	}
	if log := g.log.String(); strings.Contains(log, byCertificate) || strings.Contains(log, byKey) {
		t.Error("a token is in the log")
	}
}

// Refused tokens count against their client, good ones do not.
func TestRefusalsAreLimited(t *testing.T) {
	for _, how := range []string{"status", "after"} {
		t.Run(how, func(t *testing.T) { testRefusals(t, how) })
	}
}

func testRefusals(t *testing.T, how string) {
	g := start(t, `{
	admin $ADMIN
}
http://$ADDR {
	route {
		ratelimit {
			zone refusals
			key {http.request.header.X-Client}
			limit 5/1h
			count `+how+` 401
		}
		jwt_auth {env.JWT_SECRET_KEY}
		respond ok
	}
}
`, "JWT_SECRET_KEY="+secret)
	good, bad := "Bearer "+token(t, "ann"), "Bearer "+token(t, "ann")+"x"
	get := func(client, authorization string) int {
		return g.get("/", "X-Client", client, "Authorization", authorization).status
	}
	for range 20 {
		if got := get("one", good); got != 200 {
			t.Fatalf("a good token: %d", got)
		}
	}
	for i := range 8 {
		want := 401
		if i >= 5 {
			want = 429
		}
		if got := get("one", bad); got != want {
			t.Errorf("bad token %d: %d, not %d", i, got, want)
		}
	}
	if one, two := get("one", good), get("two", bad); one != 429 || two != 401 {
		t.Errorf("the client then gets %d, another %d", one, two)
	}
}
