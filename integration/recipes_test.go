package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/servertest"
)

// shown is a line of a page that is run, and what the page says of its answer.
type shown struct {
	line string
	want []string // the status, and parts of the answer; none: it prepares others
}

// session is a shell session of a page: its lines, and the Caddyfile above it.
type session struct {
	block
	caddyfile string
	lines     []shown
}

// sessions returns the shell sessions of a page that have curl lines.
func sessions(t *testing.T, page string) []session {
	t.Helper()
	var all []session
	caddyfile := ""
	for _, b := range blocks(t) {
		switch {
		case b.page != page:
		case b.isCaddyfile():
			caddyfile = b.file()
		case b.language == "" && strings.Contains(b.text, "curl "):
			s := session{block: b, caddyfile: caddyfile}
			for line := range strings.Lines(b.text) {
				line, want, _ := strings.Cut(strings.TrimSpace(line), "   # ")
				next := shown{line: line}
				if want != "" {
					next.want = strings.Split(want, ", ")
				}
				if strings.HasPrefix(line, "curl ") && next.want == nil {
					t.Errorf("%s:%d: %s: the page does not show the status", b.page, b.line, line)
				}
				s.lines = append(s.lines, next)
			}
			all = append(all, s)
		}
	}
	return all
}

// run runs the lines of the session in one shell and compares each answer with what
// the page shows.
func (s session) run(t *testing.T, adapt func(line string) string, env ...string) {
	t.Helper()
	const mark = "=== answer ==="
	script := ""
	for _, l := range s.lines {
		script += "echo '" + mark + "'\n" + adapt(l.line) + "\n"
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(env, "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	answers := strings.Split(string(out), mark+"\n")
	if len(answers) != len(s.lines)+1 {
		t.Fatalf("%s:%d: %v\n%s", s.page, s.line, err, out)
	}
	status := regexp.MustCompile(`(?m)^HTTP/\S+ (\d+)`)
	for i, l := range s.lines {
		answer := answers[i+1]
		for _, want := range l.want {
			found := strings.Contains(answer, want)
			if len(want) == 3 && strings.Trim(want, "0123456789") == "" {
				all := status.FindAllStringSubmatch(answer, -1)
				found = len(all) > 0 && all[len(all)-1][1] == want
			}
			if !found {
				t.Errorf("%s:%d: %s\nthe answer has no %q:\n%s", s.page, s.line, l.line, want, answer)
			}
		}
	}
}

// TestRecipes runs each curl line of the recipes with the site above it, and with
// servers in place of the services that it names.
func TestRecipes(t *testing.T) {
	t.Setenv("JWT_SECRET_KEY", secret)
	t.Setenv("REDIS_URL", "")
	ran := 0
	for _, s := range sessions(t, "recipes.md") {
		if strings.Contains(s.caddyfile, "client_auth") {
			continue // TestRecipeClientCertificates
		}
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "app"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "app", "index.html"), []byte("<html>"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := s.caddyfile
		if rest, ok := strings.CutPrefix(text, "{\n"); ok { // the global options: servertest has its own
			_, text, _ = strings.Cut(rest, "\n}\n")
		}
		text = regexp.MustCompile(`(?m)^[a-z]+\.example\.com \{$`).ReplaceAllString(text, ":80 {")
		text = regexp.MustCompile(`\b[a-z0-9-]+:(8000|50051)\b`).ReplaceAllStringFunc(text, func(address string) string { return standIn(t, address) })
		text = strings.NewReplacer("/srv", dir, "https://issuer.example.com", "http://"+standIn(t, "issuer")).Replace(text)
		gateway := servertest.New(t, text)
		s.run(t, func(line string) string { return strings.ReplaceAll(requestTo(gateway.URL, line), "/srv", dir) }, "JWT_SECRET_KEY="+secret)
		ran += len(s.lines)
	}
	if ran < 25 {
		t.Errorf("only %d lines were run", ran)
	}
}

// requestTo returns a line of a page with the gateway, which has no TLS, in place of the
// host that curl is to call.
func requestTo(gateway, line string) string {
	if i := strings.LastIndex(line, "https://"); i >= 0 { // the address of the request
		line = line[:i] + "http://" + line[i+len("https://"):]
	}
	return strings.ReplaceAll(line, "curl ", "curl --silent --show-error --connect-to ::"+strings.TrimPrefix(gateway, "http://")+" ")
}

// TestRecipeClientCertificates runs the lines of the recipe whose site asks for a
// certificate. One certificate is the client's, the server's and the authority's.
func TestRecipeClientCertificates(t *testing.T) {
	all := slices.DeleteFunc(sessions(t, "recipes.md"), func(s session) bool { return !strings.Contains(s.caddyfile, "client_auth") })
	if len(all) != 1 {
		t.Fatalf("%d sessions with client_auth", len(all))
	}
	g := prepare(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ann"}, DNSNames: []string{"api.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"ann.crt": {Type: "CERTIFICATE", Bytes: certificate}, "ann.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(g.home, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := strings.NewReplacer("ann.crt", g.home+"/ann.crt", "ann.key", g.home+"/ann.key")
	text := "{\n\tadmin $ADMIN\n\tauto_https disable_redirects\n}\n" + strings.NewReplacer("api.example.com {", "https://api.example.com:$PORT {",
		"tls {", files.Replace("tls ann.crt ann.key {"), "/run/secrets/ca.crt", files.Replace("ann.crt"), "api:8000", standIn(t, "api")).Replace(all[0].caddyfile)
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(g.expand(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(nil, "run", "--config", file)
	g.waitReady()
	all[0].run(t, func(line string) string {
		return files.Replace(strings.ReplaceAll(line, "curl ", "curl --silent --show-error --cacert ann.crt --connect-to ::"+g.addr+" "))
	})
}

// TestRequestsOfOtherPages runs the curl lines of pages that are not about a site of
// their own, and finds those that no test runs.
func TestRequestsOfOtherPages(t *testing.T) {
	t.Setenv("JWT_SECRET_KEY", secret)
	t.Setenv("REDIS_URL", "")
	services := ":80 {\n\ttentagate {\n\t\tservice users http://" + standIn(t, "users") + "\n\t}\n}\n"
	sites := map[string]string{
		"gateway.md":         services,
		"aks.md":             services,
		"troubleshooting.md": ":80 {\n\thttp_cache 60s\n\treverse_proxy " + standIn(t, "catalog") + "\n}\n",
	}
	for page, site := range sites {
		gateway := servertest.New(t, site)
		all := sessions(t, page)
		if len(all) == 0 {
			t.Errorf("%s has no session", page)
		}
		for _, s := range all {
			s.run(t, func(line string) string {
				if strings.HasPrefix(line, "kubectl ") || strings.Contains(line, "…") {
					return ":" // not here; and the secret is in the environment
				}
				return requestTo(gateway.URL, line)
			}, "JWT_SECRET_KEY="+secret, "HOST=api.example.com")
		}
	}
	others := []string{"recipes.md", "quickstart.md", "deployment.md"} // TestRecipes, TestQuickstart, TestCompose
	for _, b := range blocks(t) {
		if regexp.MustCompile(`\bcurl -`).MatchString(b.text) && sites[b.page] == "" && !slices.Contains(others, b.page) {
			t.Errorf("%s:%d: no test runs this:\n%s", b.page, b.line, b.text)
		}
	}
}

// standIn serves in place of a service and returns its address. Its answers name it,
// and the user that it is told.
func standIn(t *testing.T, address string) string {
	t.Helper()
	name, _, _ := strings.Cut(address, ":")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			conn.Close()
			return
		}
		user := r.Header.Get("X-User")
		if user == "" {
			user = "none"
		}
		fmt.Fprintf(w, "from %s, X-User: %s\n", name, user)
		if subject := r.Header.Get("X-Client-Subject"); subject != "" {
			fmt.Fprintf(w, "X-Client-Subject: %s\n", subject)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestQuickstart runs the quickstart: its Caddyfile, and each line below it.
func TestQuickstart(t *testing.T) {
	g := prepare(t)
	service := freeport.Addr(t)
	replace := strings.NewReplacer("127.0.0.1:8001", service, ":8001", ":"+port(service), "localhost:8000", g.addr, ":8000 {", g.addr+" {", "curl ", "curl --silent --show-error ")
	all := sessions(t, "quickstart.md")
	if len(all) != 2 {
		t.Fatalf("%d sessions", len(all))
	}
	text := "http://" + strings.Replace(replace.Replace(all[0].caddyfile), "\n:"+port(service)+" {", "\nhttp://"+service+" {", 1)
	if err := os.WriteFile(filepath.Join(g.home, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"JWT_SECRET_KEY=" + secret, "CADDY_ADMIN=" + g.admin}
	g.run(env, "run")
	g.waitReady()
	for _, s := range all {
		s.run(t, replace.Replace, append(env, "CADDY_ADMIN="+g.admin)...)
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
