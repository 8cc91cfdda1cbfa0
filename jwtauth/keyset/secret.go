package keyset

import (
	"errors"
	"fmt"
	"strings"
)

// minVariety is how many different bytes a secret has at least. A random one of
// 32 bytes has many more, also in hexadecimal.
const minVariety = 8

// placeholderSecrets stand in the secrets of examples, as in k8s/tentagate.yaml,
// written in small letters and digits alone. Who copies an example copies them
// too, and everybody knows them.
var placeholderSecrets = []string{
	"replacethis", "replaceme", "replacewith", "changethis", "changeme", "putyoursecret", "insertyoursecret",
	"yoursecret", "yourjwtsecret", "yoursupersecret", "your256bitsecret", "your384bitsecret", "your512bitsecret",
	"astringsecretatleast",
}

// CheckSecret refuses a secret that anybody can guess: one out of an example, or
// with too little variety. Its errors do not repeat the secret.
func CheckSecret(secret []byte) error {
	var letters strings.Builder
	seen := map[byte]struct{}{}
	for _, c := range secret {
		seen[c] = struct{}{}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			letters.WriteByte(c)
		}
	}
	for _, known := range placeholderSecrets {
		if strings.Contains(letters.String(), known) {
			return errors.New("it is the placeholder of an example, which everybody knows: make a random one, as `openssl rand -base64 48` does")
		}
	}
	if len(seen) < minVariety {
		return fmt.Errorf("it has %d different characters, so that it can be guessed: make a random one, as `openssl rand -base64 48` does", len(seen))
	}
	return nil
}
