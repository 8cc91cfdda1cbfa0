package apidocs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pythopus/tentagate/apidocs/internal/contract"
	"github.com/pythopus/tentagate/apidocs/internal/document"
	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/internal/servertest"
)

// Of all requests only so many bytes are held: bodies beyond that pass unchecked.
func TestBodiesAreBounded(t *testing.T) {
	h := contractSite(t, "bodies-shop", "validate enforce")
	const path, body = "/api/bodies-shop/items", `{"n":1}`
	bodies.Add(maxBodies)
	w := send(h, http.MethodPost, path, strings.NewReader(body), "Content-Type", "application/json")
	bodies.Add(-maxBodies)
	if w.Code != http.StatusOK || w.Body.String() != body {
		t.Errorf("without room: %d %s", w.Code, w.Body)
	}
	if w = send(h, http.MethodPost, path, strings.NewReader(body), "Content-Type", "application/json"); w.Code != http.StatusBadRequest {
		t.Errorf("with room: %d %s", w.Code, w.Body)
	}
	if n := bodies.Load(); n != 0 {
		t.Errorf("%d bytes are held after the requests", n)
	}
}

// A length that a request claims takes no memory before the body arrives.
func TestClaimedLength(t *testing.T) {
	h := &Handler{ValidateBodySize: 64 << 20}
	r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrUnexpectedEOF))
	r.ContentLength = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.readBody(r)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

// Checks are made ready for the latest document, whichever was there at the reload.
func TestChecksOfTheLatestDocument(t *testing.T) {
	c := newContracts("/api/a", "")
	for _, path := range []string{"/old", "/new"} {
		d, err := document.Read([]byte(`{"openapi":"3.1.0","paths":{"` + path + `":{"get":{}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		c.prepare(d)
	}
	c.checkers.Add(1)
	c.prepareChecks()
	known := c.current.Load()
	var m contract.Match
	if known.Find(&m, http.MethodGet, "/new", false); m.Path == nil || !known.Checks() {
		t.Errorf("checks: %v, %+v", known.Checks(), m)
	}
}

// The query of a URL may hold a secret, and is shown nowhere.
func TestQueryOfSpecIsNotShown(t *testing.T) {
	h := servertest.Handler(t, ":80 {\n api_docs {\n service signed-shop {\n spec http://127.0.0.1:1/spec?sig=s3cret\n }\n }\n}")
	get(t, h, "/openapi.json")
	fetched(t, "signed-shop", fetch.Failed)
	found := false
	for _, s := range sources.Values() {
		if s.service != "signed-shop" {
			continue
		}
		found = true
		if status := s.Status(); strings.Contains(s.where+status.From+status.Err.Error(), "s3cret") {
			t.Errorf("%s, %s, %v", s.where, status.From, status.Err)
		}
	}
	if !found {
		t.Error("no source")
	}
	if _, err := parseURL("ftp://h/?sig=s3cret"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
