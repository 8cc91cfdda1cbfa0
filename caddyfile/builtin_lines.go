package caddyfile

import (
	"os"
	"regexp"
	"strconv"
	"strings"
)

// lineOrigins says where the lines of the built-in Caddyfile come from once its
// variables are replaced, one of which may hold several lines: what
// --print-caddyfile prints has each variable in one.
type lineOrigins []string

// inCaddyfile is a variable in the text of a Caddyfile, as Caddy replaces it.
var inCaddyfile = regexp.MustCompile(`\{\$([^{}:\s]+)(:[^{}]*)?\}`)

// originsOf returns the places of the lines of a text after its variables are
// replaced: a line of the text, or of a variable that stands alone in its line.
func originsOf(text string) lineOrigins {
	var origins lineOrigins
	n := 0
	for line := range strings.Lines(text) {
		n++
		here := builtinName + ":" + strconv.Itoa(n)
		more := 0
		for _, found := range inCaddyfile.FindAllStringSubmatch(line, -1) {
			value, set := os.LookupEnv(found[1])
			if !set || value == "" {
				continue
			}
			lines := strings.Count(value, "\n")
			if strings.TrimSpace(line) == found[0] {
				for i := range lines + 1 {
					origins = append(origins, found[1]+":"+strconv.Itoa(i+1))
				}
				here = ""
				break
			}
			more += lines
		}
		for range more + 1 {
			if here != "" {
				origins = append(origins, here)
			}
		}
	}
	return origins
}

// builtinPlace is how the adapter names a line of the built-in Caddyfile.
var builtinPlace = regexp.MustCompile(regexp.QuoteMeta(builtinName) + `:(\d+)`)

// rename names the lines in a text, such as an error, by where they come from.
func (o lineOrigins) rename(text string) string {
	return builtinPlace.ReplaceAllStringFunc(text, func(at string) string {
		n, err := strconv.Atoi(at[len(builtinName)+1:])
		if err != nil || n < 1 || n > len(o) {
			return at
		}
		return o[n-1]
	})
}
