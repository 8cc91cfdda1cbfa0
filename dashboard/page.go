package dashboard

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/internal/resource"
)

// The page, into which its style and script are written: Caddy's admin endpoint refuses what
// a browser asks for without CORS, as it does for the files of a page.
var (
	//go:embed ui/index.html
	pageFile string
	//go:embed ui/dashboard.css
	styleFile string
	//go:embed ui/dashboard.js
	scriptFile string
)

// policy allows the page its own style and script, requests to where it came from, and
// nothing else.
var policy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; base-uri 'none'; "+
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'", hashOf(scriptFile), hashOf(styleFile))

// hashOf is the source of a text in a policy.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// newPage returns the page. events is where it finds the events, relative to itself. With
// actions it has buttons that force the states of circuit breakers.
func newPage(events string, actions bool) (*resource.Resource, error) {
	text := strings.NewReplacer(
		"{{events}}", events, "{{actions}}", strconv.FormatBool(actions), "{{style}}", styleFile, "{{script}}", scriptFile,
	).Replace(pageFile)
	return resource.New("text/html; charset=utf-8", []byte(text))
}

// servePage answers a request with a page.
func servePage(w http.ResponseWriter, r *http.Request, page *resource.Resource) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// The admin endpoint asks for the Referer of what has no Origin.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	return page.Serve(w, r)
}
