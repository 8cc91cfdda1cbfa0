package jwtauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// formatJSON is the format of a field that has a claim as JSON.
const formatJSON = "json"

var errForwardedValue = errors.New("a claim of the token cannot be sent in a header field")

// Forward is a claim that goes to the service as a header field.
type Forward struct {
	// Path of the claim; dots lead into objects. Required.
	Claim string `json:"claim,omitempty"`
	// Name of the header field: letters, digits and dashes. Required.
	Header string `json:"header,omitempty"`
	// How the claim is written: `json` for any claim as JSON in ASCII, or empty
	// for text, where the items of an array are separated by commas, and an object
	// has no form. Default: text.
	Format string `json:"format,omitempty"`
}

func (f *Forward) validate() error {
	switch {
	case f.Claim == "" || !validField(f.Header):
		return fmt.Errorf("forward %q %q: it takes a claim and the name of a header field", f.Claim, f.Header)
	case f.isSwapped():
		return fmt.Errorf("forward %q %q: the claim comes first: write `forward %s %s`; if the claim is named so, write the field as %s",
			f.Claim, f.Header, f.Header, f.Claim, http.CanonicalHeaderKey(f.Header))
	case f.Format != "" && f.Format != formatJSON:
		return fmt.Errorf("forward %q %q: the format %q is not known: accepted is json, or none", f.Claim, f.Header, f.Format)
	}
	return nil
}

// isSwapped reports whether the claim is written as only a header field is, such as
// X-User, and the field as a claim, such as sub. A claim may be called x-user, and a
// field User.
func (f *Forward) isSwapped() bool {
	return strings.Contains(f.Claim, "-") && f.Claim == http.CanonicalHeaderKey(f.Claim) && f.Claim != strings.ToLower(f.Claim) &&
		f.Header == strings.ToLower(f.Header) && !strings.HasPrefix(f.Header, "x-")
}

// forward sets the fields of the service by the claims of the token.
func (h *Handler) forward(r *http.Request, claims token.Claims) error {
	if len(h.Forward) == 0 {
		return nil
	}
	h.fields.Remove(r)
	for i := range h.Forward {
		f := &h.Forward[i]
		value, ok := policy.Lookup(claims, f.Claim)
		if !ok || value == nil {
			continue
		}
		text, ok, err := f.text(value)
		if err != nil {
			return err
		}
		if ok {
			r.Header[f.Header] = []string{text}
		}
	}
	return nil
}

// text returns the value of the field, and false if the claim has no such form. It
// fails for a value that would be changed on its way to the service.
func (f *Forward) text(value any) (text string, ok bool, err error) {
	if f.Format == formatJSON {
		text, err = policy.JSON(value)
		return text, err == nil, err
	}
	if items, isArray := value.([]any); isArray {
		text, err = policy.Join(items)
		if errors.Is(err, policy.ErrAmbiguous) {
			return "", false, fmt.Errorf("%w: %w", errForwardedValue, err)
		}
		ok = err == nil
	} else {
		text, ok = policy.Text(value)
	}
	// Go's transport would refuse control characters, and the client get a 502;
	// surrounding spaces are removed on the way, so that the service would get
	// another name than the token has.
	if strings.ContainsFunc(text, unicode.IsControl) || strings.Trim(text, " ") != text {
		return "", false, errForwardedValue
	}
	return text, ok, nil
}

// ForwardedFields are the fields with the client's identity. No client may set them
// on any request of the site, also where this handler does not run.
func (h *Handler) ForwardedFields() *forwarded.Fields { return h.fields }

// ChangedFields are the fields that it sets, and those of tokens that it strips.
// Matchers in front of it may have seen them otherwise.
func (h *Handler) ChangedFields() (names []string) {
	for i := range h.Forward {
		names = append(names, h.Forward[i].Header)
	}
	if h.StripToken && h.DPoP != nil {
		names = append(names, proofField)
	}
	for i := range h.sources {
		s := &h.sources[i]
		switch {
		case s.kind == kindWebSocket:
			names = append(names, protocolField, authorization.name)
		case h.StripToken && s.kind != kindQuery:
			names = append(names, s.field())
		}
	}
	return names
}

// Interface guards
var (
	_ forwarded.Forwarder = (*Handler)(nil)
	_ site.FieldChanger   = (*Handler)(nil)
)
