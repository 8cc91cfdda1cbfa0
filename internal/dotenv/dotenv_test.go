package dotenv

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/joho/godotenv"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "[]",
		"# c\n\n  A=1\nexport B = two\r\nC=": "[{A 1} {B two} {C }]",
		"\ufeffA=1":                          "[{A 1}]",
		"A=1 # comment\nB=a#b\nC=#x":         "[{A 1} {B a#b} {C }]",
		`A='it''s'`:                          "error: line 1: A: there is more behind the closing quote",
		"A=' $x\\n#'# c\nB=1":                "[{A  $x\\n#} {B 1}]",
		`A="a\nb\t\"\\\$\x" # c`:             "[{A a\nb\t\"\\$\\x}]",
		"A=\"one\ntwo\"\nB=3\nC":             "error: line 4: there is no equals sign",
		"A='one\ntwo\n":                      "error: line 1: A: the quote ' is not closed",
		"A=$HOME and ${HOME}":                "[{A $HOME and ${HOME}}]",
		"A=1\nA=2\nB=3":                      "[{A 2} {B 3}]",
		"1A=2":                               "error: line 1: the name has other characters",
		"A B=2":                              "error: line 1: the name",
		"=2":                                 "error: line 1: the name",
		"A=a=b":                              "[{A a=b}]",
		`S={"users":"http://users:8000"}`:    `[{S {"users":"http://users:8000"}}]`,
		"A=\x00":                             "error: zero byte",
	} {
		t.Run(text, func(t *testing.T) {
			variables, err := parse(text)
			got := fmt.Sprint(variables)
			part, fails := strings.CutPrefix(want, "error: ")
			if fails && (err == nil || !strings.Contains(err.Error(), part)) || !fails && (err != nil || got != want) {
				t.Errorf("got %q and %v, want %q", got, err, want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	path := t.TempDir() + "/env"
	if err := os.WriteFile(path, []byte("TENTAGATE_TEST_A=file\nTENTAGATE_TEST_B=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TENTAGATE_TEST_A", "set")
	t.Setenv("TENTAGATE_TEST_B", "x") // so that the test restores it
	os.Unsetenv("TENTAGATE_TEST_B")
	if err := Load(path); err != nil {
		t.Fatal(err)
	}
	if a, b := os.Getenv("TENTAGATE_TEST_A"), os.Getenv("TENTAGATE_TEST_B"); a != "set" || b != "file" {
		t.Errorf("got %q and %q", a, b)
	}
	if err := Load(path + "-not"); err == nil {
		t.Error("a file that does not exist was read")
	}
	t.Chdir(t.TempDir())
	if err := Load(""); err != nil {
		t.Errorf("no file: %v", err)
	}
}

// A command finds what the environment of another process has.
func TestLookup(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("TENTAGATE_TEST_A", "x") // so that the test restores it
	os.Unsetenv("TENTAGATE_TEST_A")
	find := func(path, want string) {
		t.Helper()
		if got, err := Lookup(path, "TENTAGATE_TEST_A"); err != nil || got != want {
			t.Errorf("%q: got %q and %v, want %q", path, got, err, want)
		}
	}
	find("", "")
	for name, text := range map[string]string{Default: "TENTAGATE_TEST_A= default \n", "production.env": "TENTAGATE_TEST_A=production\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find("", "default")
	find("production.env", "production")
	if _, err := Lookup("none.env", "TENTAGATE_TEST_A"); err == nil || !strings.Contains(err.Error(), "none.env") {
		t.Errorf("a file that is not there: %v", err)
	}
	t.Setenv("TENTAGATE_TEST_A", "set")
	find("", "set")
	t.Setenv("TENTAGATE_TEST_A", "")
	find("", "")
	if err := os.WriteFile(Default, []byte("of another program"), 0o600); err != nil {
		t.Fatal(err)
	}
	find("", "")
}

// FuzzParse compares with another reader of such files where both agree
// on the language: one line in single quotes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"A=1\nB='x'\n", "export A=\"b\\nc\"\n# c\nD=e # f", "A='\n'", "x", "=", "A=\"\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		variables, err := parse(text)
		if err == nil {
			for _, v := range variables {
				if !isVariableName(v.name) || strings.ContainsRune(v.value, 0) {
					t.Errorf("%q", v)
				}
			}
		}
		value := strings.Map(func(c rune) rune {
			if c < ' ' || c > '~' || c == '\'' || c == '\\' || c == '"' {
				return -1
			}
			return c
		}, text)
		line := "NAME='" + value + "'\n"
		mine, err := parse(line)
		if err != nil || len(mine) != 1 || mine[0].value != value {
			t.Fatalf("%q: got %v, %v", line, mine, err)
		}
		if theirs, err := godotenv.Unmarshal(line); err != nil || theirs["NAME"] != value {
			t.Fatalf("%q: the other reader has %v, %v", line, theirs, err)
		}
	})
}
