package framing

import (
	"errors"
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"
)

var errTrailer = errors.New("the trailer section has a line that is not a field")

// trailer checks the trailer fields of a request.
type trailer struct {
	request   *http.Request // into which the server writes them
	announced []string      // by the Trailer field, of those that are forwarded
}

func newTrailer(r *http.Request) trailer {
	t := trailer{request: r}
	t.keepOnly(httpguts.ValidTrailerHeader)
	return t
}

// keepOnly drops the announcement of the fields for which keep returns false.
func (t *trailer) keepOnly(keep func(name string) bool) {
	t.announced = t.announced[:0]
	for name := range t.request.Trailer {
		if keep(name) {
			t.announced = append(t.announced, name)
		} else {
			delete(t.request.Trailer, name)
		}
	}
}

// check refuses invalid field lines (RFC 9112 §7.1.2), which net/http accepts, and
// drops fields that were not announced or cannot be trailers (RFC 9110 §6.5.1), as
// reverse_proxy forwards all of them.
func (t *trailer) check() error {
	fields := t.request.Trailer
	for name, values := range fields {
		if !httpguts.ValidHeaderFieldName(name) {
			return errTrailer
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return errTrailer
			}
		}
		if !slices.Contains(t.announced, name) {
			delete(fields, name)
		}
	}
	return nil
}
