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
	list := []Problem{}
	for _, read := range []func(StatusPart) []Problem{redisProblems, breakerProblems, keyProblems, documentProblems, checkProblems} {
		list = append(list, read(status)...)
	}
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
			continue // why it opened is no error any more
		}
		name := b.Name
		if b.Key != "" {
			name += " " + b.Key
		}
		list = append(list, Problem{"circuit_breaker", name, "opened last by " + cmp.Or(b.Rule, "its rules") + ": " + cmp.Or(b.Error, "no error is known")})
	}
	return list
}

func keyProblems(status StatusPart) (list []Problem) {
	var keys []struct{ URL, Error string }
	read(status["keys"], &keys)
	for _, k := range keys {
		if k.Error != "" {
			list = append(list, Problem{"jwt_auth", k.URL, k.Error})
		}
	}
	return list
}

func documentProblems(status StatusPart) (list []Problem) {
	var documents []struct{ Service, Error string }
	read(status["docs"], &documents)
	for _, d := range documents {
		if d.Error != "" {
			list = append(list, Problem{"api_docs", d.Service, d.Error})
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
