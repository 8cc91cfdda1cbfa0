package credentials

import "strings"

// Redacted stands in a log where there was a credential.
const Redacted = "REDACTED"

// RedactUserinfo replaces the userinfo of every URL in a text (RFC 3986 §3.2.1), as
// the text stands: what no parser of URLs accepts is in logs too. A text without "://"
// is the target of a CONNECT, which is an authority alone, or a path.
func RedactUserinfo(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	var b strings.Builder
	before, rest, ok := strings.Cut(text, "://")
	if !ok {
		before, rest = "", text
	}
	for ; ; before, rest, ok = strings.Cut(rest, "://") {
		b.WriteString(before)
		if ok {
			b.WriteString("://")
		}
		end := strings.IndexAny(rest, "/?#<>\" ")
		if end < 0 {
			end = len(rest)
		}
		if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
			b.WriteString(Redacted)
			rest = rest[at:]
		}
		if !strings.Contains(rest, "://") {
			b.WriteString(rest)
			return b.String()
		}
	}
}
