package resolve_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/resolve"
)

func TestAtLoad(t *testing.T) {
	t.Setenv("SET", "value")
	t.Setenv("BLANK", " \t")
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	full := filepath.Join(dir, "full")
	for name, text := range map[string]string{empty: "", full: "of a file\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ text, want, fails string }{
		{text: "plain", want: "plain"},
		{text: "{env.SET}", want: "value"},
		{text: "a {env.SET} b", want: "a value b"},
		{text: "{file." + full + "}", want: "of a file"},
		{text: `\{cd\}`, want: "{cd}"},
		{text: "open { brace", want: "open { brace"},
		{text: `\{env.SET`, want: "{env.SET"},
		{text: "{env.SET", fails: "secret: a placeholder has no closing brace: write it as {env.NAME}"},
		{text: "{env.SET} https://{file./path/", fails: "secret: a placeholder has no closing brace: write it as {file.NAME}"},
		{text: "", fails: "secret: the value is empty"},
		{text: "  ", fails: "secret: the value is empty"},
		{text: "{env.UNSET_VARIABLE}", fails: "secret: {env.UNSET_VARIABLE} is empty: set the environment variable UNSET_VARIABLE"},
		{text: "{env.BLANK}", fails: "secret: {env.BLANK} is empty"},
		{text: "x{env.UNSET_VARIABLE}y", fails: "{env.UNSET_VARIABLE} is empty"},
		{text: "ab{cd}ef", fails: "secret: {cd} is not a placeholder that is known"},
		{text: "{file." + empty + "}", fails: "is empty: the file " + empty},
		{text: "{file." + empty + ".absent}", fails: "must exist"},
		{text: "{http.request.host}", fails: "is not a placeholder that is known when the configuration loads"},
	} {
		got, err := resolve.AtLoad("secret", tc.text)
		switch {
		case tc.fails == "" && (err != nil || got != tc.want):
			t.Errorf("%q: got %q and %v, want %q", tc.text, got, err, tc.want)
		case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
			t.Errorf("%q: got %q and %v, want an error with %q", tc.text, got, err, tc.fails)
		}
	}
}

func TestList(t *testing.T) {
	t.Setenv("TWO", "a, b ,")
	t.Setenv("COMMAS", " , ")
	got, err := resolve.List("audience", []string{"{env.TWO}", "c"})
	if want := []string{"a", "b", "c"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q and %v, want %q", got, err, want)
	}
	if got, err := resolve.List("audience", []string{"{env.COMMAS}"}); err == nil || !strings.Contains(err.Error(), "audience") {
		t.Errorf("commas alone: got %q and %v, want an error that names the option", got, err)
	}
}

func TestOptional(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	if !resolve.Optional("{env.REDIS_URL}", "REDIS_URL") {
		t.Error("the variable is not set, so it is optional")
	}
	if resolve.Optional("{env.REDIS_URI}", "REDIS_URL") {
		t.Error("another variable is not optional")
	}
	t.Setenv("REDIS_URL", " ")
	if resolve.Optional("{env.REDIS_URL}", "REDIS_URL") {
		t.Error("a variable of blanks is a mistake, not an unset one")
	}
	t.Setenv("REDIS_URL", "redis://localhost")
	if resolve.Optional("{env.REDIS_URL}", "REDIS_URL") {
		t.Error("a variable that is set counts")
	}
}

// No error of an option with a secret shows a part of the secret, which may have
// braces in it.
func TestSecretStaysHidden(t *testing.T) {
	t.Setenv("RESOLVE_SECRET", "s3cret")
	t.Setenv("RESOLVE_EMPTY", " ")
	for text, want := range map[string]string{
		"pa{hunter2}ss":                    "",
		"pa{env.RESOLVE_SECRET}{hunter2}":  "",
		"redis://:pa{hunter2}ss@127.0.0.1": "",
		"x{http.hunter2}":                  "",
		"pa\\{hunter2\\}":                  "pa{hunter2}",
		"{env.RESOLVE_SECRET}":             "s3cret",
		"a{env.RESOLVE_SECRET}b":           "as3cretb",
	} {
		for name, secret := range map[string]func(string, string) (string, error){
			"Secret": resolve.Secret,
			"SecretList": func(option, text string) (string, error) {
				list, err := resolve.SecretList(option, []string{text})
				return strings.Join(list, ","), err
			},
		} {
			got, err := secret("password", text)
			switch {
			case want != "" && (err != nil || got != want):
				t.Errorf("%s %s: got %q and %v", name, text, got, err)
			case want == "" && (err == nil || !strings.Contains(err.Error(), "password: ") || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("%s %s: %v", name, text, err)
			}
		}
	}
	if _, err := resolve.Secret("password", "{env.RESOLVE_EMPTY}"); err == nil || !strings.Contains(err.Error(), "RESOLVE_EMPTY") {
		t.Errorf("a variable that is empty: %v", err)
	}
}
