package cors

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/pythopus/tentagate/internal/resolve"
)

// resolved replaces the placeholders in the values of an option. One that is empty
// or unknown is an error.
func resolved(option string, values []string) ([]string, error) {
	var list []string
	for _, value := range values {
		if !strings.Contains(value, "{") {
			if value == "" {
				return nil, errors.New(option + ": an empty value")
			}
			list = append(list, value)
			continue
		}
		items, err := resolve.List(option, []string{value})
		if err != nil {
			return nil, err
		}
		list = append(list, items...)
	}
	return list, nil
}

// checkNames validates names of methods or of fields. The value off cannot be
// combined with others.
func checkNames(option string, names []string) error {
	for _, name := range names {
		switch {
		case name == off && len(names) > 1:
			return fmt.Errorf("%s: off cannot be combined with other values", option)
		case !httpguts.ValidHeaderFieldName(name): // methods are tokens too
			return fmt.Errorf("%s: %q is not a valid name, nor *", option, name)
		case option == "allowed_methods":
			switch strings.ToUpper(name) {
			case http.MethodConnect, http.MethodTrace, "TRACK":
				return fmt.Errorf("allowed_methods: browsers never send %s", name)
			}
		}
	}
	return nil
}

// merged returns the names and those of more that are not among them, ignoring
// case.
func merged(names, more []string) []string {
	for _, name := range more {
		if !slices.ContainsFunc(names, func(have string) bool { return strings.EqualFold(have, name) }) {
			names = append(slices.Clip(names), name)
		}
	}
	return names
}
