package merge

import (
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// base returns the path at the service that the paths under these servers begin
// with. The gateway asks its own address of the service, so that only the path of
// the first server counts.
func (b *builder) base(servers tree.Value) string {
	for server := range servers.Items() {
		return b.basePath(server)
	}
	return ""
}

// ServerPath returns the path at a service that the paths under these servers begin
// with; see Service for its base and prefix.
func ServerPath(servers tree.Value, base, prefix string) string {
	b := &builder{service: Service{Base: base, Prefix: prefix}}
	return b.base(servers)
}

func (b *builder) basePath(server tree.Value) string {
	text := server.Get("url").Text()
	for name, variable := range server.Get("variables").Members() {
		text = strings.ReplaceAll(text, "{"+name+"}", variable.Get("default").Text())
		if len(text) > maxURL {
			break // a default may have the names of others in it
		}
	}
	if len(text) > maxURL {
		b.problem("the URL of a server is longer than %d bytes", maxURL)
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		b.problem("the URL of a server cannot be read: %.100q", text)
		return ""
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	if hasDotSegment(path) {
		b.problem("the URL of a server has a dot segment in its path: %.100q", text)
		return ""
	}
	// A service that knows where it is at the gateway, or whose paths the gateway
	// completes, says so.
	for _, prefix := range []string{b.service.Base, b.service.Prefix} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && prefix != "" && (rest == "" || rest[0] == '/') {
			return rest
		}
	}
	return path
}

// pathSpellings are what browsers take for a dot or a slash in a path (URL Standard §4.4).
var pathSpellings = strings.NewReplacer("%2e", ".", "%2E", ".", `\`, "/")

// hasDotSegment reports whether a path leads out of where it is, so that a browser would
// ask another path, perhaps of another service.
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(pathSpellings.Replace(path), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// maxURL is the longest URL of a server, in bytes.
const maxURL = 200
