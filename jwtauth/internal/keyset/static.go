package keyset

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Secrets makes a set of HMAC secrets. Several are accepted at once, so that
// one can be rotated. No error repeats a secret.
func Secrets(secrets [][]byte, accepted []string) (*Set, error) {
	var keys []Key
	for i, secret := range secrets {
		k, err := newKey("", secret, accepted)
		if err == nil {
			err = CheckSecret(secret)
		}
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d: %w", i+1, len(secrets), err)
		}
		keys = append(keys, k)
	}
	return newSet(keys, false), nil
}

// PublicKeys makes a set of what a text holds: PEM blocks, or one key or
// certificate in base64 without the lines around it. known is false where it is
// neither, and so may be the name of a file.
func PublicKeys(text []byte, accepted []string) (set *Set, known bool, err error) {
	if bytes.Contains(text, []byte("-----BEGIN")) {
		set, err = PEM(text, accepted)
		return set, true, err
	}
	der, err := decodeBase64(strings.Join(strings.Fields(string(text)), ""))
	switch {
	case err != nil:
		return nil, false, nil
	case bytes.Contains(der, []byte("-----BEGIN")):
		set, err = PEM(der, accepted)
		return set, true, err
	case isPrivate(der):
		return nil, true, errPrivate
	}
	for _, kind := range []string{"PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"} {
		if value, err := publicKey(&pem.Block{Type: kind, Bytes: der}); err == nil {
			k, err := newKey("", value, accepted)
			if err != nil {
				return nil, true, err
			}
			return newSet([]Key{k}, false), true, nil
		}
	}
	return nil, false, nil
}

func isPrivate(der []byte) bool {
	_, pkcs8 := x509.ParsePKCS8PrivateKey(der)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(der)
	_, sec1 := x509.ParseECPrivateKey(der)
	return pkcs8 == nil || pkcs1 == nil || sec1 == nil
}

// decodeBase64 takes the standard and the URL alphabet, with padding or without.
func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if strings.ContainsAny(text, "-_") {
		return base64.RawURLEncoding.DecodeString(text)
	}
	return base64.RawStdEncoding.DecodeString(text)
}

// PEM makes a set of all public keys and certificates in a PEM text. In a
// variable its lines may have become one: \n, or spaces, stand for their ends.
func PEM(text []byte, accepted []string) (*Set, error) {
	var keys []Key
	for rest := withLines(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		value, err := publicKey(block)
		if err != nil {
			return nil, fmt.Errorf("public key %d: %w", len(keys)+1, err)
		}
		k, err := newKey("", value, accepted)
		if err != nil {
			return nil, fmt.Errorf("public key %d: %w", len(keys)+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block in it: accepted are PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE")
	}
	return newSet(keys, false), nil
}

var (
	pemBlock   = regexp.MustCompile(`(?s)-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END ([A-Z0-9 ]+)-----`)
	pemEscapes = strings.NewReplacer(`\r`, "", `\n`, "\n", "\r", "\n")
)

// withLines puts the lines of each PEM block back where they belong.
func withLines(text []byte) []byte {
	return pemBlock.ReplaceAllFunc([]byte(pemEscapes.Replace(string(text))), func(block []byte) []byte {
		part := pemBlock.FindSubmatch(block)
		if bytes.ContainsRune(part[2], ':') {
			return block // it has headers, as private keys do
		}
		return fmt.Appendf(nil, "\n-----BEGIN %s-----\n%s\n-----END %s-----\n", part[1], bytes.Join(bytes.Fields(part[2]), nil), part[3])
	})
}

var errPrivate = errors.New("it is a private key: a gateway that verifies needs the public one alone")

func publicKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.Contains(block.Type, "PRIVATE") {
		return nil, errPrivate
	}
	return nil, fmt.Errorf("PEM type %q: accepted are PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE", block.Type)
}

// Join makes one set of several static ones.
func Join(sets ...*Set) *Set {
	var keys []Key
	for _, s := range sets {
		keys = append(keys, s.keys...)
	}
	return newSet(keys, false)
}
