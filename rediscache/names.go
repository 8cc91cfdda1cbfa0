package rediscache

import (
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/pythopus/tentagate/internal/resolve"
)

// maxSize is more memory than a machine has.
const maxSize = 1 << 40

// maxVariants is the most variants of one URL.
const maxVariants = 1000

// checkFields refuses what is not a name of a header field, which would be part of no
// key. Placeholders are checked when they have values.
func checkFields(option string, names []string) error {
	for _, name := range names {
		if len(resolve.Placeholders(name)) == 0 && !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%s: %q is not the name of a header field", option, name)
		}
	}
	return nil
}

// checkHosts refuses what no host of a request is equal to, so that nothing would
// be stored.
func checkHosts(hosts []string) error {
	for _, host := range hosts {
		switch {
		case len(resolve.Placeholders(host)) > 0:
		case strings.Contains(host, "://"):
			return fmt.Errorf("hosts: %q is a URL: write the host alone, such as example.com or example.com:8443", host)
		case strings.ContainsAny(host, "*/@?# "):
			return fmt.Errorf("hosts: %q can match nothing: accepted are names and addresses without wildcards, such as example.com or example.com:8443; "+
				"a matcher of the directive takes patterns", host)
		}
	}
	return nil
}
