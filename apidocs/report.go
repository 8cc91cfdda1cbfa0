package apidocs

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// The bounds of what is remembered of one service.
const (
	maxUndocumented = 500 // paths
	maxShownPath    = 200 // bytes
)

// report remembers calls that are not in the document of a service.
type report struct {
	since time.Time

	mu    sync.Mutex
	calls map[call]*calls // guarded by mu
	more  int64           // calls for which there was no room; guarded by mu
}

// call is a method and the shape of a path.
type call struct{ method, path string }

type calls struct {
	count int64
	last  time.Time
}

func newReport(now time.Time) *report { return &report{since: now, calls: map[call]*calls{}} }

// undocumented counts a call.
func (r *report) undocumented(method, path string, now time.Time) {
	if len(method) > 20 {
		method = "_OTHER"
	}
	key := call{method, shapeOf(path)}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.calls[key]
	if known == nil {
		if len(r.calls) >= maxUndocumented {
			r.more++
			return
		}
		known = new(calls)
		r.calls[key] = known
	}
	known.count++
	known.last = now
}

// shapeOf returns a path with the segments that look like identifiers replaced, so that
// calls of one endpoint are one line, and nothing that is a secret is shown.
func shapeOf(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if !isWord(segment) {
			segments[i] = "{}"
		}
	}
	if path = strings.Join(segments, "/"); len(path) > maxShownPath {
		return path[:maxShownPath] + "…"
	}
	return path
}

// isWord reports whether a segment is likely a name in the path of an API, rather than an
// identifier: letters, with few digits.
func isWord(segment string) bool {
	if len(segment) > 40 || !utf8.ValidString(segment) {
		return false
	}
	digits := 0
	for _, c := range []byte(segment) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return digits <= 2 && (digits < len(segment) || segment == "")
}

// callReport says which calls of a service are not in its document, and which
// operations of the document nobody called.
type callReport struct {
	Service string `json:"service"`
	// Since is when counting began.
	Since time.Time `json:"since"`
	// Undocumented calls, the most frequent ones first. Segments that look like
	// identifiers are {}.
	Undocumented []callCount `json:"undocumented"`
	// MoreUndocumented are calls for which there was no room in the list.
	MoreUndocumented int64 `json:"more_undocumented,omitempty"`
	// NeverCalled are the operations of the document that were not called.
	NeverCalled []callCount `json:"never_called"`
	// Deprecated are the deprecated operations that were called.
	Deprecated []callCount `json:"deprecated_called"`
}

// callCount is how often something was called.
type callCount struct {
	Method string     `json:"method"`
	Path   string     `json:"path"`
	Calls  int64      `json:"calls,omitempty"`
	Last   *time.Time `json:"last,omitempty"`
	Sunset string     `json:"sunset,omitempty"`
}

// callReports returns the reports of all services that are configured.
func callReports() []callReport {
	list := []callReport{}
	for _, s := range sources.Values() {
		list = append(list, s.callReport())
	}
	slices.SortFunc(list, func(a, b callReport) int { return strings.Compare(a.Service, b.Service) })
	return list
}

func (s *source) callReport() callReport {
	r := callReport{Service: s.service, Since: s.report.since.UTC(), NeverCalled: []callCount{}, Deprecated: []callCount{}}
	r.Undocumented, r.MoreUndocumented = s.report.list()
	known := s.current.Load()
	if known == nil {
		return r
	}
	for _, o := range known.Operations() {
		one := callCount{Method: o.Method, Path: o.Path.Template, Calls: o.Calls.Load(), Sunset: o.Sunset}
		if one.Calls == 0 {
			r.NeverCalled = append(r.NeverCalled, one)
		} else if o.Deprecation != "" {
			at := time.Unix(o.Last.Load(), 0).UTC()
			one.Last = &at
			r.Deprecated = append(r.Deprecated, one)
		}
	}
	return r
}

func (r *report) list() (list []callCount, more int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list = []callCount{}
	for key, known := range r.calls {
		at := known.last.UTC().Truncate(time.Second)
		list = append(list, callCount{Method: key.method, Path: key.path, Calls: known.count, Last: &at})
	}
	slices.SortFunc(list, func(a, b callCount) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	return list, r.more
}
