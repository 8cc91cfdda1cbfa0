package apidocs

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/apidocs/internal/contract"
	"github.com/pythopus/tentagate/apidocs/internal/document"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/route"
)

// contracts keeps what the document of a source says of requests, and what was seen of
// requests. It outlives reloads with the source.
type contracts struct {
	base, prefix string
	checkers     *atomic.Int32 // handlers that validate requests
	current      *atomic.Pointer[contract.Contract]
	making       *sync.Mutex
	latest       *document.Document // guarded by making
	report       *report
}

func newContracts(base, prefix string) contracts {
	return contracts{
		base: base, prefix: prefix, checkers: new(atomic.Int32), current: new(atomic.Pointer[contract.Contract]), making: new(sync.Mutex),
		report: newReport(time.Now()),
	}
}

// adopt takes over the document of other contracts for the same paths, and what was seen
// of requests.
func (c *contracts) adopt(older *contracts) {
	older.making.Lock()
	defer older.making.Unlock()
	c.latest, c.report = older.latest, older.report
	c.current.Store(older.current.Load())
}

// prepare reads the contract of a new document.
func (c *contracts) prepare(d *document.Document) {
	c.making.Lock()
	defer c.making.Unlock()
	c.latest = d
	c.read(d)
}

// prepareChecks reads the contract of the latest document again, so that requests can be
// checked by it.
func (c *contracts) prepareChecks() {
	c.making.Lock()
	defer c.making.Unlock()
	if known := c.current.Load(); c.latest != nil && (known == nil || !known.Checks()) {
		c.read(c.latest)
	}
}

// read makes a document the contract. making is held.
func (c *contracts) read(d *document.Document) {
	document.Alone(func() {
		// A document that makes this panic must not end the gateway.
		defer func() { _ = recover() }()
		t, err := d.Tree()
		if err != nil {
			return
		}
		made := contract.New(t.Root(), contract.Options{Base: c.base, Prefix: c.prefix, Check: c.checkers.Load() > 0})
		made.TakeCalls(c.current.Load())
		c.current.Store(made)
	})
}

// wantChecks makes the contract one that requests can be checked by, if the document is
// there already. Requests are not checked before it is.
func (c *contracts) wantChecks() {
	if known := c.current.Load(); known != nil && !known.Checks() {
		go c.prepareChecks()
	}
}

// provisionChecks prepares the validation of the requests of the service.
func (s *Service) provisionChecks(h *Handler) {
	s.Validate = cmp.Or(s.Validate, h.Validate)
	if s.Validate == modeObserve || s.Validate == modeEnforce {
		s.checks, s.checked = true, newValidationCounters(s.Name)
		s.ref.Value.checkers.Add(1)
	}
}

// find returns the service that a request is for, and the path behind that of the
// service, which is percent-encoded if escaped is true.
func (h *Handler) find(r *http.Request) (s *Service, rest string, escaped bool) {
	path := r.URL.Path
	if strings.Contains(path, "//") || strings.Contains(path, "/.") {
		path = caddyhttp.CleanPath(path, true) // as Caddy's path matcher does
	}
	if len(path) < len(h.prefix) || strings.ToLower(path[:len(h.prefix)]) != h.prefix {
		return nil, "", false
	}
	name, _, more := strings.Cut(path[len(h.prefix):], "/")
	if s = h.byName[strings.ToLower(name)]; s == nil {
		return nil, "", false
	}
	if !more {
		return s, "/", false
	}
	rest = path[len(h.prefix)+len(name):]
	if r.URL.RawPath == "" {
		return s, rest, false
	}
	// A slash that is encoded does not end a segment.
	raw := r.URL.EscapedPath()
	if strings.Contains(raw, "//") || strings.Contains(raw, "/.") {
		raw = caddyhttp.CleanPath(raw, true)
	}
	for range strings.Count(h.prefix, "/") {
		at := strings.IndexByte(raw[1:], '/')
		if at < 0 {
			return s, rest, false
		}
		raw = raw[at+1:]
	}
	return s, raw, true
}

// pass lets a request pass to its service: its route is noted, a request that is not as
// the service's document says may be refused, and the response of an operation that is
// deprecated says so.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s, rest, escaped := h.find(r)
	if s == nil || s.ref == nil {
		return next.ServeHTTP(w, r)
	}
	src := s.ref.Value
	known := src.current.Load()
	if known == nil {
		if h.Delay == 0 {
			h.start() // as soon as documents are of use, even if the app does not run
		}
		return next.ServeHTTP(w, r)
	}
	var m contract.Match
	known.Find(&m, r.Method, rest, escaped)
	if m.Path != nil {
		route.Set(r, m.Path.Template)
	}
	if s.checks && known.Checks() {
		err := h.validate(w, r, s, known, &m)
		if body, ok := r.Body.(*replayed); ok {
			defer body.release()
		}
		if err != nil {
			if m.Operation != nil {
				m.Operation.SetFields(w.Header(), 0)
			}
			return err
		}
	}
	now := time.Now()
	if m.Operation == nil {
		err := next.ServeHTTP(w, r)
		if r.Method != http.MethodOptions && !notFound(r, err) {
			src.report.undocumented(r.Method, rest, now)
		}
		return err
	}
	m.Operation.Call(now)
	if m.Operation.Deprecation != "" || m.Operation.Sunset != "" {
		w = headers.Before(w, m.Operation.SetFields)
	}
	return next.ServeHTTP(w, r)
}

// FindRoute returns the template of the path of a request that was refused in front of the
// handler.
func (h *Handler) FindRoute(r *http.Request) (template string, ok bool) {
	s, rest, escaped := h.find(r)
	if s == nil || s.ref == nil {
		return "", false
	}
	known := s.ref.Value.current.Load()
	if known == nil {
		return "", false
	}
	var m contract.Match
	if known.Find(&m, r.Method, rest, escaped); m.Path == nil {
		return "", false
	}
	return m.Path.Template, true
}

// notFound reports whether the service knows nothing of the request either, as far as
// that is known.
func notFound(r *http.Request, err error) bool {
	status := 0
	if s := requeststate.Peek(r); s != nil {
		status = s.Observed.Status
	}
	return err != nil || status == http.StatusNotFound || status == http.StatusMethodNotAllowed
}
