// Package credentials knows where the handlers of this process take credentials
// from, so that logs can leave them out. Names are not forgotten when the
// configuration changes: requests of the one before are still logged.
package credentials

import (
	"net/http"
	"strings"
	"sync"
)

var fields, parameters sync.Map

// AddField says that a header field holds credentials.
func AddField(name string) { fields.Store(http.CanonicalHeaderKey(name), nil) }

// AddParameter says that a query parameter holds credentials.
func AddParameter(name string) { parameters.Store(strings.ToLower(name), nil) }

// IsField reports whether the field, by its canonical name, holds credentials.
func IsField(name string) bool { _, ok := fields.Load(name); return ok }

// IsParameter reports whether the query parameter, by its name in lower case,
// holds credentials.
func IsParameter(name string) bool { _, ok := parameters.Load(name); return ok }
