package integration

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// block is a fenced block of a page. A Caddyfile has no language.
type block struct {
	page     string
	line     int
	language string
	text     string
}

// pages are the pages that are read for blocks.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(repository(), "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return append(found, filepath.Join(repository(), "README.md"))
}

// blocks returns the fenced blocks of all pages.
func blocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var open *block
		for i, line := range strings.Split(string(text), "\n") {
			switch fence := strings.HasPrefix(strings.TrimSpace(line), "```"); {
			case fence && open == nil:
				open = &block{page: filepath.Base(page), line: i + 1, language: strings.TrimPrefix(strings.TrimSpace(line), "```")}
			case fence:
				all, open = append(all, *open), nil
			case open != nil:
				open.text += line + "\n"
			}
		}
		if open != nil {
			t.Errorf("%s:%d: the block does not end", open.page, open.line)
		}
	}
	return all
}

var (
	shellLine    = regexp.MustCompile(`^(#|\$ |tentagate [a-z-]+( |$)|docker |kubectl |curl |go (run|test|build) |export |xcaddy |redis-cli |openssl |helm |az |[A-Z_]+=)`)
	exchangeLine = regexp.MustCompile(`^((GET|POST|PUT|DELETE|PATCH|HTTP/\d)|[A-Za-z-]+: )`)
	yamlLine     = regexp.MustCompile(`^(apiVersion|kind|metadata|- |[a-z_]+):`)
	kustoLine    = regexp.MustCompile(`^(ContainerLogV2|let )`)
	grammar      = regexp.MustCompile(`<[a-z]|\[<|\.\.\.|…`)
	siteAddress  = regexp.MustCompile(`(?m)^(\{|(https?://|:\d|[a-z0-9*.-]+\.(com|net|org|test|example)\b|localhost)[^{]*\{)$`)
)

// isCaddyfile reports whether a block is to be valid as it stands. What is not
// a shell session, an exchange of messages, a document of another format or a
// description of a grammar must be.
func (b block) isCaddyfile() bool {
	first, _, _ := strings.Cut(b.text, "\n")
	return b.language == "" && !shellLine.MatchString(first) && !exchangeLine.MatchString(first) && !yamlLine.MatchString(first) && !kustoLine.MatchString(first) &&
		!strings.HasPrefix(first, `{"`) && !b.isJSON() && !grammar.MatchString(b.text)
}

func (b block) isJSON() bool {
	second, _, _ := strings.Cut(strings.TrimPrefix(b.text, "{\n"), "\n")
	return strings.HasPrefix(b.text, "{\n") && strings.HasPrefix(strings.TrimSpace(second), `"`)
}

// file returns the block as a whole Caddyfile: directives alone are wrapped in
// a site.
func (b block) file() string {
	if siteAddress.MatchString(b.text) {
		return b.text
	}
	return ":8000 {\n" + b.text + "}\n"
}

// docsEnvironment is what the examples of the pages refer to.
var docsEnvironment = []string{
	"JWT_SECRET_KEY=z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa", `BACKEND_SERVICES={"users":"http://127.0.0.1:1"}`,
	"ALLOWED_ORIGINS=https://app.example.com", "REDIS_URL=redis://127.0.0.1:1", "REDIS_PASSWORD=z8Kq2mW7xT4v",
	"CERTIFICATES_REDIS_URL=redis://127.0.0.1:1",
}

// mountedFiles are the files that the examples have in their container, and how
// their paths are replaced.
func mountedFiles(t *testing.T) *strings.Replacer {
	t.Helper()
	dir := t.TempDir()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	for name, data := range map[string][]byte{
		"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		"token":  []byte("a.b.c"), "redis-password": []byte("z8Kq2mW7xT4v"), "certificate-key": []byte(certificateKey),
		"tentagate/CERTIFICATES_REDIS_URL": []byte("rediss://127.0.0.1:1"), "tentagate/CERTIFICATE_KEY": []byte(certificateKey),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("/var/run/secrets/kubernetes.io/serviceaccount/", dir+"/", "/run/secrets/", dir+"/")
}

// TestDocsAreValid validates each Caddyfile of each page with the built server.
func TestDocsAreValid(t *testing.T) {
	found := 0
	mounted := mountedFiles(t)
	for _, b := range blocks(t) {
		if !b.isCaddyfile() {
			continue
		}
		found++
		t.Run(b.page+":"+strconv.Itoa(b.line), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "Caddyfile")
			if err := os.WriteFile(file, []byte(mounted.Replace(b.file())), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out := cli(t, docsEnvironment, "validate", "--adapter", "caddyfile", "--config", file); code != 0 {
				t.Errorf("it is not valid:\n%s\n%s", b.file(), tail(out, 1500))
			}
		})
	}
	if found < 12 {
		t.Errorf("only %d Caddyfiles were found in the pages", found)
	}
}

