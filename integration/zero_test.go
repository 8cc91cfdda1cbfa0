package integration

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// whatIsNeeded is what a block needs besides the option that is tried.
var whatIsNeeded = map[string]string{
	"`tentagate`": "service users http://127.0.0.1:1",
	"`cors`":      "allowed_origins https://a.example",
	"`jwt_auth`":  "secret {env.JWT_SECRET_KEY}",
	"`ratelimit`": "limit 7/1m",
	"`api_docs`":  "service users http://127.0.0.1:1",
}

// namedOff are the options for which `off` is a text like any other, and texts those for
// which zero is.
var (
	namedOff = []string{"service", "provider", "jwt_provider", "password"}
	texts    = []string{"secret", "discovery", "authorization_servers", "scopes_supported"}
)

// neverOff is what is said where a feature has nothing more precise to say.
const neverOff = "; it cannot be switched off: without the line it has its default"

// otherZeros are those that are something else than off, with the reason.
var otherZeros = map[string]string{
	"`tentagate`: cache 0":  "a ttl: only what responses state counts",
	"`tentagate`: cache 0s": "a ttl: only what responses state counts",
}

// What is meant to switch an option off does so, or the error names its line and says
// what to write instead.
func TestZeroIsOff(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	t.Setenv("REDIS_URL_FILE", "")
	t.Setenv("JWT_SECRET_KEY", secretOfMistakes)
	for _, s := range sections {
		root := s.options(t)
		for _, n := range root.all()[1:] {
			for _, word := range []string{"0", "0s", "0%", "off"} {
				name := strings.Join(n.path(root), " › ") + " " + word
				text, line := s.single(root, n, word)
				config, err := adapted(text)
				switch {
				case err == nil && word != "off" && !slices.Contains(texts, n.name):
					s.compareWithOff(t, root, n, word, name, config)
				case err == nil && word == "off" && !s.hasOff(n):
					t.Errorf("%s: %s: accepted, though it has no off", s.title, name)
				case err == nil || word != "off" && slices.Contains(texts, n.name):
				case strings.Contains(err.Error(), neverOff) && says(strings.Replace(err.Error(), neverOff, "", 1), word):
					t.Errorf("%s: %s: it says two things to write: %v", s.title, name, err)
				case !says(err.Error(), word):
					t.Errorf("%s: %s: it does not say what to write: %v", s.title, name, err)
				case word == "off" && !strings.Contains(err.Error(), fmt.Sprintf("at Caddyfile:%d", line)):
					t.Errorf("%s: %s: want line %d: %v", s.title, name, line, err)
				}
			}
		}
	}
}

// compareWithOff checks that a zero that is accepted is what `off` is. Where `off` is none,
// the zero is a text like any other, and in the configuration as it was written.
func (s section) compareWithOff(t *testing.T, root, n *option, word, name string, config []byte) {
	t.Helper()
	text, _ := s.single(root, n, "off")
	off, err := adapted(text)
	same := err == nil && bytes.Equal(config, off) || (err != nil || slices.Contains(namedOff, n.name)) && bytes.Contains(config, []byte(strconv.Quote(word)))
	if reason := otherZeros[s.title+": "+name]; same == (reason != "") {
		t.Errorf("%s: %s: as off, or a text: %v, listed as another: %q\n%s\n%s %v", s.title, name, same, reason, config, off, err)
	}
}

func adapted(text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// hasOff reports whether `off` is accepted for an option: where its syntax has it, for all
// times, sizes and lists of http_cache, which says so once, and as a name.
func (s section) hasOff(n *option) bool {
	return strings.Contains(n.args, "off") || strings.Contains(n.args, "<duration>") || s.title == "`http_cache`" || slices.Contains(namedOff, n.name)
}

// single returns a Caddyfile with one option and what its block needs, and the line of
// the option.
func (s section) single(root, n *option, word string) (text string, line int) {
	const mark = "\x00"
	text = mark + n.name + " " + word
	for p := n.parent; p != nil; p = p.parent {
		if needed := whatIsNeeded[s.title]; p == root && !strings.HasPrefix(needed, n.path(root)[0]+" ") && n.path(root)[0] != "provider" {
			text = needed + "\n" + text
		}
		text = p.sample() + " {\n" + text + "\n}"
	}
	text = fmt.Sprintf(s.around, text)
	if strings.HasPrefix(text, ":8000") {
		text = "{\nadmin off\n}\nhttp://" + text
	}
	before, after, _ := strings.Cut(text, mark)
	return before + after, strings.Count(before, "\n") + 1
}

// says reports whether an error says how to do without the option, or what zero is instead.
func says(err, word string) bool {
	err = strings.ReplaceAll(err, fmt.Sprintf("%q", word), "")
	for _, mend := range []string{"off", "leave ", "without ", "write `", "lb_retries 0"} {
		if strings.Contains(err, mend) {
			return true
		}
	}
	return false
}
