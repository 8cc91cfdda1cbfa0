package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// parseETags reads the entity tags of an If-None-Match, If-Match or If-Range field
// (RFC 9110 §8.8.3). any is set for `*`. What is not an entity tag ends a list
// member and matches nothing but itself.
func parseETags(values []string) (tags []string, any bool) {
	for _, value := range values {
		for rest := value; rest != ""; {
			var item string
			item, rest = cutETag(rest)
			switch item = trimOWS(item); item {
			case "":
			case "*":
				any = true
			default:
				tags = append(tags, item)
			}
		}
	}
	return tags, any
}

// cutETag cuts at the next comma outside of an entity tag. Entity tags have no
// escapes.
func cutETag(s string) (item, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// weakMatch compares two entity tags whose strength does not matter (RFC 9110
// §8.8.3.2).
func weakMatch(a, b string) bool {
	return a != "" && strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// strongMatch compares two entity tags both of which must be strong.
func strongMatch(a, b string) bool {
	return a == b && IsStrong(a)
}

// IsStrong reports whether the text is a strong entity tag.
func IsStrong(tag string) bool {
	return len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"'
}

// Conditional reports whether the request asks to be answered only under a
// condition that a cache can judge (RFC 9111 §4.3.2).
func Conditional(request http.Header) bool {
	return len(request["If-None-Match"]) > 0 || len(request["If-Modified-Since"]) > 0
}

// Precondition reports whether the request has a condition that only the
// origin can judge: one against lost updates.
func Precondition(request http.Header) bool {
	return len(request["If-Match"]) > 0 || len(request["If-Unmodified-Since"]) > 0
}

// NotModified reports whether a stored response answers the conditional request
// with a 304 (RFC 9111 §4.3.2, RFC 9110 §13.2.2). received is when the response
// came.
func NotModified(request, stored http.Header, status int, received time.Time) bool {
	if status != http.StatusOK && status != http.StatusPartialContent {
		return false
	}
	if values := request["If-None-Match"]; len(values) > 0 {
		etag := first(stored["Etag"])
		tags, all := parseETags(values)
		if all {
			return true
		}
		for _, tag := range tags {
			if weakMatch(tag, etag) {
				return true
			}
		}
		return false // and If-Modified-Since is not looked at
	}
	values := request["If-Modified-Since"]
	if len(values) != 1 {
		return false
	}
	since, ok := parseDate(trimOWS(values[0]), received)
	if !ok {
		return false
	}
	modified, ok := readDate(stored["Last-Modified"], received)
	if !ok {
		if len(stored["Last-Modified"]) > 0 {
			return false
		}
		// What has no date of change has not changed since it was sent.
		if modified, ok = readDate(stored["Date"], received); !ok {
			modified = received
		}
	}
	return !modified.After(since)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// SetValidators puts the conditions into the request by which the origin can
// say that the stored response is still good (RFC 9111 §4.3.1), in place of the
// client's own. It reports whether there are any.
func SetValidators(request, stored http.Header) bool {
	RemoveConditions(request)
	etag, modified := first(stored["Etag"]), first(stored["Last-Modified"])
	if etag != "" {
		request["If-None-Match"] = []string{etag}
	}
	if modified != "" {
		request["If-Modified-Since"] = []string{modified}
	}
	return etag != "" || modified != ""
}

// RemoveConditions removes the conditions that a cache judges itself.
func RemoveConditions(request http.Header) {
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Range"} {
		delete(request, name)
	}
}

// Confirms reports whether a 304 is about the stored response (RFC 9111
// §4.3.4): its validators, as far as it has any, are those of the response.
func Confirms(stored, notModified http.Header) bool {
	if tag := first(notModified["Etag"]); tag != "" {
		mine := first(stored["Etag"])
		if IsStrong(tag) && IsStrong(mine) {
			return tag == mine
		}
		return mine == "" || weakMatch(tag, mine)
	}
	if modified := first(notModified["Last-Modified"]); modified != "" && first(stored["Etag"]) == "" {
		mine := first(stored["Last-Modified"])
		return mine == "" || mine == modified
	}
	return true
}

// describesContent are the fields that describe the stored content. A 304 has
// no content that they could describe (RFC 9111 §3.2).
var describesContent = map[string]bool{
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Content-Range": true,
}

// Update returns the stored fields with those of a 304, or of a 200 to a HEAD
// request, in their place (RFC 9111 §3.2).
func Update(stored, fresh http.Header, omit ...string) http.Header {
	updated := make(http.Header, len(stored)+4)
	for name, values := range stored {
		// What the old answer said of its own age is over.
		if name != "Age" {
			updated[name] = values
		}
	}
	for name, values := range StoredFields(fresh, omit...) {
		if !describesContent[name] || len(stored[name]) == 0 && name != "Content-Length" && name != "Content-Range" {
			updated[name] = values
		}
	}
	return updated
}

// SameRepresentation reports whether the response to a HEAD request is of the
// same representation as the stored one (RFC 9111 §4.3.5).
func SameRepresentation(stored, head http.Header, length int64) bool {
	for _, name := range []string{"Etag", "Last-Modified"} {
		if v := first(head[name]); v != "" && v != first(stored[name]) {
			return false
		}
	}
	v := first(head["Content-Length"])
	return v == "" || v == formatInt(length)
}
