package admin

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/internal/credentials"
)

// mask takes the place of a secret.
const mask = "*****"

// ofRequests stands for the name of an object with values of requests.
const ofRequests = "values of requests"

var (
	// secretNames are the members whose texts are secrets, with all that is inside.
	secretNames = regexp.MustCompile(`(?i)secret|passw|passphrase|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie|bearer|signature|hmac|mac_key`)
	// keyNames are members whose texts may be secrets; those inside have names of their
	// own.
	keyNames = regexp.MustCompile(`(?i)^(.*[_-])?(keys?|salts?|nonces?|pins?|auth|users?|kid|account)$`)
	// openNames are members that the others match too, but that hold no secret: files,
	// and names.
	openNames = regexp.MustCompile(`(?i)_file$|^(credentials|sources|public_keys|missing_key|key_prefix|key_type|path_prefix|token_cache|strip_token)$`)
	// onlyPlaceholders say where a secret is, and are none.
	onlyPlaceholders = regexp.MustCompile(`^(\{[a-zA-Z][a-zA-Z0-9_./\-]*\})+$`)
	// userinfo is that of a URL.
	userinfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s"]*@`)
	// parameters are those of a URL's query.
	parameters = regexp.MustCompile(`([?&;])([^=&;?\s"]+)=([^&;#\s"]*)`)
	// literals are the strings of an expression.
	literals = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|` + "`[^`]*`")
	// privateKey begins one in PEM.
	privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)
	// harmlessFields are request fields in which nobody sends a secret.
	harmlessFields = regexp.MustCompile(`(?i)^(accept(-.*)?|cache-control|connection|content-type|host|origin|referer|sec-fetch-.*|te|upgrade|user-agent|via|x-forwarded-.*|x-real-ip)$`)
	// schemes are those of values of Authorization.
	schemes = regexp.MustCompile(`(?i)\b(bearer|basic|digest|apikey|token)\s+\S+`)
)

// masked returns a JSON value without the secrets in it. A text is masked if the name of
// its member says that it may be one: what is not known to be harmless is hidden.
func masked(value any) any { return maskedIn("", value) }

// maskedIn is masked for the value of a member.
func maskedIn(name string, value any) any {
	switch v := value.(type) {
	case map[string]any:
		named := namesSecret(v)
		_, isMap := v["destinations"]
		for member, inner := range v {
			within := member
			switch {
			case name == ofRequests:
				if !harmlessFields.MatchString(member) {
					within = "secret"
				}
			case hides(name) && !openNames.MatchString(member):
				within = name // such as header fields by name
			case named && member != "name" && member != "field" && member != "handler" && (!isMap || member != "destinations" && member != "source"):
				within = "secret"
			case holdsRequestValues(name, member, inner):
				within = ofRequests
			}
			v[member] = maskedIn(within, inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = maskedIn(name, inner)
		}
	case string:
		return maskedText(name, v)
	}
	return value
}

// holdsRequestValues reports whether an object has by name what requests must have, as in
// a matcher, or are given, as by header_up. Services and proxies often know each other by
// such a value, whatever the name is.
func holdsRequestValues(name, member string, inner any) bool {
	if _, ok := inner.(map[string]any); !ok {
		return false
	}
	switch member {
	case "header", "header_regexp", "query", "vars", "vars_regexp":
		return true
	case "headers":
		return name == "active" // those of health checks
	case "add", "set", "replace":
		return name == "request"
	}
	return false
}

func maskedText(name, text string) string {
	switch {
	case text == "" || onlyPlaceholders.MatchString(text):
		return text
	case hides(name), keyNames.MatchString(name) && !openNames.MatchString(name), privateKey.MatchString(text):
		return mask
	case name == "input", name == "input_regexp": // of map: what requests are compared with
		return mask
	case strings.HasPrefix(name, "expr"):
		return literals.ReplaceAllString(text, "'"+mask+"'")
	}
	text = userinfo.ReplaceAllString(text, "${1}"+mask+"@")
	text = schemes.ReplaceAllString(text, "${1} "+mask)
	return parameters.ReplaceAllStringFunc(text, func(parameter string) string {
		found := parameters.FindStringSubmatch(parameter)
		if name := strings.ToLower(found[2]); hides(name) || keyNames.MatchString(name) || credentials.IsParameter(name) || credentials.IsParameterName(name) {
			return found[1] + found[2] + "=" + mask
		}
		return parameter
	})
}

// namesSecret reports whether an object is a name and a value, and the name is that of a
// secret. Of map, the names are those of its placeholders.
func namesSecret(object map[string]any) bool {
	for _, member := range []string{"name", "field", "header"} {
		if name, ok := object[member].(string); ok && hides(name) {
			return true
		}
	}
	names, _ := object["destinations"].([]any)
	return slices.ContainsFunc(names, func(name any) bool {
		text, ok := name.(string)
		return ok && (hides(text) || keyNames.MatchString(strings.Trim(text, "{}")))
	})
}

func hides(name string) bool { return secretNames.MatchString(name) && !openNames.MatchString(name) }
