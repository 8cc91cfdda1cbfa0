package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/internal/origin"
	"github.com/pythopus/tentagate/jwtauth"
)

// The environment variables that the directive reads while a Caddyfile is
// adapted. Those that hold a secret are only looked at for being set: their
// values are read when the configuration is loaded, and stand in no
// configuration.
const (
	envServices      = "BACKEND_SERVICES"
	envServiceSuffix = "_SERVICE_URL"
	envOrigins       = "ALLOWED_ORIGINS"
	envSecret        = "JWT_SECRET_KEY"
	envSecretFile    = "JWT_SECRET_KEY_FILE"
	envPublicKey     = "JWT_PUBLIC_KEY"
	envJWKS          = "JWT_JWKS_URL"
	envDiscovery     = "JWT_DISCOVERY_URL"
	envAlgorithm     = "JWT_ALGORITHM"
	envIssuer        = "JWT_ISSUER"
	envAudience      = "JWT_AUDIENCE"
	envAllowHTTP     = "JWT_ALLOW_HTTP"
)

// getenv returns the variable without the spaces and line ends around it that
// files and manifests bring along.
func getenv(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// noBlanks refuses variables that are set to nothing but white space: one that
// is empty is not set, but blanks are a mistake that would switch a check off.
func noBlanks(names ...string) error {
	for _, name := range names {
		if os.Getenv(name) != "" && getenv(name) == "" {
			return fmt.Errorf("%s: it has nothing but white space: write a value, or unset it", name)
		}
	}
	return nil
}

// servicesOfEnvironment reads the services from BACKEND_SERVICES or, if that is
// not set, from the variables that end in _SERVICE_URL. There may be none.
func servicesOfEnvironment() ([]*service, error) {
	if err := noBlanks(envServices); err != nil {
		return nil, err
	}
	if text := getenv(envServices); text != "" {
		services, err := parseServices(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", envServices, err)
		}
		return services, nil
	}
	return servicesOfVariables(os.Environ())
}

// servicesOfVariables reads USERS_SERVICE_URL=http://users:8000 and the like:
// the name in lower case with dashes, several addresses with commas between
// them.
func servicesOfVariables(environ []string) (services []*service, err error) {
	environ = slices.Clone(environ)
	slices.Sort(environ)
	for _, line := range environ {
		variable, value, _ := strings.Cut(line, "=")
		name, ok := strings.CutSuffix(variable, envServiceSuffix)
		if !ok || name == "" || strings.TrimSpace(value) == "" {
			continue
		}
		name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		s, err := newService(name, splitList(value))
		if err == nil {
			services, err = addService(services, s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
	}
	return services, nil
}

// formOfServices ends each error about the form of BACKEND_SERVICES.
const formOfServices = `write it as {"users":"http://users:8000","orders":["http://o1:8000","http://o2:8000"]} or as users=http://users:8000,orders=http://orders:8000`

// parseServices reads the value of BACKEND_SERVICES, a JSON object or a list of
// name=URL.
func parseServices(text string) ([]*service, error) {
	switch {
	case strings.HasPrefix(text, "{"):
		return parseServicesJSON(text)
	case strings.HasPrefix(text, "["), strings.HasPrefix(text, `"`):
		return nil, fmt.Errorf("character 1: it begins with %q, not with a brace: %s", text[:1], formOfServices)
	case strings.HasPrefix(text, "'"):
		return nil, fmt.Errorf("character 1: the quotes are part of the value: leave the outer ones out, and %s", formOfServices)
	}
	var services []*service
	entries := strings.Split(text, ",")
	for i, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "" && i == len(entries)-1 && i > 0 {
			break // a comma at the end
		}
		where := fmt.Sprintf("entry %d of %d: ", i+1, len(entries))
		name, address, ok := strings.Cut(entry, "=")
		if !ok || strings.Contains(name, "://") {
			return nil, fmt.Errorf("%sit has no name: %s", where, formOfServices)
		}
		s, err := newService(strings.TrimSpace(name), []string{strings.TrimSpace(address)})
		if err == nil {
			services, err = addService(services, s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s%w", where, err)
		}
	}
	return services, nil
}

// parseServicesJSON reads the object member by member, because decoding into a
// map would lose duplicate names, and the order.
func parseServicesJSON(text string) ([]*service, error) {
	var whole any
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		return nil, jsonError(text, err)
	}
	// From here on the decoder finds no mistake in the form.
	dec := json.NewDecoder(strings.NewReader(text))
	_, _ = dec.Token() // the opening brace
	var services []*service
	for dec.More() {
		before := text[dec.InputOffset():]
		at := len(text) - len(strings.TrimLeft(before, ", \t\r\n"))
		token, err := dec.Token()
		if err != nil {
			return nil, jsonError(text, err)
		}
		name, _ := token.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, jsonError(text, err)
		}
		addresses, err := parseAddresses(raw)
		var s *service
		if err != nil {
			err = fmt.Errorf("service %s: %w", name, err)
		} else if s, err = newService(name, addresses); err == nil {
			services, err = addService(services, s)
		}
		if err != nil {
			return nil, fmt.Errorf("character %d: %w", at+1, err)
		}
	}
	if len(services) == 0 {
		return nil, errors.New("it names no service: " + formOfServices)
	}
	return services, nil
}

func parseAddresses(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil && raw[0] == '"' {
		return []string{one}, nil
	}
	var several []*string
	if err := json.Unmarshal(raw, &several); err != nil || raw[0] != '[' {
		return nil, errors.New("its value is neither a URL nor a list of URLs in quotes")
	}
	addresses := make([]string, len(several))
	for i, address := range several {
		if address == nil {
			return nil, errors.New("its value is neither a URL nor a list of URLs in quotes")
		}
		addresses[i] = *address
	}
	return addresses, nil
}

// jsonError says where the JSON breaks, and what often broke it.
func jsonError(text string, err error) error {
	at := int64(len(text))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	}
	hint := ""
	switch {
	case !strings.Contains(text, `"`):
		hint = ": the double quotes are missing; a shell takes them away unless single quotes are around the value"
	case strings.Contains(text, "'"):
		hint = ": JSON has double quotes, not single ones"
	}
	return fmt.Errorf("character %d: it is not JSON%s: %s", at, hint, formOfServices)
}

