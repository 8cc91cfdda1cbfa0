//go:build pebble

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
)

// These tests need pebble and pebble-challtestsrv, which .ci/pebble builds, in the folder
// that the variable PEBBLE names.

// authority is an ACME server. What it is asked goes through this process, which counts
// orders, can hold everything up, and says when a certificate is to be renewed (ARI).
type authority struct {
	t        testing.TB
	server   *httptest.Server
	orders   syncMap           // names that were ordered
	renewing string            // the first certificate of this name is to be renewed now
	names    map[string]string // by serial number, of the certificates that were issued
	window   map[string]string // by certificate: the suggestion, once it was asked for
	replaced string            // the serial number of the certificate that is to be renewed

	mu   sync.Mutex
	gate chan struct{} // closed: requests pass
}

type syncMap struct {
	mu sync.Mutex
	n  map[string]int
}

func (m *syncMap) add(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n == nil {
		m.n = map[string]int{}
	}
	m.n[name]++
}

func (m *syncMap) get(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n[name]
}

// startAuthority starts pebble, which validates challenges at the two proxies. Nothing
// passes before open.
func startAuthority(t *testing.T, http01, alpn *redistest.Proxy) *authority {
	t.Helper()
	dir := t.TempDir()
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS() // has a certificate for 127.0.0.1
	pair := cert.TLS.Certificates[0]
	cert.Close()
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	listen, dns := freeport.Addr(t), freeport.Addr(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": freeport.Addr(t), "keyAlgorithm": "ecdsa",
		"certificate": write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})),
		"privateKey":  write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"httpPort":    portOf(http01.Addr()), "tlsPort": portOf(alpn.Addr()),
		"profiles": map[string]any{
			"days":  map[string]any{"description": "six days", "validityPeriod": 518400},
			"short": map[string]any{"description": "45 seconds", "validityPeriod": 45},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(filepath.Join(os.Getenv("PEBBLE"), name), args...)
		cmd.Env = []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}
		log := new(syncBuffer)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatalf("%v: run .ci/pebble", err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s: %s", name, tail(log.String(), 3000))
			}
		})
	}
	run("pebble-challtestsrv", "-dnsserver", dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-management", freeport.Addr(t), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	run("pebble", "-config", write("config.json", config), "-dnsserver", dns)

	a := &authority{t: t, gate: make(chan struct{}), names: map[string]string{}, window: map[string]string{}}
	target := &url.URL{Scheme: "https", Host: listen}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the URLs of the directory
		},
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // pebble of this test
		ModifyResponse: a.issued,
	}
	a.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		gate := a.gate
		a.mu.Unlock()
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
		if id, ok := strings.CutPrefix(r.URL.Path, "/draft-ietf-acme-ari-03/renewalInfo/"); ok {
			a.renewalInfo(w, id)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/order-plz") {
			a.note(r)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(a.server.Close)
	return a
}

func portOf(addr string) (port int) {
	_, _ = fmt.Sscanf(addr[strings.LastIndexByte(addr, ':')+1:], "%d", &port)
	return port
}

// issued notes the name of a certificate that pebble sends.
func (a *authority) issued(r *http.Response) error {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/pem-certificate-chain") {
		return nil
	}
	chain, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(chain))
	first, _ := pem.Decode(chain)
	if first == nil {
		return errors.New("no certificate in what pebble sent")
	}
	cert, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names[cert.SerialNumber.String()] = cert.DNSNames[0]
	return nil
}

// renewalInfo says that the first certificate of one name is to be renewed now, and all
// others in days.
func (a *authority) renewalInfo(w http.ResponseWriter, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.window[id] == "" {
		from := now.Add(48 * time.Hour)
		_, encoded, _ := strings.Cut(id, ".")
		number, _ := base64.RawURLEncoding.DecodeString(encoded)
		serial := new(big.Int).SetBytes(number).String()
		if a.replaced == "" && a.names[serial] == a.renewing {
			from, a.replaced = now.Add(-2*time.Hour), serial
		}
		a.window[id] = fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, from.Format(time.RFC3339), from.Add(time.Hour).Format(time.RFC3339))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", "21600")
	_, _ = io.WriteString(w, a.window[id])
}

