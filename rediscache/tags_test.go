package rediscache

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// A purge by any tag or group of a stored response hits it, however many it has;
// a response with more than can be remembered is not stored.
func TestManyTags(t *testing.T) {
	list := func(n int, format, between string) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(names, between)
	}
	for name, tc := range map[string]struct {
		field, value string
		last         string
		stored       bool
	}{
		"129 tags":     {"Surrogate-Key", list(129, "t%d", " "), "t128", true},
		"2000 tags":    {"Cache-Tag", list(2000, "t%d", ","), "t1999", true},
		"in two lines": {"Xkey", list(300, "t%d", " ") + "\n" + list(500, "t%d", " "), "t499", true},
		"4000 tags":    {"Surrogate-Key", list(4000, "t%d", " "), "t3999", false},
		"one huge tag": {"Surrogate-Key", strings.Repeat("t", 17<<10), "t", false},
		"128 groups":   {"Cache-Groups", list(128, `"g%d-123456789012345678901234567890"`, ", "), "g127-123456789012345678901234567890", true},
		"4000 groups":  {"Cache-Groups", list(4000, `"g%d"`, ", "), "g3999", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request) {
				for value := range strings.SplitSeq(tc.value, "\n") {
					w.Header().Add(tc.field, value)
				}
				_, _ = io.WriteString(w, "x")
			})
			g.send("GET", "/")
			g.send("GET", "/")
			if stored := g.asked.Load() == 1; stored != tc.stored {
				t.Fatalf("stored %v", stored)
			}
			if !tc.stored {
				return
			}
			scope := object.Scope{Tag: tc.last}
			if tc.field == "Cache-Groups" {
				scope = object.Scope{Group: tc.last, Origin: "http://" + g.host}
			}
			g.h.storage.epochs.Table.Invalidate(scope)
			g.send("GET", "/")
			if g.asked.Load() != 2 {
				t.Error("the purge missed it")
			}
		})
	}
}

// With more groups to invalidate than fit, the whole host is invalidated.
func TestManyGroupsInvalidated(t *testing.T) {
	g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Cache-Group-Invalidation", `"`+strings.Repeat("a", 17<<10)+`"`)
		}
		_, _ = io.WriteString(w, "x")
	})
	g.send("GET", "/list")
	g.send("POST", "/other")
	g.send("GET", "/list")
	if g.asked.Load() != 3 {
		t.Errorf("asked %d times", g.asked.Load())
	}
}
