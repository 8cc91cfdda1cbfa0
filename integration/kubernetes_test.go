package integration

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/pythopus/tentagate/internal/freeport"
)

const podSecret = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa"

// TestKubernetes runs the server as a pod of the manifests does: with the
// Caddyfile and the variables of the ConfigMap and the Secret, on other ports.
func TestKubernetes(t *testing.T) {
	config, secret := podSettings(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Path", r.URL.Path)
	}))
	t.Cleanup(service.Close)

	// What is published is no secret.
	if code, out := runPod(t, config, secret.StringData["JWT_SECRET_KEY"]); code == 0 || !strings.Contains(out, "secret") {
		t.Errorf("with the Secret as it is published: exit code %d, want an error about the secret\n%s", code, tail(out, 1000))
	}

	g := prepare(t)
	internal := freeport.Addr(t)
	g.admin = internal // also waited for: the manifests have no admin API
	file := filepath.Join(g.home, "Caddyfile")
	text := strings.NewReplacer("\n:8000 {", "\nhttp://"+g.addr+" {", "http://:9090 {", "http://"+internal+" {").Replace(config.Data["Caddyfile"])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"JWT_SECRET_KEY=" + podSecret, "BACKEND_SERVICES={\"users\":\"" + service.URL + "\"}", "ALLOWED_ORIGINS=" + config.Data["ALLOWED_ORIGINS"], "REDIS_URL=" + secret.StringData["REDIS_URL"]}
	g.run(env, "run", "--config", file, "--adapter", "caddyfile")
	g.waitReady()

	probe := func(path string) answer {
		t.Helper()
		own := *g
		own.addr = internal
		return own.get(path)
	}
	for _, path := range []string{"/livez", "/readyz", "/health"} {
		if a := probe(path); a.status != http.StatusOK {
			t.Errorf("%s on the internal port: %d", path, a.status)
		}
	}
	if a := g.get("/api/users/x"); a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without a token: %d %v", a.status, a.header)
	}
	code, minted := cli(t, env, "token", "--sub", "ann")
	if code != 0 {
		t.Fatalf("token: %d %s", code, minted)
	}
	if a := g.get("/api/users/x", "Authorization", "Bearer "+strings.TrimSpace(minted)); a.status != http.StatusOK || a.header.Get("X-Path") != "/x" {
		t.Errorf("with a token: %d %v", a.status, a.header)
	}
	if a := g.get("/metrics"); a.status != http.StatusNotFound {
		t.Errorf("/metrics on the public port: %d, want 404", a.status)
	}
	if a := probe("/metrics"); a.status != http.StatusOK || !strings.Contains(a.body, "tentagate_") {
		t.Errorf("/metrics on the internal port: %d, want the series of TentaGate", a.status)
	}
	if log := g.log.String(); strings.Contains(log, strings.TrimSpace(minted)) || strings.Contains(log, podSecret) {
		t.Error("the log has a token or the secret in it")
	}
}

// podSettings returns the ConfigMap and the Secret of the manifests.
func podSettings(t *testing.T) (config corev1.ConfigMap, secret corev1.Secret) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository(), "k8s", "tentagate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		var into any
		switch {
		case strings.Contains(document, "\nkind: ConfigMap\n"):
			into = &config
		case strings.Contains(document, "\nkind: Secret\n"):
			into = &secret
		default:
			continue
		}
		if err := yaml.Unmarshal([]byte(document), into); err != nil {
			t.Fatal(err)
		}
	}
	if config.Data["Caddyfile"] == "" || secret.StringData["JWT_SECRET_KEY"] == "" {
		t.Fatal("the manifests have no Caddyfile or no secret")
	}
	return config, secret
}

// runPod validates the Caddyfile of the ConfigMap with a secret.
func runPod(t *testing.T, config corev1.ConfigMap, secret string) (int, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config.Data["Caddyfile"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return cli(t, []string{"JWT_SECRET_KEY=" + secret, "BACKEND_SERVICES=" + config.Data["BACKEND_SERVICES"]}, "validate", "--config", file, "--adapter", "caddyfile")
}
