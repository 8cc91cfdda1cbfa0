// Package resolve replaces the placeholders of options. There is one rule for
// every option of every directive: text that stands in for a value must have
// one, because an option that is silently empty is a check that is silently off.
package resolve

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// AtLoad returns the value of an option that is resolved when the
// configuration loads. Known then are {env.*}, {file.*}, {system.*} and
// {time.now*}. It fails, naming the option and the placeholder, where one is
// not known, has no closing brace or has nothing but white space, and where the
// whole value is blank. Braces that are no placeholder are written \{ and \}.
func AtLoad(option, text string) (string, error) {
	return AtLoadWith(caddy.NewReplacer(), option, text)
}

// AtLoadWith is AtLoad with further placeholders that the replacer knows.
func AtLoadWith(repl *caddy.Replacer, option, text string) (string, error) {
	if root := unclosed(text); root != "" {
		return "", fmt.Errorf("%s: a placeholder has no closing brace: write it as {%sNAME}; a brace that is meant as text is written \\{", option, root)
	}
	value, err := repl.ReplaceFunc(text, func(name string, value any) (any, error) {
		// The replacer does not say here whether it knows the name.
		if _, known := repl.Get(name); !known {
			return nil, fmt.Errorf("%s: {%s} is not a placeholder that is known when the configuration loads: "+
				"accepted are {env.*} and {file.*}; a brace that is meant as text is written \\{", option, name)
		}
		if strings.TrimSpace(caddy.ToString(value)) == "" {
			return nil, fmt.Errorf("%s: {%s} is empty: %s", option, name, emptyHint(name))
		}
		return value, nil
	})
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(value) == "" {
		return "", fmt.Errorf("%s: the value is empty", option)
	}
	return value, nil
}

// Secret is AtLoad for an option that holds a secret, be it a part of the text. A
// secret may have braces in it too, so what stands between braces is named in an
// error only where it is one of the placeholders that are known at load, or the
// whole text, which is then clearly a placeholder.
func Secret(option, text string) (string, error) {
	for _, name := range Placeholders(text) {
		if text != "{"+name+"}" && !slices.ContainsFunc(rootsAtLoad, func(root string) bool { return strings.HasPrefix(name, root) }) {
			return "", fmt.Errorf("%s: the text between its braces is not a placeholder that is known when the configuration loads: "+
				"accepted are {env.*} and {file.*}; braces that belong to the secret are written \\{ and \\}", option)
		}
	}
	return AtLoad(option, text)
}

// rootsAtLoad are what the names of placeholders begin with that are known when
// the configuration loads.
var rootsAtLoad = []string{"env.", "file.", "system.", "time."}

// unclosed returns what the name of a placeholder without a closing brace begins with:
// Caddy takes it for text. It returns "" if there is none.
func unclosed(text string) string {
	at := strings.LastIndexByte(text, '{')
	if at < 0 || at > 0 && text[at-1] == '\\' || strings.IndexByte(text[at:], '}') > 0 {
		return ""
	}
	for _, root := range rootsAtLoad {
		if strings.HasPrefix(text[at+1:], root) {
			return root
		}
	}
	return ""
}

// List resolves each text and splits it at commas, since one variable may hold
// several values. White space around a value does not count. Texts that hold
// nothing but commas and white space are an error.
func List(option string, texts []string) ([]string, error) {
	return listOf(AtLoad, option, texts)
}

// SecretList is List for an option whose values may hold secrets.
func SecretList(option string, texts []string) ([]string, error) {
	return listOf(Secret, option, texts)
}

func listOf(one func(option, text string) (string, error), option string, texts []string) ([]string, error) {
	var list []string
	for _, text := range texts {
		value, err := one(option, text)
		if err != nil {
			return nil, err
		}
		before := len(list)
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		if len(list) == before {
			return nil, fmt.Errorf("%s: %q has no value: it takes values separated by commas", option, text)
		}
	}
	return list, nil
}

func emptyHint(name string) string {
	if variable, ok := strings.CutPrefix(name, "env."); ok {
		return "set the environment variable " + variable + ", or remove the option"
	}
	if file, ok := strings.CutPrefix(name, "file."); ok {
		return "the file " + file + " must exist, be readable and not be empty"
	}
	return "it has no value when the configuration loads"
}

// Optional reports whether the text is exactly the placeholder of a variable
// that the gateway documents as optional, and is not set. It is the one
// exception to the rule: `redis {env.REDIS_URL}` may stand in a Caddyfile that
// also serves without Redis.
func Optional(text, variable string) bool {
	if text != "{env."+variable+"}" {
		return false
	}
	value, _ := caddy.NewReplacer().GetString("env." + variable)
	return value == ""
}
