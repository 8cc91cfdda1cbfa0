package apidocs

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/apidocs/internal/contract"
	"github.com/pythopus/tentagate/internal/problem"
)

// The modes of validation.
const (
	modeObserve = "observe"
	modeEnforce = "enforce"
)

// finding is what is wrong with a request.
type finding struct {
	result int
	status int
	detail string
	faults []contract.Fault
	// Fields of the response.
	allow, accept string
}

// validate checks a request against the document of its service. The error refuses the
// request.
func (h *Handler) validate(w http.ResponseWriter, r *http.Request, s *Service, known *contract.Contract, m *contract.Match) error {
	result, found := h.examine(r, known, m)
	if found == nil {
		s.checked[result].Inc()
		return nil
	}
	s.checked[found.result].Inc()
	refuse := s.refuses(known, m, found)
	if c := h.logger.Check(zap.DebugLevel, "the request is not as the OpenAPI document of its service says"); c != nil {
		c.Write(zap.String("service", s.Name), zap.String("reason", resultNames[found.result]), zap.String("detail", found.text()),
			zap.Bool("refused", refuse), zap.String("request_id", problem.RequestID(r)))
	}
	if !refuse {
		return nil
	}
	return found.problem(w, r.Method)
}

// refuses reports whether the request is refused for what is wrong with it.
func (s *Service) refuses(known *contract.Contract, m *contract.Match, found *finding) bool {
	if (found.result == resultPath || found.result == resultMethod) && (!known.Complete() || m.Unfinished) {
		return false // the document has paths that could not be read, or not be found in time
	}
	return s.Validate == modeEnforce
}

// examine returns what is wrong with a request, or nil and the result.
func (h *Handler) examine(r *http.Request, known *contract.Contract, m *contract.Match) (result int, found *finding) {
	switch {
	case m.Operation == nil && r.Method == http.MethodOptions:
		return resultUnchecked, nil
	case m.Path == nil:
		return 0, &finding{result: resultPath, status: http.StatusNotFound, detail: "the service has nothing at this path"}
	case m.Operation == nil:
		return 0, &finding{result: resultMethod, status: http.StatusMethodNotAllowed, detail: "the service does not have this method at this path", allow: m.Allow()}
	}
	if faults := known.Parameters(m, r); len(faults) > 0 {
		return 0, &finding{result: resultParameters, status: http.StatusBadRequest, faults: faults}
	}
	return h.checkBody(r, known, m)
}

func (h *Handler) checkBody(r *http.Request, known *contract.Contract, m *contract.Match) (result int, found *finding) {
	types := r.Header.Values("Content-Type")
	body := known.Body(m, r.Header.Get("Content-Type"))
	absent := r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody
	switch {
	case !body.Described:
		return resultValid, nil
	case absent, !body.Accepted && r.ContentLength < 0 && isEmpty(r):
		return checkAbsent(body)
	case len(types) > 1: // readers differ in which one counts
		return 0, &finding{result: resultContentType, status: http.StatusUnsupportedMediaType, accept: body.Types, detail: "the Content-Type field is given more than once"}
	case !body.Accepted:
		return 0, &finding{
			result: resultContentType, status: http.StatusUnsupportedMediaType, accept: body.Types,
			detail: "the service does not take bodies of this Content-Type here; accepted: " + body.Types,
		}
	case !body.JSON, !identity(r.Header.Values("Content-Encoding")), r.ContentLength > h.ValidateBodySize:
		return resultUnchecked, nil
	}
	text, whole := h.readBody(r)
	if !whole {
		return resultUnchecked, nil
	}
	if len(text) == 0 {
		return checkAbsent(body)
	}
	faults, complete := known.CheckBody(body, text)
	switch {
	case len(faults) > 0:
		return 0, &finding{result: resultBody, status: http.StatusBadRequest, faults: faults}
	case !complete:
		return resultUnchecked, nil
	}
	return resultValid, nil
}