// originsOfEnvironment reads ALLOWED_ORIGINS, a list with commas or a JSON
// list. There may be none.
func originsOfEnvironment() ([]string, error) {
	if err := noBlanks(envOrigins); err != nil {
		return nil, err
	}
	origins, err := parseOrigins(getenv(envOrigins))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envOrigins, err)
	}
	return origins, nil
}

func parseOrigins(text string) ([]string, error) {
	var list []string
	switch {
	case strings.HasPrefix(text, "["):
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, errors.New(`it begins like a JSON list, but is none: write it as https://app.example.com,https://admin.example.com`)
		}
	case text != "":
		list = strings.Split(text, ",")
		for len(list) > 1 && strings.TrimSpace(list[len(list)-1]) == "" {
			list = list[:len(list)-1] // a comma at the end
		}
	}
	for i, entry := range list {
		entry = strings.TrimSpace(entry)
		if strings.ContainsAny(entry, "{}\"'`") {
			return nil, fmt.Errorf("entry %d of %d: %q is not an origin: it has quotes or braces in it: %s", i+1, len(list), entry, origin.Accepted)
		}
		// The same reader as that of cors. Other frameworks' settings add a slash,
		// which browsers never send.
		canonical, err := origin.Canonical(entry)
		if err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", i+1, len(list), err)
		}
		list[i] = canonical
	}
	if len(list) > 1 && slices.Contains(list, "*") {
		return nil, fmt.Errorf("entry %d of %d: origin *: it allows every origin, leave the others out", slices.Index(list, "*")+1, len(list))
	}
	return list, nil
}

// checkOrigins checks the origins of the directive where they stand. A
// placeholder is resolved when the configuration is loaded.
func checkOrigins(list []string) error {
	for _, text := range list {
		if strings.ContainsRune(text, '{') {
			continue
		}
		canonical, err := origin.Canonical(text)
		if err != nil {
			return err
		}
		if canonical == "*" && len(list) > 1 {
			return errors.New("origin *: it allows every origin, leave the others out")
		}
	}
	return nil
}

// splitList splits at commas and drops empty entries.
func splitList(text string) []string {
	var list []string
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	return list
}

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

// keyOfEnvironment chooses the one source of keys. With none set it is the
// secret, and loading the configuration tells that it is missing.
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
		return nil, fmt.Errorf("%s are all set, but tokens are verified with one of them: unset the others", strings.Join(set, " and "))
	}
	return key, nil
}
