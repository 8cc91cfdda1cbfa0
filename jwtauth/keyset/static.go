package keyset

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Secrets makes a set of HMAC secrets. Several are accepted at once, so that
// one can be rotated. No error repeats a secret.
func Secrets(secrets [][]byte, accepted []string) (*Set, error) {
	var keys []Key
	for i, secret := range secrets {
		k, err := newKey("", secret, accepted)
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d: %w", i+1, len(secrets), err)
		}
		keys = append(keys, k)
	}
	return newSet(keys, false), nil
}

// PEM makes a set of all public keys and certificates in a PEM text.
func PEM(text []byte, accepted []string) (*Set, error) {
	var keys []Key
	for rest := text; ; {
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
		return nil, errors.New("it is a private key: a gateway that verifies needs the public one alone")
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
