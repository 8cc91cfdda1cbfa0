package caddyfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/jwtauth"
)

// What JWT_ALGORITHM takes is what jwt_auth takes.
var hmacAlgorithms, publicKeyAlgorithms = func() (hmac, public []string) {
	for _, name := range jwtauth.Algorithms() {
		if strings.HasPrefix(name, "HS") {
			hmac = append(hmac, name)
		} else {
			public = append(public, name)
		}
	}
	return hmac, public
}()

// keyOptions are the options of jwt_auth with which it gets its keys.
var keyOptions = []string{"secret", "public_key", "jwks", "discovery"}

// authOfEnvironment returns the lines of a `jwt_auth` block that are not given:
// keys as placeholders, everything else as it is now, so that a variable that is
// lost later cannot widen what is accepted. A key set that is given is at jwks.
func authOfEnvironment(given map[string]bool, jwks string) (lines [][]string, err error) {
	if err := noBlanks(envSecret, envSecretFile, envPublicKey, envJWKS, envDiscovery, envAlgorithm, envIssuer, envAudience, envAllowHTTP); err != nil {
		return nil, err
	}
	kind := "" // of the keys, where it is certain
	for _, option := range keyOptions {
		if given[option] {
			kind = option
		}
	}
	own := kind != ""
	if !own {
		key, err := keyOfEnvironment()
		if err != nil {
			return nil, err
		}
		lines, kind = append(lines, key), key[0]
	}
	if kind == "jwks" && own && !strings.Contains(jwks, "://") {
		kind = "" // a file may hold secrets or public keys
	}
	algorithms, err := algorithmsOfEnvironment(kind)
	if err != nil {
		return nil, err
	}
	if len(algorithms) == 0 && kind == "secret" && !own {
		algorithms = []string{"HS256"}
	}
	audience, err := listOfEnvironment(envAudience)
	if err != nil {
		return nil, err
	}
	for _, option := range []struct {
		name     string
		variable string
		values   []string
	}{
		{"algorithms", envAlgorithm, algorithms},
		{"issuer", envIssuer, listOf(getenv(envIssuer))},
		{"audience", envAudience, audience},
	} {
		if given[option.name] || len(option.values) == 0 {
			continue
		}
		for _, value := range option.values {
			if err := jwtauth.CheckVariable(option.variable, value); err != nil && option.variable != envAlgorithm {
				return nil, err
			}
			if strings.HasPrefix(value, `["`) {
				return nil, fmt.Errorf("%s: %q is a JSON list: write the values with commas between them", option.variable, value)
			}
			if strings.ContainsAny(value, "{}\r\n") {
				return nil, fmt.Errorf("%s: %q: it must have no braces and line ends", option.variable, value)
			}
		}
		lines = append(lines, append([]string{option.name}, option.values...))
	}
	if value := getenv(envAllowHTTP); value != "" && !given["allow_http"] && (kind == "jwks" || kind == "discovery") {
		allow, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: accepted are true and false", envAllowHTTP, value)
		}
		if allow {
			lines = append(lines, []string{"allow_http"})
		}
	}
	return lines, nil
}

// algorithmsOfEnvironment reads JWT_ALGORITHM and checks that its values fit the
// keys, if their kind is known.
func algorithmsOfEnvironment(kind string) ([]string, error) {
	algorithms, err := listOfEnvironment(envAlgorithm)
	if err != nil {
		return nil, err
	}
	hmac := kind == "secret"
	accepted := publicKeyAlgorithms
	switch kind {
	case "":
		accepted = jwtauth.Algorithms()
	case "secret":
		accepted = hmacAlgorithms
	}
	for _, name := range algorithms {
		switch {
		case slices.Contains(accepted, name):
		case hmac && slices.Contains(publicKeyAlgorithms, name):
			return nil, fmt.Errorf("%s: %s verifies with a public key: set %s, %s or %s instead of %s",
				envAlgorithm, name, envJWKS, envDiscovery, envPublicKey, envSecret)
		case slices.Contains(hmacAlgorithms, name):
			return nil, fmt.Errorf("%s: %s verifies with a secret, but there are public keys: leave it out, or set it to one of %s",
				envAlgorithm, name, strings.Join(accepted, ", "))
		default:
			return nil, fmt.Errorf("%s: unknown algorithm %q: accepted are %s", envAlgorithm, name, strings.Join(accepted, ", "))
		}
	}
	return algorithms, nil
}

// listOfEnvironment reads a variable with a list, which is either not set or has
// something in it: a list of commas alone would switch a check off.
func listOfEnvironment(name string) ([]string, error) {
	text := getenv(name)
	list := splitList(text)
	if text != "" && len(list) == 0 {
		return nil, fmt.Errorf("%s: %q has no value: write values with commas between them, or unset it", name, text)
	}
	return list, nil
}

func listOf(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// keyOfEnvironment chooses the one source of keys. With none set it is the secret,
// which is reported as missing when the configuration loads.
func keyOfEnvironment() ([]string, error) {
	sources := []struct{ variable, option string }{
		{envSecret, "secret"},
		{envSecretFile, "secret"},
		{envPublicKey, "public_key"},
		{envJWKS, "jwks"},
		{envDiscovery, "discovery"},
	}
	var set []string
	key := []string{"secret", "{env." + envSecret + "}"}
	for _, source := range sources {
		value := getenv(source.variable)
		if value == "" {
			continue
		}
		set = append(set, source.variable)
		key = []string{source.option, "{env." + source.variable + "}"}
		if source.variable == envSecretFile {
			if strings.ContainsAny(value, "{}\r\n") {
				return nil, fmt.Errorf("%s: %q is not a path: it must have no braces and line ends", envSecretFile, value)
			}
			key[1] = "{file." + value + "}"
		}
	}
	if len(set) > 1 {
		return nil, fmt.Errorf("%s are all set, but only one may be: unset the others", strings.Join(set, " and "))
	}
	return key, nil
}