// note counts the names of an order.
func (a *authority) note(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	if json.Unmarshal(body, &signed) == nil {
		payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
		_ = json.Unmarshal(payload, &order)
	}
	for _, id := range order.Identifiers {
		a.orders.add(id.Value)
	}
}

// open lets requests pass.
func (a *authority) open() { close(a.gate) }

const edge = `{
	admin $ADMIN
	http_port $HTTP
	https_port $PORT
	email ops@shop.test
	acme_ca $ACME/dir
	acme_ca_root $ROOT
	renew_interval 2s
	metrics
	storage tentagate {
		redis {env.CERTIFICATES_REDIS_URL}
		key {env.CERTIFICATE_KEY}
		lock_lease 4s
	}
	on_demand_tls {
		ask http://127.0.0.1:$ASK/api/tenants/allowed
	}
}
http://127.0.0.1:$ASK {
	bind 127.0.0.1
	tentagate {
		jwt off
		ratelimit off
		service tenants $TENANTS
	}
}
days.shop.test {
	tls {
		issuer acme {
			profile days
			disable_http_challenge
		}
	}
	respond "hello"
}
short.shop.test {
	tls {
		issuer acme {
			profile short
		}
	}
	respond "hello"
}
*.http.test {
	tls {
		on_demand
		issuer acme {
			disable_tlsalpn_challenge
		}
	}
	respond "hello"
}
*.alpn.test {
	tls {
		on_demand
		issuer acme {
			disable_http_challenge
		}
	}
	respond "hello"
}
`

// replica is one of the gateways.
type replica struct {
	*gateway
	http01 string
	env    []string
	file   string
}

func (r *replica) launch() {
	r.run(r.env, "run", "--config", r.file, "--adapter", "caddyfile")
}

// kill ends the process as the kernel does when memory is short.
func (r *replica) kill() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// serial returns that of the certificate that is served for a name, or the error.
func (r *replica) serial(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}).DialContext(ctx, "tcp", r.addr) //nolint:gosec // of a test's authority
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if err := leaf.VerifyHostname(name); err != nil {
		return "", err
	}
	return leaf.SerialNumber.String(), nil
}

func (r *replica) holds(name string) bool {
	return strings.Contains(r.log.String(), `"msg":"lock acquired","identifier":"`+name+`"`)
}

// await waits until all replicas serve one certificate for a name that is not old.
func await(t *testing.T, all []*replica, name, old string) (serial string) {
	t.Helper()
	within(t, 60*time.Second, "one new certificate for "+name, func() bool {
		serial = ""
		for _, r := range all {
			s, err := r.serial(name)
			if err != nil || s == old || serial != "" && s != serial {
				return false
			}
			serial = s
		}
		return true
	})
	return serial
}

