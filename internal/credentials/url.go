package credentials

import (
	"net/url"
	"strings"
)

// RedactURL replaces the userinfo of a URL and, in its query and fragment, the values of
// parameters that hold credentials by isCredential, which gets their names decoded and in
// lower case, or by AddParameter. It takes the text as it stands: what no parser of URLs
// accepts is in logs too.
func RedactURL(text string, isCredential func(name string) bool) string {
	text = RedactUserinfo(text)
	at := strings.IndexAny(text, "?#")
	if at < 0 {
		return text
	}
	var b strings.Builder
	rest := text
	for at >= 0 {
		b.WriteString(rest[:at+1])
		rest = rest[at+1:]
		at = strings.IndexAny(rest, "?#&;")
		pair := rest
		if at >= 0 {
			pair = rest[:at]
		}
		name, _, ok := strings.Cut(pair, "=")
		if decoded := decodedName(name); ok && (isCredential(decoded) || IsParameter(decoded)) {
			b.WriteString(name)
			b.WriteString("=" + Redacted)
		} else {
			b.WriteString(pair)
		}
		if at >= 0 {
			rest = rest[len(pair):]
			at = 0
		}
	}
	return b.String()
}

func decodedName(name string) string {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	return strings.ToLower(strings.TrimSpace(name))
}

// Shown returns a URL of the configuration as logs, errors and the admin API show it:
// without userinfo, and without the values of the Parameters.
func Shown(address string) string {
	return RedactURL(address, IsParameterName)
}
