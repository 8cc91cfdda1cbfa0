package framing

import (
	"errors"
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"
)

var errTrailer = errors.New("a line behind the body is no field")

// trailer is what is known of the fields behind a body.
type trailer struct {
	request   *http.Request // which the server writes them into
	announced []string      // by the Trailer field
	keep      func(name string) bool
}

func newTrailer(r *http.Request) trailer {
	t := trailer{request: r}
	for name := range r.Trailer {
		if httpguts.ValidTrailerHeader(name) {
			t.announced = append(t.announced, name)
		}
	}
	return t
}

// check refuses what is no field line (RFC 9112 §7.1.2), which net/http takes,
// and drops the fields that nobody announced and those that are no trailers
// (RFC 9110 §6.5.1), as the proxy behind passes all of them on.
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
		if !slices.Contains(t.announced, name) || t.keep != nil && !t.keep(name) {
			delete(fields, name)
		}
	}
	return nil
}