// checkAbsent returns what is wrong with a request without a body.
func checkAbsent(body contract.Body) (result int, found *finding) {
	if body.Required {
		return 0, &finding{result: resultBody, status: http.StatusBadRequest, faults: []contract.Fault{{In: "body", Detail: "is missing"}}}
	}
	return resultValid, nil
}

// isEmpty reports whether a body of unknown length has nothing in it. The request is left
// with all of the body.
func isEmpty(r *http.Request) bool {
	first := make([]byte, 1)
	n, err := io.ReadFull(r.Body, first)
	if err == io.EOF {
		return true
	}
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	}
	r.Body = &replayed{Reader: io.MultiReader(bytes.NewReader(first[:n]), rest), Closer: r.Body}
	return false
}

// identity reports whether a body has no content coding.
func identity(values []string) bool {
	for _, v := range values {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return false
		}
	}
	return true
}

// replayed is a body of which a part was read already.
type replayed struct {
	io.Reader
	io.Closer
	held atomic.Int64 // bytes that count in bodies
}

// release gives back what the body holds of maxBodies.
func (b *replayed) release() { bodies.Add(-b.held.Swap(0)) }

// maxBodies is how many bytes of bodies are held at once, in all requests of the process.
// Bodies beyond that pass unchecked.
const maxBodies = 256 << 20

// bodies is how many bytes are held.
var bodies atomic.Int64

// counted reads while there is room in maxBodies.
type counted struct {
	io.Reader
	held int64
	full bool
}

func (c *counted) Read(p []byte) (int, error) {
	if bodies.Load() >= maxBodies {
		c.full = true
		return 0, io.EOF
	}
	n, err := c.Reader.Read(p)
	bodies.Add(int64(n))
	c.held += int64(n)
	return n, err
}

// firstRoom is how many bytes there is room for before any arrives.
const firstRoom = 64 << 10

// failing returns an error that a reader had.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// readBody reads a body of at most ValidateBodySize bytes, and leaves the request with
// one that is read from its beginning. whole is false for one that is longer, or that
// did not arrive: the handlers behind get the same error.
func (h *Handler) readBody(r *http.Request) (text []byte, whole bool) {
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, firstRoom)) + bytes.MinRead)
	}
	from := &counted{Reader: r.Body}
	_, err := b.ReadFrom(io.LimitReader(from, h.ValidateBodySize+1))
	text = b.Bytes()
	whole = err == nil && !from.full && int64(len(text)) <= h.ValidateBodySize
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	} else if whole {
		rest = failing{io.EOF}
	}
	again := &replayed{Reader: io.MultiReader(bytes.NewReader(text), rest), Closer: r.Body}
	again.held.Store(from.held)
	r.Body = again
	return text, whole
}

// text says what is wrong, for a log.
func (f *finding) text() string {
	if len(f.faults) == 0 {
		return f.detail
	}
	return describe(f.faults[0])
}

// describe says what is wrong with one place of a request.
func describe(f contract.Fault) string {
	switch {
	case f.Name != "":
		return fmt.Sprintf("the %s parameter %s %s", f.In, f.Name, f.Detail)
	case f.In == "query":
		return "the query " + f.Detail
	case f.Pointer != "":
		return fmt.Sprintf("the body at %s %s", f.Pointer, f.Detail)
	}
	return "the body " + f.Detail
}

// problem returns the error that refuses a request, and sets the fields of the response.
func (f *finding) problem(w http.ResponseWriter, method string) error {
	if f.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", f.allow)
	}
	if f.accept != "" {
		w.Header().Set("Accept", f.accept)
		if method == http.MethodPatch {
			w.Header().Set("Accept-Patch", f.accept) // RFC 5789 §2.2
		}
	}
	p := problem.New(f.status, f.text())
	if len(f.faults) > 0 {
		list := make([]map[string]string, len(f.faults))
		for i, fault := range f.faults {
			list[i] = map[string]string{"in": fault.In, "detail": fault.Detail}
			if fault.Name != "" {
				list[i]["name"] = fault.Name
			}
			if fault.In == "body" {
				list[i]["pointer"] = "#" + fault.Pointer
			}
		}
		p.Ext = map[string]any{"errors": list}
	}
	return problem.Error(p)
}
