package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Error is the error with which a handler of the admin API answers with a status.
func Error(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// JSON answers with v, indented for who reads it in a terminal.
func JSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "\t")
	if err := enc.Encode(v); err != nil {
		return Error(http.StatusInternalServerError, err)
	}
	return nil
}

// ReadBody returns the body of a request, which has at most maximum bytes.
func ReadBody(r *http.Request, maximum int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maximum+1))
	if err == nil && int64(len(body)) > maximum {
		err = fmt.Errorf("longer than %d bytes", maximum)
	}
	if err != nil {
		return nil, Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	return body, nil
}

// ReadJSON reads a body of at most maximum bytes that is one JSON object without
// unknown members. form is an example of it for the error.
func ReadJSON(r *http.Request, maximum int64, to any, form string) error {
	body, err := ReadBody(r, maximum)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err = dec.Decode(to)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w: want %s", err, form))
	}
	return nil
}

// ErrUnknown says that there is no thing of that name, and which there are.
func ErrUnknown(kind, name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("no %s %q: no %s is in use", kind, name, kind)
	}
	return fmt.Errorf("no %s %q: accepted are %s", kind, name, strings.Join(known, ", "))
}
