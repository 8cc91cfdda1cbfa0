package caddyfile

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/dotenv"
	"github.com/pythopus/tentagate/jwtauth"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "token",
		Usage: "[--sub <subject>] [--claim <name>=<value>]... [--ttl <duration>] [--alg <name>] [--secret <secret> | --key <file>]",
		Short: "Issues a JSON Web Token for development",
		Long: `
Prints a signed token that a gateway with the same key accepts. It is meant for
development: in production an identity provider issues tokens.

The key is the secret of --secret or JWT_SECRET_KEY, or the private key in the PEM file
of --key (RSA, ECDSA or Ed25519). Other users of the machine can see the arguments of
a command, so prefer the variable. The issuer and the audience are JWT_ISSUER and
JWT_AUDIENCE unless a --claim overrides them.

The value of a --claim is JSON, such as true, 5 or ["a","b"]; anything else is a string.`,
		CobraFunc: func(cmd *cobra.Command) {
			describeRoot(cmd)
			admin.Describe(cmd, "token", "token --sub alice --claim plan=gold --ttl 15m", "token --key private.pem --kid 2026-01")
			var c tokenCommand
			flags := cmd.Flags()
			flags.StringVar(&c.subject, "sub", "developer", "Subject (sub) of the token; empty for none")
			flags.StringArrayVar(&c.claims, "claim", nil, "Claim to add, as name=value; may be repeated")
			flags.StringVar(&c.ttl, "ttl", "1h", "How long the token is valid")
			flags.StringVar(&c.algorithm, "alg", "", "Algorithm (default: JWT_ALGORITHM, or the usual one of the key)")
			flags.StringVar(&c.keyID, "kid", "", "Key ID (kid) for the header of the token")
			flags.StringVar(&c.secret, "secret", "", "Secret for HS256, HS384 and HS512 (default: JWT_SECRET_KEY)")
			flags.StringVar(&c.keyFile, "key", "", "PEM file of the private key for the other algorithms")
			dotenv.AddFlag(flags, &c.envFile)
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				if err := loadEnvironment(c.envFile); err != nil {
					return err
				}
				token, err := c.make(time.Now())
				if err != nil {
					return err
				}
				_, err = io.WriteString(cmd.OutOrStdout(), token+"\n")
				return err
			}
		},
	})
}

// tokenCommand are the flags of `tentagate token`.
type tokenCommand struct {
	subject, ttl, algorithm, keyID, secret, keyFile, envFile string
	claims                                                   []string
}

// make signs a token.
func (c *tokenCommand) make(now time.Time) (string, error) {
	ttl, err := caddy.ParseDuration(c.ttl)
	if err != nil || ttl <= 0 {
		return "", fmt.Errorf("--ttl %q: write a duration above zero, such as 15m, 1h or 7d", c.ttl)
	}
	claims := jwt.MapClaims{"iat": now.Unix(), "exp": now.Add(ttl).Unix()}
	if c.subject != "" {
		claims["sub"] = c.subject
	}
	if issuer := getenv(envIssuer); issuer != "" {
		claims["iss"] = issuer
	}
	if audience := splitList(getenv(envAudience)); len(audience) > 0 {
		claims["aud"] = audience[0] // the gateway accepts any of them
	}
	for _, claim := range c.claims {
		name, text, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return "", fmt.Errorf("--claim %q: write it as name=value", claim)
		}
		var value any = text
		if raw := json.RawMessage(text); json.Valid(raw) {
			value = raw
		}
		claims[name] = value
	}
	method, key, err := c.key()
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(method, claims)
	if c.keyID != "" {
		token.Header["kid"] = c.keyID
	}
	return token.SignedString(key)
}

// key returns the key and the signing method.
func (c *tokenCommand) key() (jwt.SigningMethod, any, error) {
	var key any
	var fitting []string
	switch {
	case c.secret != "" && c.keyFile != "":
		return nil, nil, errors.New("--secret and --key are both given: a token is signed with one of them")
	case c.keyFile != "":
		private, err := readPrivateKey(c.keyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("--key %s: %w", c.keyFile, err)
		}
		if fitting, err = algorithmsOf(private); err != nil {
			return nil, nil, fmt.Errorf("--key %s: %w", c.keyFile, err)
		}
		key = private
	default:
		secret, err := c.findSecret()
		if err != nil {
			return nil, nil, err
		}
		key, fitting = []byte(secret), hmacAlgorithms
	}
	name := c.algorithm
	if list := splitList(getenv(envAlgorithm)); name == "" && len(list) > 0 {
		name = list[0]
	}
	name = cmp.Or(name, fitting[0])
	if !slices.Contains(fitting, name) {
		return nil, nil, fmt.Errorf("algorithm %q does not fit the key: accepted are %s", name, strings.Join(fitting, ", "))
	}
	if secret, ok := key.([]byte); ok {
		if least := map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[name]; len(secret) < least {
			return nil, nil, fmt.Errorf("the secret has %d bytes: %s takes at least %d", len(secret), name, least)
		}
		if err := jwtauth.CheckSecret(secret); err != nil {
			return nil, nil, fmt.Errorf("the secret is not accepted: %w", err)
		}
	}
	if name == "Ed25519" {
		return ed25519Method{jwt.SigningMethodEdDSA}, key, nil
	}
	return jwt.GetSigningMethod(name), key, nil
}

// ed25519Method is EdDSA by the name that RFC 9864 gives it for this curve.
type ed25519Method struct{ *jwt.SigningMethodEd25519 }

// Alg returns the name for the token's header.
func (ed25519Method) Alg() string { return "Ed25519" }

func (c *tokenCommand) findSecret() (string, error) {
	if c.secret != "" {
		return c.secret, nil
	}
	if secret := strings.TrimRight(os.Getenv(envSecret), "\r\n"); secret != "" {
		return secret, nil
	}
	if path := getenv(envSecretFile); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", envSecretFile, err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return "", fmt.Errorf("no key: set %s, or give --secret or --key", envSecret)
}

// readPrivateKey reads a private key in PKCS #8, PKCS #1 or SEC 1 form. Its
// errors show nothing of the file.
func readPrivateKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: decrypt it first, as with `openssl pkey`")
		default:
			continue // such as EC PARAMETERS
		}
		if err != nil {
			return nil, fmt.Errorf("its %s cannot be read: %w", block.Type, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("its key is for %T, not for signing", key)
	}
	return nil, errors.New("there is no private key in PEM form in it")
}

// algorithmsOf returns the algorithms of a key, the usual one first.
func algorithmsOf(key crypto.Signer) ([]string, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PrivateKey:
		if name, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Params().BitSize]; ok {
			return []string{name}, nil
		}
		return nil, fmt.Errorf("the curve %s is not used in tokens: accepted are P-256, P-384 and P-521", key.Params().Name)
	case ed25519.PrivateKey:
		return []string{"EdDSA", "Ed25519"}, nil
	}
	return nil, fmt.Errorf("a key of type %T is not used in tokens: accepted are RSA, ECDSA and Ed25519", key)
}
