// Package healthcheck lets features add checks to the details of /health: the
// handler that answers knows no other feature.
package healthcheck

import "sync"

// The states of a check, as in draft-inadarei-api-health-check.
const (
	Pass = "pass"
	Warn = "warn"
)

// Check is one part of the details. They may be public: it holds no secret and no
// address.
type Check struct {
	ComponentType string `json:"component_type"`
	Status        string `json:"status"`
	// Output says what is wrong, if Status is not Pass.
	Output string `json:"output,omitempty"`
}

var providers sync.Map // func() []Check by name

// Provide has checks called at each request for details. It is for init, and checks
// must not wait: it returns what is known. The name is that of a component and what
// is measured, such as `certificates:storage`.
func Provide(name string, checks func() []Check) {
	if _, taken := providers.LoadOrStore(name, checks); taken {
		panic("healthcheck: " + name + " is provided already")
	}
}

// All returns the checks by name. Names without any are left out.
func All() map[string][]Check {
	all := map[string][]Check{}
	providers.Range(func(name, checks any) bool {
		if list := checks.(func() []Check)(); len(list) > 0 {
			all[name.(string)] = list
		}
		return true
	})
	return all
}
