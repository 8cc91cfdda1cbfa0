package telemetry

import (
	"strconv"
	"strings"
	"testing"
)

// What an OpenAPI document says must not fill the memory.
func TestRoutesAreBounded(t *testing.T) {
	s := newService("bounded", "")
	defer func() { _ = s.forget() }()
	for i := range 2 * maxRoutes {
		s.route("/" + strconv.Itoa(i))
	}
	if n := len(*s.routes.Load()); n != maxRoutes {
		t.Errorf("%d routes, want %d", n, maxRoutes)
	}
	if s.route("/1") == s.other || s.route("/one-more") != s.other {
		t.Error("want known routes with series of their own, and others without")
	}
	fresh := newService("bounded-names", "")
	defer func() { _ = fresh.forget() }()
	for _, template := range []string{"", "/\xff", "/" + strings.Repeat("x", maxName)} {
		if fresh.route(template) != fresh.other {
			t.Errorf("%.20q has series of its own", template)
		}
	}
}

func TestCodes(t *testing.T) {
	for status, want := range map[int]string{200: "200", 499: "499", 503: "503", 599: "_other", 0: "_other", -1: "_other", 999: "_other", 1000: "_other", 511: "511"} {
		if got := codes.names[codes.index(status)]; got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}
