package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/internal/origin"
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
			return fmt.Errorf("%s: it contains only white space: set a value, or unset it", name)
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
			return nil, errors.New(`not a valid JSON list: write it as https://app.example.com,https://admin.example.com`)
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
		if set, err := origin.Parse([]string{canonical}); err == nil && len(set.PublicSuffixes()) > 0 {
			return nil, fmt.Errorf("entry %d of %d: origin %q: anybody can register a name under %s, and pages of these origins may send credentials: name the origins",
				i+1, len(list), entry, set.PublicSuffixes()[0])
		}
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
