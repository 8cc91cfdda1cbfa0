package contract

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Operation is one method of a path.
type Operation struct {
	Path   *Path
	Method string
	// Deprecation and Sunset are the values of these fields for an operation that is
	// deprecated (RFC 9745) or will be gone (RFC 8594), else "".
	Deprecation, Sunset string
	// Calls counts the requests, Last is when the last of them was, in Unix seconds.
	Calls, Last atomic.Int64

	names         []string   // of the parameters in its template
	value, shared tree.Value // of the document, and the parameters of its path
	once          sync.Once
	rules         *rules
}

// The extensions that say since when an operation is deprecated, and when it will be gone.
var (
	sinceNames  = []string{"x-deprecated-at", "x-deprecated-since", "x-deprecation-date"}
	sunsetNames = []string{"x-sunset", "x-sunset-date", "x-sunset-at"}
)

func newOperation(p *Path, method string, names []string, v, shared tree.Value) *Operation {
	o := &Operation{Path: p, Method: method, names: names, value: v, shared: shared}
	since, dated := dateOf(v, sinceNames)
	if dated || v.Get("deprecated").Is(tree.True) {
		// Without a date, one that is past: the operation is deprecated already.
		o.Deprecation = "@0"
		if dated {
			o.Deprecation = "@" + strconv.FormatInt(since.Unix(), 10)
		}
	}
	if at, ok := dateOf(v, sunsetNames); ok {
		o.Sunset = at.UTC().Format(http.TimeFormat)
	}
	return o
}

// dateOf returns the date that the first of some members says.
func dateOf(v tree.Value, names []string) (time.Time, bool) {
	for _, name := range names {
		if text := strings.TrimSpace(v.Get(name).Text()); text != "" {
			if t, err := parseDate(text); err == nil && t.Unix() >= 0 && t.Year() < 10_000 {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// parseDate reads a date, a time of RFC 3339 or one of HTTP.
func parseDate(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return http.ParseTime(text)
}

// Call counts a request.
func (o *Operation) Call(now time.Time) {
	o.Calls.Add(1)
	o.Last.Store(now.Unix())
}

// TakeCalls adds to the operations what was counted for those of an older document
// with the same method and template.
func (c *Contract) TakeCalls(old *Contract) {
	if old == nil {
		return
	}
	type key struct{ method, template string }
	known := map[key]*Operation{}
	for _, o := range old.Operations() {
		known[key{o.Method, o.Path.Template}] = o
	}
	for _, o := range c.Operations() {
		if before := known[key{o.Method, o.Path.Template}]; before != nil {
			o.Calls.Add(before.Calls.Load())
			o.Last.Store(before.Last.Load())
		}
	}
}

// SetFields says in the header of a response that the operation is deprecated, unless
// the service does.
func (o *Operation) SetFields(h http.Header, _ int) {
	if o.Deprecation != "" && h.Get("Deprecation") == "" {
		h.Set("Deprecation", o.Deprecation)
	}
	if o.Sunset != "" && h.Get("Sunset") == "" {
		h.Set("Sunset", o.Sunset)
	}
}