func within(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestPebble(t *testing.T) {
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	tenants := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Query().Get("domain"), "tenant.") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(tenants.Close)
	http01, alpn := redistest.NewProxy(t, "127.0.0.1:1"), redistest.NewProxy(t, "127.0.0.1:1")
	acme := startAuthority(t, http01, alpn)
	acme.renewing = "days.shop.test"
	answeredBy := func(r *replica) { http01.Direct(r.http01); alpn.Direct(r.addr) }
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: acme.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*replica
	for range 3 {
		r := &replica{gateway: prepare(t), http01: freeport.Addr(t)}
		r.env = []string{"CERTIFICATES_REDIS_URL=" + redis.URL(), "CERTIFICATE_KEY=" + certificateKey}
		r.file = filepath.Join(r.home, "Caddyfile")
		text := strings.NewReplacer("$HTTP", fmt.Sprint(portOf(r.http01)), "$ASK", fmt.Sprint(portOf(freeport.Addr(t))),
			"$ACME", acme.server.URL, "$ROOT", root, "$TENANTS", tenants.URL).Replace(r.expand(edge))
		if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.launch()
		all = append(all, r)
	}
	for _, r := range all {
		r.waitReady()
	}

	// The authority says nothing yet. The gateway that has the lock is killed; another takes it.
	holder := func(but *replica) (found *replica) {
		within(t, 30*time.Second, "a gateway has the lock", func() bool {
			for _, r := range all {
				if r != but && r.holds("days.shop.test") {
					found = r
				}
			}
			return found != nil
		})
		return found
	}
	first := holder(nil)
	first.kill()
	began := time.Now()
	second := holder(first)
	t.Logf("kill -9 of the lock's holder: another had the lock after %s (lock_lease 4s)", time.Since(began).Round(100*time.Millisecond))
	alive := make([]*replica, 0, 2)
	for _, r := range all {
		if r != first {
			alive = append(alive, r)
			if r != second {
				answeredBy(r)
			}
		}
	}
	acme.open()

	// One issuance, and since the authority suggests so, one renewal at once, of a
	// certificate that is valid for six days. Another replica answers the challenges.
	within(t, 60*time.Second, "a renewal by ARI", func() bool { return acme.orders.get("days.shop.test") >= 2 })
	acme.mu.Lock()
	replaced := acme.replaced
	acme.mu.Unlock()
	serial := await(t, alive, "days.shop.test", replaced)
	short := await(t, alive, "short.shop.test", "")
	t.Logf("issued: days %d, short %d", acme.orders.get("days.shop.test"), acme.orders.get("short.shop.test"))
	if !strings.Contains(alive[0].log.String()+alive[1].log.String(), `"distributed":true`) {
		t.Error("no challenge was answered by another replica")
	}
	// The one that was killed comes back and orders nothing.
	first.launch()
	first.waitReady()
	if got := await(t, all, "days.shop.test", ""); got != serial {
		t.Errorf("all serve %s, it was %s before", got, serial)
	}
	// A certificate of 45 seconds is renewed once, when a third of its life is left.
	before := acme.orders.get("short.shop.test")
	renewed := await(t, all, "short.shop.test", short)
	if n := acme.orders.get("short.shop.test") - before; n > 1 || renewed == short {
		t.Errorf("%d orders for one renewal", n)
	}
	if n := acme.orders.get("days.shop.test"); n != 2 {
		t.Errorf("days.shop.test was ordered %d times, want once and one renewal", n)
	}

	// On demand: one gateway gets the handshake, and another the challenge.
	for _, suffix := range []string{"http.test", "alpn.test"} {
		answeredBy(all[2])
		got, err := all[0].serial("tenant." + suffix)
		if err != nil {
			t.Fatalf("tenant.%s: %v", suffix, err)
		}
		if same := await(t, all, "tenant."+suffix, ""); same != got || acme.orders.get("tenant."+suffix) != 1 {
			t.Errorf("tenant.%s: %d orders", suffix, acme.orders.get("tenant."+suffix))
		}
		if _, err := all[1].serial("stranger." + suffix); err == nil || acme.orders.get("stranger."+suffix) != 0 {
			t.Errorf("stranger.%s has a certificate, or it was ordered", suffix)
		}
	}

	// Redis goes: what is in memory is served, a new host gets nothing and is not ordered.
	redis.Kill()
	for _, r := range all {
		if got, err := r.serial("days.shop.test"); err != nil || got != serial {
			t.Errorf("while Redis is gone: %v", err)
		}
	}
	if _, err := all[0].serial("tenant.b.http.test"); err == nil {
		t.Error("a certificate without a storage")
	}
	redis.Restart()
	all[1].stop()
	all[1].ended = make(chan error, 1)
	all[1].launch()
	all[1].waitReady()
	if got := await(t, all[1:2], "days.shop.test", ""); got != serial || acme.orders.get("days.shop.test") != 2 {
		t.Errorf("after a restart with Redis back: serial %s, want %s; %d orders", got, serial, acme.orders.get("days.shop.test"))
	}
	expectUnreadable(t, redis, "shop.test", "http.test", "PRIVATE KEY", "BEGIN", "certificates/", "acme", "ops@")
}
