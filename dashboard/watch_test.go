package dashboard

import (
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
)

// panics has the status of a feature panic.
var panics atomic.Bool

func init() {
	admin.RegisterStatus("keys", func() []string {
		if panics.Load() {
			panic("the status of a feature")
		}
		return nil
	}, nil)
}

// A panic ends neither the gateway nor the stream.
func TestPanic(t *testing.T) {
	g := new(gatherer)
	panics.Store(true)
	defer panics.Store(false)
	if event := g.event(time.Now()); event != nil {
		t.Errorf("event %s", event)
	}
	panics.Store(false)
	if event := g.event(time.Now()); event == nil {
		t.Error("no event after the panic")
	}
}

// A stream ends, so that its client is authenticated again. An empty event is not sent.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, made := watched, 0
		defer func() { watched = before }()
		watched = newHub()
		watched.Make = func(time.Time) []byte {
			if made++; made%2 == 0 {
				return nil
			}
			return []byte("x")
		}
		w, began := httptest.NewRecorder(), time.Now()
		if !serveEvents(w, httptest.NewRequest("GET", "/", nil), "client", nil) {
			t.Fatal("no stream")
		}
		if age := time.Since(began); age != maxAge {
			t.Errorf("the stream lasted %s, want %s", age, maxAge)
		}
		if body := w.Body.String(); strings.Count(body, "data: x\n\n") < 299 || strings.Contains(body, "data: \n") {
			t.Errorf("%.100q", body)
		}
		synctest.Wait()
	})
}
