package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// rsaKeys are the key pair of the workloads with RS256.
type rsaKeys struct {
	key *rsa.PrivateKey
	pem []byte // of the public key
}

func newRSAKeys() (*rsaKeys, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &rsaKeys{key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, nil
}

// public returns a file with the public key.
func (k *rsaKeys) public(l *lab) string {
	path := filepath.Join(l.dir, "public.pem")
	_ = os.WriteFile(path, k.pem, 0o600) // the server says it if it is not there
	return path
}

// token returns a token of one user, signed by the algorithm.
func (l *lab) token(algorithm string) (string, error) {
	claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(12 * time.Hour).Unix()}
	if algorithm == "RS256" {
		return jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(l.rsa.key)
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(l.secret))
}
