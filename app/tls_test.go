package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
)

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.crt and name.key.
func (a *authority) issue(name string, ip net.IP) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: a.cert == nil,
	}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("server", net.IPv4(127, 0, 0, 1))
	ca.issue("client", nil)
	port := strconv.Itoa(freeport.Get(t))
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", ca.path("server.crt"), "--tls-key-file", ca.path("server.key"),
		"--tls-ca-cert-file", ca.path("ca.crt"), "--tls-auth-clients", "yes")
	url := "rediss://127.0.0.1:" + port

	ping(t, "tentagate {\n redis "+url+" {\n tls {\n ca "+ca.path("ca.crt")+"\n cert "+ca.path("client.crt")+"\n key "+ca.path("client.key")+"\n}\n}\n}")

	for name, options := range map[string]string{
		"unknown authority":     "cert " + ca.path("client.crt") + "\n key " + ca.path("client.key"),
		"no client certificate": "ca " + ca.path("ca.crt"),
		"wrong name":            "ca " + ca.path("ca.crt") + "\n server_name other.test\n cert " + ca.path("client.crt") + "\n key " + ca.path("client.key"),
	} {
		a, cancel := provision(t, "tentagate {\n redis "+url+" {\n timeout 5s\n dial_timeout 5s\n tls {\n "+options+"\n}\n}\n}")
		err := a.Redis().Client().Ping(t.Context()).Err()
		if err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: got %v, want a TLS error", name, err)
		}
		_ = a.Cleanup()
		cancel()
	}
}
