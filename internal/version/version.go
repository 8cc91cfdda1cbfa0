// Package version has the version of TentaGate.
package version

import (
	"cmp"
	"runtime/debug"
	"sync"
)

// modulePath is the Go module of TentaGate.
const modulePath = "github.com/pythopus/tentagate"

// Set when the binary is linked where the build has no version control, such as in a
// container:
//
//	-ldflags "-X github.com/pythopus/tentagate/internal/version.linked=v0.1.0"
var linked, revision string

// Of returns the version of TentaGate in this binary, which may be the main module
// or, in a binary of xcaddy, one of the others. It is "" where the build has none.
var Of = sync.OnceValue(findVersion)

// Revision returns the commit that the binary was built from, or "".
var Revision = sync.OnceValue(findRevision)

// Long returns what the command `version` prints before Caddy's own version.
func Long() string { return long(Of(), Revision()) }

func long(version, revision string) string {
	text := "TentaGate " + cmp.Or(version, "devel")
	if revision != "" {
		text += " (" + revision[:min(12, len(revision))] + ")"
	}
	return text + " with Caddy"
}

func findVersion() string {
	if linked != "" {
		return linked
	}
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
}

func findRevision() string {
	if revision != "" {
		return revision
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != modulePath {
		return "" // the revision of a binary by xcaddy is not TentaGate's
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
