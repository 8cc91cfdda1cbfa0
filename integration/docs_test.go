package integration

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
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

// What README has for a Caddyfile is valid in one file too.
func TestReadmeIsOneCaddyfile(t *testing.T) {
	for _, variable := range docsEnvironment {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	var sites []string
	for _, b := range blocks(t) {
		if b.page == "README.md" && b.isCaddyfile() && siteAddress.MatchString(b.text) {
			sites = append(sites, b.text)
		}
	}
	if err := loadMistake(strings.Join(sites, "\n")); err != nil || len(sites) < 2 {
		t.Errorf("%d sites: %v\n%s", len(sites), err, strings.Join(sites, "\n"))
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
	if code, out := cli(t, nil, "--help"); code != 0 || !strings.Contains(out, "TentaGate is an API gateway") || !strings.Contains(out, "  tentagate gateway --demo\n") || strings.Contains(out, "caddy run") {
		t.Errorf("--help: exit code %d:\n%s", code, out)
	}
	for _, command := range []string{"gateway", "token", "healthcheck", "purge", "revoke", "limits", "breakers", "status", "cache", "keys", "explain", "dashboard"} {
		code, out := cli(t, nil, command, "--help")
		if code != 0 || !strings.Contains(out, "Usage:") || !strings.Contains(out, "tentagate "+command) {
			t.Errorf("%s --help: exit code %d, want its usage with an example:\n%s", command, code, out)
		}
	}
}

// TestDocsLinks checks that each link of a page to a file of the repository, and to a
// heading in a page, leads to one that is there.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings := map[string]map[string]bool{}
	for _, page := range pages(t) {
		headings[page] = headingsOf(t, page)
	}
	for page := range headings {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			name, heading, _ := strings.Cut(m[1], "#")
			to := page
			if name != "" {
				to = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link to %s: %v", filepath.Base(page), m[1], err)
			} else if heading != "" && !headings[to][heading] {
				t.Errorf("%s: the link to %s: there is no such heading", filepath.Base(page), m[1])
			}
		}
	}
}

// headingsOf returns the names by which links lead to the headings of a page.
func headingsOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^#+ (.+)$").FindAllStringSubmatch(string(text), -1) {
		names[headingName(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`<a id="([a-z-]+)">`).FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = true
	}
	return names
}

// headingName returns the name by which a link leads to a heading.
func headingName(heading string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
