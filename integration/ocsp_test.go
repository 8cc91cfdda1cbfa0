package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
)

// What an authority answers about one certificate (RFC 6960 §4.2.1).
type (
	ocspAnswer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			Data []byte
		} `asn1:"explicit,tag:0"`
	}
	ocspSigned struct {
		Data      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	ocspData struct {
		Responder  asn1.RawValue
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []ocspSingle
	}
	ocspSingle struct {
		Certificate struct {
			Hash              pkix.AlgorithmIdentifier
			NameHash, KeyHash []byte
			Serial            *big.Int
		}
		Good       asn1.Flag `asn1:"tag:0"`
		ThisUpdate time.Time `asn1:"generalized"`
		NextUpdate time.Time `asn1:"generalized,explicit,tag:0"`
	}
)

// goodAnswer returns the authority's signed answer that the certificate is good.
func goodAnswer(t *testing.T, authority *x509.Certificate, key *ecdsa.PrivateKey, serial *big.Int) []byte {
	t.Helper()
	marshal := func(value any) []byte {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	public, err := key.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	single := ocspSingle{Good: true, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(48 * time.Hour)}
	name, point := sha256.Sum256(authority.RawSubject), sha256.Sum256(public.Bytes())
	single.Certificate.Hash.Algorithm = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1} // SHA-256
	single.Certificate.NameHash, single.Certificate.KeyHash, single.Certificate.Serial = name[:], point[:], serial
	data := marshal(ocspData{
		Responder:  asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: authority.RawSubject},
		ProducedAt: now, Responses: []ocspSingle{single},
	})
	digest := sha256.Sum256(data)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var answer ocspAnswer
	answer.Bytes.Type = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1} // id-pkix-ocsp-basic
	answer.Bytes.Data = marshal(ocspSigned{
		Data:      asn1.RawValue{FullBytes: data},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	return marshal(answer)
}

const stapled = `{
	admin $ADMIN
	auto_https disable_redirects
	storage tentagate {
		redis {env.CERTIFICATES_REDIS_URL}
		key {env.CERTIFICATE_KEY}
		timeout 30s
	}
}
https://shop.test:$PORT {
	tls $FILES/shop.crt $FILES/shop.key
	respond "hello"
}
`

// stapleOf returns the OCSP response that a gateway sends with its certificate.
func stapleOf(t *testing.T, g *gateway) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", g.addr, &tls.Config{ServerName: "shop.test", InsecureSkipVerify: true}) //nolint:gosec // of an authority made for the test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().OCSPResponse
}

// An OCSP response that one gateway got is stapled by all that share its storage, while
// the authority is away too.
func TestSharedStaples(t *testing.T) {
	redis := redistest.Start(t)
	answer := []byte(nil)
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	defer responder.Close()
	keys := make([]*ecdsa.PrivateKey, 2)
	certificates := make([]*x509.Certificate, 2) // the authority, and the host
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 7)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}
		parent, signer := template, key
		if i == 0 {
			template.Subject.CommonName, template.IsCA, template.BasicConstraintsValid = "authority", true, true
		} else {
			template.DNSNames, template.OCSPServer = []string{"shop.test"}, []string{responder.URL}
			parent, signer = certificates[0], keys[0]
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key
		if certificates[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	answer = goodAnswer(t, certificates[0], keys[0], certificates[1].SerialNumber)
	private, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates[1].Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates[0].Raw})...)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"shop.crt": chain, "shop.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	text := strings.ReplaceAll(stapled, "$FILES", dir)
	env := []string{"CERTIFICATES_REDIS_URL=" + redis.URL(), "CERTIFICATE_KEY=" + certificateKey}
	if got := stapleOf(t, start(t, text, env...)); !bytes.Equal(got, answer) {
		t.Fatalf("the first gateway staples %x, want %x", got, answer)
	}
	responder.Close()
	if got := stapleOf(t, start(t, text, env...)); !bytes.Equal(got, answer) {
		t.Errorf("the second gateway staples %x, want %x", got, answer)
	}
	alone := strings.Replace(text, "{env.CERTIFICATES_REDIS_URL}", "{env.CERTIFICATES_REDIS_URL} {\n\t\t\tkey_prefix alone\n\t\t}", 1)
	if got := stapleOf(t, start(t, alone, env...)); len(got) > 0 {
		t.Errorf("a gateway that shares nothing staples %x", got)
	}
	expectUnreadable(t, redis, "shop.test", "ocsp/", string(answer[:16]))
}
