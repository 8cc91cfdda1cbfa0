package cors

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/cors/origin"
)

// ParseList reads a comma-separated list of origins, as the ALLOWED_ORIGINS
// variable has it. Empty places are skipped; an empty list is none. Errors name
// the position, counted from 1, what is wrong there, and what to write.
func ParseList(text string) ([]string, error) {
	list := split(text)
	for i, item := range list {
		if item == "" {
			continue
		}
		if _, err := origin.Canonical(item); err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	list = nonempty(list)
	if _, err := origin.Parse(list); err != nil {
		for i, item := range split(text) {
			if item == "*" {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
		}
		return nil, err
	}
	return list, nil
}

func split(text string) []string {
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

func nonempty(items []string) []string {
	var list []string
	for _, item := range items {
		if item != "" {
			list = append(list, item)
		}
	}
	return list
}

// resolve replaces the placeholders in the values. One that is empty or
// unknown is an error: the operator meant something by it.
func resolve(values []string) ([]string, error) {
	repl := caddy.NewReplacer()
	var list []string
	for _, value := range values {
		if !strings.Contains(value, "{") {
			if value == "" {
				return nil, errors.New("an empty value")
			}
			list = append(list, value)
			continue
		}
		text, err := repl.ReplaceOrErr(value, true, true)
		if err != nil {
			return nil, err
		}
		list = append(list, nonempty(split(text))...)
	}
	return list, nil
}
