package keyset

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// minVariety is how many different bytes a secret has at least. A random one of
// 32 bytes has many more, also in hexadecimal.
const minVariety = 8

// minUnit is how many bytes a secret has at least before it repeats itself.
const minUnit = 16

// placeholderSecrets are parts of the secrets in examples, such as those of
// k8s/base, in lower-case letters and digits alone. They are copied with the
// examples, and are public.
var placeholderSecrets = []string{
	"replacethis", "replaceme", "replacewith", "changethis", "changeme", "putyoursecret", "insertyoursecret",
	"yoursecret", "yourjwtsecret", "yoursupersecret", "your256bitsecret", "your384bitsecret", "your512bitsecret",
	"astringsecretatleast", "insertalong", "generateone", "supersecret", "mysecret", "topsecret", "thisisasecret", "changeit", "donotuse",
}

var errPlaceholder = errors.New("it is the placeholder of an example, which everybody knows: make a random one, as `openssl rand -base64 48` does")

// fillers are the words around placeholders in sentences, which are not random either.
var fillers = []string{
	"secret", "token", "with", "least", "character", "chars", "long", "bits", "bytes", "random", "production", "development", "testing",
	"super", "string", "replace", "change", "your", "please", "value", "strong", "secure", "minimum", "default", "example", "password",
	"must", "should", "that", "this", "which", "very", "enough", "algorithm", "generate",
}

// minRest is how many letters and digits a secret has at least besides a placeholder
// that is part of it.
const minRest = 32

// notRandom removes placeholders, and the words around them.
var notRandom = func() *strings.Replacer {
	var pairs []string
	for _, word := range slices.Concat(placeholderSecrets, fillers) { // the first that fits is taken
		pairs = append(pairs, word, "")
	}
	return strings.NewReplacer(pairs...)
}()

// CheckSecret refuses a secret that can be guessed: one from an example, the name of
// what holds one, one with too few different characters, or a short one that is
// repeated. Its errors do not contain the secret.
func CheckSecret(secret []byte) error {
	if isPlaceholder(secret) {
		return errPlaceholder
	}
	if reference.Match(secret) {
		return errReference
	}
	return checkVariety(secret)
}

// reference is how a variable, a file or a URL that holds a secret is called: NAME_OF_IT,
// $NAME, ${NAME}, %NAME_OF_IT%, env.NAME, {env.NAME without its other brace,
// /run/secrets/name, vault://name. Nothing random looks like these.
var reference = regexp.MustCompile(`^(` +
	`[%$]?[A-Z][A-Z0-9]*(_[A-Z0-9]+)+%?|\$[A-Za-z_]\w*|\$?\{+\s*[\w.:/-]+\s*\}*|env[.:]\w+|[a-z][a-z0-9+.-]*://.*|` +
	`(~|\.{1,2})?/(run|var|etc|mnt|opt|home|tmp|srv|usr|root|app|data|config|vault|keys|secrets?)/[\w./-]+)$`)

var errReference = errors.New("it is what a variable or a file is called, not what is in it: write {env.NAME} or {file./path}")

func checkVariety(secret []byte) error {
	seen := map[byte]struct{}{}
	for _, c := range secret {
		seen[c] = struct{}{}
	}
	if len(seen) < minVariety {
		return fmt.Errorf("it has %d different characters, so that it can be guessed: make a random one, as `openssl rand -base64 48` does", len(seen))
	}
	if unit := unitOf(secret); unit < minUnit {
		return fmt.Errorf("it repeats its first %d characters, so that it can be guessed: make a random one, as `openssl rand -base64 48` does", unit)
	}
	return nil
}

// unitOf returns after how many bytes the secret repeats itself to its end, or
// its length.
func unitOf(secret []byte) int {
	for n := 1; n <= len(secret)/2; n++ {
		if bytes.Equal(secret[n:], secret[:len(secret)-n]) {
			return n
		}
	}
	return len(secret)
}

// isPlaceholder reports whether a secret is from an example, also in base64, as
// manifests of Kubernetes have it.
func isPlaceholder(secret []byte) bool {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(string(secret)), "="))
	if decoded, err := base64.RawStdEncoding.DecodeString(text); err == nil && hasPlaceholder(decoded) {
		return true
	}
	return hasPlaceholder(secret)
}

// hasPlaceholder reports whether a placeholder is in the text, and what remains without
// it would not do as a secret.
func hasPlaceholder(secret []byte) bool {
	letters := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, strings.ToLower(string(secret)))
	if !slices.ContainsFunc(placeholderSecrets, func(known string) bool { return strings.Contains(letters, known) }) {
		return false
	}
	rest := notRandom.Replace(letters)
	return len(rest) < minRest || checkVariety([]byte(rest)) != nil
}
