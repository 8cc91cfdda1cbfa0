package rediscache

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/testkit"
)

// However a response ends, the memory that it took while it arrived is given back,
// nobody waits for it any more, and only a whole one is stored.
func TestEndsOfResponses(t *testing.T) {
	failure := errors.New("failure")
	for name, tc := range map[string]struct {
		end    func(w http.ResponseWriter) error
		stored bool
	}{
		"whole":                {func(http.ResponseWriter) error { return nil }, true},
		"error":                {func(http.ResponseWriter) error { return failure }, false},
		"abort":                {func(http.ResponseWriter) error { panic(http.ErrAbortHandler) }, false},
		"panic":                {func(http.ResponseWriter) error { panic("other") }, false},
		"short":                {func(w http.ResponseWriter) error { w.Header().Set("X-Late", "1"); return nil }, false},
		"writes after its end": {func(w http.ResponseWriter) error { _, _ = io.WriteString(w, "more"); return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := loadCache(t, "http_cache 60s")
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "http://ends.test/"+name[:4], nil)
			w := httptest.NewRecorder()
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			// What earlier tests have left to run must not count here.
			testkit.Eventually(t, "an end of what runs", func() bool { n, _ := calls.Stats(); return n == 0 && h.storage.budget.Used() == 0 })
			var used int64
			var late http.ResponseWriter
			func() {
				defer func() { _ = recover() }()
				_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					late = w
					length := "4"
					if name == "short" {
						length = "5"
					}
					w.Header().Set("Content-Length", length)
					_, _ = io.WriteString(w, "body")
					used = h.storage.budget.Used()
					return tc.end(w)
				}))
			}()
			if used < 4 {
				t.Errorf("%d bytes are taken while the response arrives", used)
			}
			if n := h.storage.budget.Used(); n != 0 {
				t.Errorf("%d bytes are still taken", n)
			}
			if n, _ := calls.Stats(); n != 0 {
				t.Errorf("%d calls are left", n)
			}
			// A handler that still holds the writer does no harm.
			late.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(late, "late")
			target := h.keys.target(r, nil)
			if found := h.storage.findInMemory(r, &target); (found.object != nil) != tc.stored || tc.stored && string(found.object.Body) != "body" {
				t.Errorf("stored: %+v", found.object)
			}
		})
	}
}

// Handlers behind the cache see what those in front have set, can add to it, replace
// it and remove it, and nothing of the former is stored.
func TestFieldsOfHandlersInFront(t *testing.T) {
	h, err := loadCache(t, "http_cache 60s")
	if err != nil {
		t.Fatal(err)
	}
	send := func(outer http.Header, service func(http.Header)) http.Header {
		r := httptest.NewRequest(http.MethodGet, "http://front.test/", nil)
		w := httptest.NewRecorder()
		maps.Copy(w.Header(), outer)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			service(w.Header())
			_, err := io.WriteString(w, "body")
			return err
		})); err != nil {
			t.Fatal(err)
		}
		return w.Header()
	}
	first := send(http.Header{"Added": {"front"}, "Replaced": {"front"}, "Removed": {"front"}, "In-Place": {"front"}, "Kept": {"front"}}, func(header http.Header) {
		header.Add("Added", "service")
		header["Replaced"] = []string{"service"}
		delete(header, "Removed")
		header["In-Place"][0] = "service"
		header.Set("New", "service")
	})
	second := send(http.Header{"Added": {"other"}}, func(http.Header) { t.Error("the service is asked again") })
	for name, want := range map[string][2]string{
		"Added": {"front service", "other service"}, "Replaced": {"service", "service"}, "Removed": {"", ""},
		"In-Place": {"service", "service"}, "Kept": {"front", ""}, "New": {"service", "service"},
	} {
		for i, header := range []http.Header{first, second} {
			got := ""
			for j, v := range header[name] {
				if j > 0 {
					got += " "
				}
				got += v
			}
			if got != want[i] {
				t.Errorf("answer %d: %s is %q, want %q", i+1, name, got, want[i])
			}
		}
	}
}
