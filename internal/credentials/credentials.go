// Package credentials knows where the handlers of this process take credentials
// from, so that logs can leave them out. Names are not forgotten when the
// configuration changes: requests of the one before are still logged.
package credentials

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pythopus/tentagate/internal/fieldname"
)

var (
	fields     atomic.Pointer[map[string]bool] // read for each field of a request
	adding     sync.Mutex
	parameters sync.Map
)

// AddField says that a header field holds credentials.
func AddField(name string) {
	if name = fieldname.Hyphenated(http.CanonicalHeaderKey(name)); IsField(name) {
		return
	}
	adding.Lock()
	defer adding.Unlock()
	more := map[string]bool{name: true}
	if known := fields.Load(); known != nil {
		maps.Copy(more, *known)
	}
	fields.Store(&more)
}

// AddParameter says that a query parameter holds credentials.
func AddParameter(name string) { parameters.Store(strings.ToLower(name), nil) }

// IsField reports whether the field holds credentials. The name is as fieldname.Hyphenated
// returns it.
func IsField(name string) bool {
	known := fields.Load()
	return known != nil && (*known)[name]
}

// IsParameter reports whether the query parameter, by its name in lower case,
// holds credentials.
func IsParameter(name string) bool { _, ok := parameters.Load(name); return ok }