// TestDocsCommandsExist checks that each command line of a page is one of a
// command that exists, with flags that it has.
func TestDocsCommandsExist(t *testing.T) {
	help := map[string]string{}
	line := regexp.MustCompile("(?m)(?:^|[`$( ])tentagate ([a-z][a-z-]+)((?: [^`\n#|]*)?)")
	flag := regexp.MustCompile(`(?:^| )(--[a-z0-9-]+)`)
	for _, b := range blocks(t) {
		text := strings.ReplaceAll(b.text, "dynamic tentagate ", "") // of reverse_proxy
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			command, rest := m[1], m[2]
			if strings.HasPrefix(strings.TrimSpace(rest), "{") {
				continue // the directive
			}
			if _, known := help[command]; !known {
				code, out := cli(t, nil, command, "--help")
				if code != 0 || strings.Contains(out, "unknown command") {
					t.Errorf("%s:%d: tentagate %s: there is no such command", b.page, b.line, command)
				}
				help[command] = out
			}
			for _, f := range flag.FindAllStringSubmatch(rest, -1) {
				if !regexp.MustCompile(f[1] + `\b[^-]`).MatchString(help[command]) {
					t.Errorf("%s:%d: tentagate %s has no %s", b.page, b.line, command, f[1])
				}
			}
		}
	}
	for _, command := range []string{"gateway", "token", "healthcheck", "purge", "revoke", "limits", "breakers", "status", "cache", "keys"} {
		code, out := cli(t, nil, command, "--help")
		if code != 0 || !strings.Contains(out, "Usage:") || !strings.Contains(out, "tentagate "+command) {
			t.Errorf("%s --help: exit code %d, want its usage with an example:\n%s", command, code, out)
		}
	}
}

// TestDocsNameEveryOption compares the options in the grammar of each
// directive's page with those that its parser accepts.
func TestDocsNameEveryOption(t *testing.T) {
	for page, directive := range map[string]string{
		"guard.md": "guard", "cors.md": "cors", "health.md": "health", "jwt_auth.md": "jwt_auth",
		"ratelimit.md": "ratelimit", "http_cache.md": "http_cache", "circuit_breaker.md": "circuit_breaker", "gateway.md": "tentagate", "telemetry.md": "telemetry",
	} {
		t.Run(directive, func(t *testing.T) {
			documented := grammarOf(t, page, directive)
			accepted := acceptedBy(t, directive)
			for _, option := range accepted {
				if !slices.Contains(documented, option) {
					t.Errorf("docs/%s does not have the option %s in its syntax", page, option)
				}
			}
			for _, option := range documented {
				if !slices.Contains(accepted, option) {
					t.Errorf("docs/%s has an option %s that the parser does not name", page, option)
				}
			}
		})
	}
}

// grammarOf returns the options in the block of a page that describes the
// directive's syntax.
func grammarOf(t *testing.T, page, directive string) []string {
	t.Helper()
	for _, b := range blocks(t) {
		if b.page != page || !strings.HasPrefix(b.text, directive+" ") || !grammar.MatchString(b.text) {
			continue
		}
		var options []string
		depth := 1
		for line := range strings.SplitSeq(b.text, "\n") {
			fields := strings.Fields(line)
			if strings.HasPrefix(line, "\tprovider ") {
				depth = 2 // with one provider its options may stand directly in jwt_auth
			} else if line == "\t}" {
				depth = 1
			}
			level := len(line) - len(strings.TrimLeft(line, "\t"))
			if len(fields) > 0 && level > 0 && level <= depth && fields[0] != "}" && !strings.HasPrefix(fields[0], "#") && !slices.Contains(options, fields[0]) {
				options = append(options, fields[0])
			}
		}
		return options
	}
	t.Fatalf("docs/%s does not describe the syntax of %s", page, directive)
	return nil
}

// acceptedBy returns the options that the parser of a directive names when it
// is given one that it does not know.
func acceptedBy(t *testing.T, directive string) []string {
	t.Helper()
	setEnvironment(t, "")
	name := directive
	if directive == "circuit_breaker" {
		name += " users"
	}
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":8000 {\n"+name+" {\n\tno_such_option\n}\n}\n"), map[string]any{"filename": "Caddyfile"})
	if err == nil {
		t.Fatalf("%s: an unknown option was accepted", directive)
	}
	_, list, ok := strings.Cut(err.Error(), "accepted are ")
	if !ok {
		t.Fatalf("%s: the error does not name the accepted options: %v", directive, err)
	}
	list, _, _ = strings.Cut(list, ", at ")
	return strings.Split(list, ", ")
}
