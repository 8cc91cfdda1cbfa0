package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
)

const (
	certificateKey      = "3f0c9a51e7d24b86a1f05c7be93d6812f4a07716cc58e29b0d41a3fe65b7928c"
	otherCertificateKey = "b81e5d0f97c3a264085be17ad94f3c6210c97b5ea8d34f61279be05fc816ad43"
)

const sharedCertificates = `{
	admin $ADMIN
	skip_install_trust
	auto_https disable_redirects
	storage tentagate {
		redis {env.CERTIFICATES_REDIS_URL}
		key {env.CERTIFICATE_KEY}
	}
}
https://shop.test:$PORT {
	tls internal
	respond "hello"
}
`

// certificateOf returns the certificate that a gateway serves, in DER, once it has one:
// certificates are obtained while the gateway serves already.
func certificateOf(t *testing.T, g *gateway, name string) []byte {
	t.Helper()
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // of an authority made for the test
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := tls.Dial("tcp", g.addr, config)
		if err == nil {
			defer func() { _ = conn.Close() }()
			return conn.ConnectionState().PeerCertificates[0].Raw
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Gateways with one storage serve one certificate, of which Redis shows nothing; what is
// in memory is served while Redis is gone, and a wrong key is refused by name.
func TestSharedCertificates(t *testing.T) {
	redis := redistest.Start(t)
	env := []string{"CERTIFICATES_REDIS_URL=" + redis.URL(), "CERTIFICATE_KEY=" + certificateKey}
	first := start(t, sharedCertificates, env...)
	certificate := certificateOf(t, first, "shop.test")
	second := start(t, sharedCertificates, env...)
	if !bytes.Equal(certificate, certificateOf(t, second, "shop.test")) {
		t.Error("two gateways with one storage have different certificates")
	}

	expectUnreadable(t, redis, "shop.test", "PRIVATE KEY", "BEGIN", "certificates/", "local")
	if leftover, _ := filepath.Glob(filepath.Join(second.home, "*", "certificates")); len(leftover) > 0 {
		t.Errorf("certificates are on the disk: %v", leftover)
	}

	wrong := prepare(t)
	file := filepath.Join(wrong.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(wrong.expand(sharedCertificates)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := []string{env[0], "CERTIFICATE_KEY=" + otherCertificateKey}
	if code, out := cli(t, other, "run", "--config", file, "--adapter", "caddyfile"); code == 0 || !strings.Contains(out, "another key") {
		t.Errorf("with a wrong key: exit code %d\n%s", code, tail(out, 2000))
	}

	// A copy, in another place of the Redis, serves the same certificate.
	tar := filepath.Join(wrong.home, "certificates.tar")
	if code, out := cli(t, env, "storage", "export", "--config", file, "--output", tar); code != 0 {
		t.Fatalf("storage export: %d %s", code, tail(out, 1000))
	}
	moved := strings.Replace(sharedCertificates, "redis {env.CERTIFICATES_REDIS_URL}", "redis {env.CERTIFICATES_REDIS_URL} {\n\t\t\tkey_prefix moved\n\t\t}", 1)
	if err := os.WriteFile(file, []byte(wrong.expand(moved)), 0o600); err != nil {
		t.Fatal(err)
	}
	env[1] = "CERTIFICATE_KEY=" + otherCertificateKey // of its own
	if code, out := cli(t, env, "storage", "import", "--config", file, "--input", tar); code != 0 {
		t.Fatalf("storage import: %d %s", code, tail(out, 1000))
	}
	if !bytes.Equal(certificate, certificateOf(t, start(t, moved, env...), "shop.test")) {
		t.Error("a gateway with the imported certificates has another")
	}

	redis.Kill()
	if !bytes.Equal(certificate, certificateOf(t, second, "shop.test")) {
		t.Error("another certificate while Redis is gone")
	}
}

// expectUnreadable fails if a name or a value in Redis has one of the texts, or the key.
func expectUnreadable(t *testing.T, redis *redistest.Server, texts ...string) {
	t.Helper()
	ctx, client := context.Background(), redis.Client()
	entries := 0
	for it := client.Scan(ctx, 0, "*", 1000).Iterator(); it.Next(ctx); entries++ {
		dump, err := client.Dump(ctx, it.Val()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(texts, certificateKey) {
			if strings.Contains(strings.Replace(it.Val(), "certificates:", "", 1)+dump, text) {
				t.Errorf("Redis has %q readable under %q", text, it.Val())
			}
		}
	}
	if entries == 0 {
		t.Error("nothing is stored in Redis")
	}
}

// What is wrong with the storage is found offline.
func TestCertificateStorageMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ block, want string }{
		"no key":         {"redis redis://127.0.0.1:1", "key: it is required"},
		"a literal key":  {"redis redis://127.0.0.1:1\nkey " + certificateKey, "key: write it as {file."},
		"an unset key":   {"redis redis://127.0.0.1:1\nkey {env.NOT_SET}", "NOT_SET"},
		"a short key":    {"redis redis://127.0.0.1:1\nkey {env.SHORT}", "32"},
		"no Redis":       {"key {env.CERTIFICATE_KEY}", "it needs a Redis"},
		"a short lease":  {"redis redis://127.0.0.1:1\nkey {env.CERTIFICATE_KEY}\nlock_lease 1s", "lock_lease"},
		"unknown option": {"redis redis://127.0.0.1:1\nkeys {env.CERTIFICATE_KEY}", "key"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "Caddyfile")
			text := "{\nadmin off\nstorage tentagate {\n" + tc.block + "\n}\n}\n:80 {\nrespond ok\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out := cli(t, []string{"CERTIFICATE_KEY=" + certificateKey, "SHORT=abc"}, "validate", "--config", file)
			if code == 0 || !strings.Contains(out, tc.want) || strings.Contains(out, certificateKey) {
				t.Errorf("exit code %d, want an error with %q\n%s", code, tc.want, tail(out, 1500))
			}
		})
	}
}
