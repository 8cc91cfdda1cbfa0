package jwtauth

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// revocable are the handlers with a deny list, of all configurations in use.
var revocable struct {
	sync.Mutex
	handlers map[*Handler]struct{}
}

func (h *Handler) registerRevocable() {
	if h.denied == nil {
		return
	}
	revocable.Lock()
	defer revocable.Unlock()
	if revocable.handlers == nil {
		revocable.handlers = map[*Handler]struct{}{}
	}
	revocable.handlers[h] = struct{}{}
}

func (h *Handler) unregisterRevocable() {
	revocable.Lock()
	defer revocable.Unlock()
	delete(revocable.handlers, h)
}

// checkNames refuses a provider or an issuer whose tokens no handler with a deny
// list accepts: to revoke there would revoke nothing.
func (q *revocation) checkNames() error {
	var providers, issuers []string
	accepted := false
	revocable.Lock()
	for h := range revocable.handlers {
		for _, p := range h.providers {
			providers = append(providers, p.name)
			issuers = append(issuers, p.rules.Issuers...)
			selects, _ := p.rules.Selects(q.Issuer)
			accepted = accepted || selects || len(p.rules.Issuers) == 0
		}
	}
	revocable.Unlock()
	switch {
	case q.Provider != "" && !slices.Contains(providers, q.Provider):
		return fmt.Errorf("provider: %q is not known: known are %s", q.Provider, listOf(providers))
	case q.Issuer == "" || slices.Contains(issuers, q.Issuer):
		return nil
	}
	for _, known := range issuers {
		if strings.TrimSuffix(known, "/") == strings.TrimSuffix(q.Issuer, "/") {
			return fmt.Errorf("issuer: %q is not known, but %q is: it is compared exactly, with the slash at its end", q.Issuer, known)
		}
	}
	if !accepted {
		return fmt.Errorf("issuer: %q is not known: known are %s", q.Issuer, listOf(issuers))
	}
	return nil
}

// listOf names each once.
func listOf(names []string) string {
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
