package jwtauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

func (p *Provider) reloading(load func() ([]byte, *keyset.Set, error)) error {
	source, err := keyset.NewReloading(load, p.reloadFailed)
	if err != nil {
		return err
	}
	p.source = source
	return nil
}

func (p *Provider) reloadFailed(err error) {
	p.logger.Warn("reloading keys failed: the last good keys stay in use", zap.String("provider", p.name), zap.Error(err))
}

func (p *Provider) loadSecrets() ([]byte, *keyset.Set, error) {
	var secrets [][]byte
	all := sha256.New()
	for i, text := range p.Secrets {
		secret, err := p.secret(fmt.Sprintf("secret %d of %d", i+1, len(p.Secrets)), text)
		if err != nil {
			return nil, nil, err
		}
		all.Write(fmt.Appendf(nil, "%d:", len(secret)))
		all.Write(secret)
		secrets = append(secrets, secret)
	}
	set, err := keyset.Secrets(secrets, p.Algorithms)
	if err != nil {
		err = p.nameSecret(secrets, err)
	}
	return all.Sum(nil), set, err
}

// nameSecret adds to an error the placeholder of the secret that is bad.
func (p *Provider) nameSecret(secrets [][]byte, err error) error {
	for i, secret := range secrets {
		_, bad := keyset.Secrets([][]byte{secret}, p.Algorithms)
		if names := resolve.Placeholders(p.Secrets[i]); bad != nil && len(names) == 1 && p.Secrets[i] == "{"+names[0]+"}" {
			return fmt.Errorf("secret %d of %d: %s: %w", i+1, len(secrets), p.Secrets[i], errors.Unwrap(bad))
		}
	}
	return err
}

// secret returns the secret that an option is.
func (p *Provider) secret(option, text string) ([]byte, error) {
	resolved, err := resolveSecret(option, text)
	if err != nil || !p.Base64 {
		return []byte(resolved), err
	}
	secret, err := decodeBase64(resolved)
	if err != nil {
		return nil, fmt.Errorf("%s: it is not base64", option)
	}
	return secret, nil
}

// resolveSecret returns the value of an option that is a secret. Its errors show
// a placeholder, but nothing of a secret, which may have braces in it too.
func resolveSecret(option, text string) (string, error) {
	value, err := resolve.Secret(option, text)
	names := resolve.Placeholders(text)
	whole := len(names) == 1 && text == "{"+names[0]+"}"
	if variable, ok := strings.CutPrefix(strings.Join(names, ""), "env."); ok && whole && err != nil {
		return "", fmt.Errorf("%s: %s is empty: set the environment variable %s to a random text of at least 32 characters", option, text, variable)
	}
	return strings.TrimRight(value, "\r\n"), err
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if strings.ContainsAny(text, "-_") {
		return base64.RawURLEncoding.DecodeString(text)
	}
	return base64.RawStdEncoding.DecodeString(text)
}

func (p *Provider) loadPublicKeys() ([]byte, *keyset.Set, error) {
	var sets []*keyset.Set
	all := sha256.New()
	for i, text := range p.PublicKeys {
		option := fmt.Sprintf("public_key %d of %d", i+1, len(p.PublicKeys))
		data, set, err := readPublicKey(option, text, p.Algorithms)
		if err != nil {
			return nil, nil, err
		}
		all.Write(fmt.Appendf(nil, "%d:", len(data)))
		all.Write(data)
		sets = append(sets, set)
	}
	return all.Sum(nil), keyset.Join(sets...), nil
}

// maxPath is longer than any path, and shorter than any key.
const maxPath = 4096

// readPublicKey returns what an option has, or the file that it names, and the
// keys in it. Its errors name the option and its placeholder or path: what is in
// a variable may be a key that nobody should see.
func readPublicKey(option, text string, algorithms []string) ([]byte, *keyset.Set, error) {
	value, err := resolve.Secret(option, text)
	if err != nil {
		return nil, nil, err
	}
	named := option
	if len(resolve.Placeholders(text)) > 0 {
		named += ": " + text
	}
	set, known, err := keyset.PublicKeys([]byte(value), algorithms)
	if err != nil || known {
		return []byte(value), set, wrap(named, err)
	}
	path := strings.TrimSpace(value)
	if len(path) > maxPath || strings.ContainsAny(path, "\r\n") {
		return nil, nil, fmt.Errorf("%s: it is neither a key in PEM form or base64, nor the name of a file", named)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if named == option {
			named += ": " + path
		}
		if at, ok := errors.AsType[*os.PathError](err); ok {
			err = at.Err
		}
		return nil, nil, fmt.Errorf("%s: neither PEM nor a file that can be read: %w: accepted are a key in PEM form or base64, "+
			"in which \\n may stand for the line ends, and the name of a file of them", named, err)
	}
	set, known, err = keyset.PublicKeys(data, algorithms)
	if err == nil && !known {
		err = errors.New("the file has no key in PEM form or base64")
	}
	return data, set, wrap(named, err)
}

// wrap puts what an error is about in front of it.
func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
