// Package version has the version of TentaGate.
package version

import (
	"runtime/debug"
	"sync"
)

// modulePath is the Go module of TentaGate.
const modulePath = "github.com/pythopus/tentagate"

// Of returns the version of TentaGate in this binary, which may be the main module
// or, in a binary of xcaddy, one of the others. It is "" where the build has none.
var Of = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil && m.Replace.Version != "" {
			m = m.Replace
		}
		if m.Version != "(devel)" {
			return m.Version
		}
	}
	return ""
})
