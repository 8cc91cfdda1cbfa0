package snapshot

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// maxProblems bounds the problems of a snapshot.
const maxProblems = 100

// problems collects the errors that the features report in their parts of the status.
func problems(status StatusPart) []Problem {
	list := append([]Problem{}, redisProblems(status)...)
	list = append(list, breakerProblems(status)...)
	list = append(list, errorsOf(status, "keys", "jwt_auth")...)
	list = append(list, errorsOf(status, "docs", "api_docs")...)
	list = append(list, checkProblems(status)...)
	return list[:min(len(list), maxProblems)]
}

func redisProblems(status StatusPart) (list []Problem) {
	var redis []struct {
		Addresses  []string
		Partitions []struct{ Node, State, Reason string }
	}
	read(status["redis"], &redis)
	for _, r := range redis {
		for _, p := range r.Partitions {
			if p.Reason != "" {
				list = append(list, Problem{"redis", cmp.Or(p.Node, first(r.Addresses)), p.State + ": " + p.Reason})
			}
		}
	}
	return list
}

func breakerProblems(status StatusPart) (list []Problem) {
	var breakers []struct {
		Name, Key, State string
		Rule             string `json:"last_rule"`
		Error            string `json:"last_error"`
	}
	read(status["breakers"], &breakers)
	for _, b := range breakers {
		if b.State == "closed" || b.Rule == "" && b.Error == "" {
			continue // why it opened is not an error any more
		}
		name := b.Name
		if b.Key != "" {
			name += " " + b.Key
		}
		list = append(list, Problem{"circuit_breaker", name, "opened last by " + cmp.Or(b.Rule, "its rules") + ": " + cmp.Or(b.Error, "no error is known")})
	}
	return list
}

// errorsOf returns the errors in a part of the status that is a list of key sets or
// documents.
func errorsOf(status StatusPart, part, feature string) (list []Problem) {
	var entries []struct{ Service, URL, Error string }
	read(status[part], &entries)
	for _, e := range entries {
		if e.Error != "" {
			list = append(list, Problem{feature, cmp.Or(e.Service, e.URL), e.Error})
		}
	}
	return list
}

func checkProblems(status StatusPart) (list []Problem) {
	var checks map[string][]struct{ Status, Output string }
	read(status["checks"], &checks)
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		for _, c := range checks[name] {
			if c.Status != "pass" {
				list = append(list, Problem{"health", name, c.Status + ": " + cmp.Or(c.Output, "no output")})
			}
		}
	}
	return list
}

// read decodes a part of the status. One that is not as expected is left out.
func read(text json.RawMessage, to any) {
	if len(text) > 0 {
		_ = json.Unmarshal(text, to)
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
