package telemetry

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pythopus/tentagate/internal/route"
)

// What an OpenAPI document says must not fill the memory.
func TestRoutesAreBounded(t *testing.T) {
	s := newService("bounded", "")
	defer func() { _ = s.forget() }()
	now := time.Unix(1_800_000_000, 0)
	for i := range 2 * maxRoutes {
		s.route("/"+strconv.Itoa(i), now)
	}
	if n := len(*s.routes.Load()); n != maxRoutes {
		t.Errorf("%d routes, want %d", n, maxRoutes)
	}
	if s.route("/1", now) == s.other || s.route("/one-more", now) != s.other {
		t.Error("want known routes with series of their own, and others without")
	}
	fresh := newService("bounded-names", "")
	defer func() { _ = fresh.forget() }()
	for _, template := range []string{"", "/\xff", "/" + strings.Repeat("x", maxName)} {
		if fresh.route(template, now) != fresh.other {
			t.Errorf("%.20q has series of its own", template)
		}
	}
}

// Documents change: routes that are not used any more give their place to new ones.
func TestUnusedRoutesAreDropped(t *testing.T) {
	s := newService("dropped", "")
	defer func() { _ = s.forget() }()
	now := time.Unix(1_800_000_000, 0)
	var old *routeSeries
	for i := range maxRoutes {
		rs := s.route("/old/"+strconv.Itoa(i), now)
		rs.count(200)
		old = rs
	}
	before := testutil.CollectAndCount(requests, "tentagate_requests_total")
	now = now.Add(unusedAfter / 2)
	kept := s.route("/old/1", now)
	if s.route("/new", now) != s.other {
		t.Error("there was room for a route while all are in use")
	}
	now = now.Add(unusedAfter/2 + time.Minute)
	if s.route("/new", now) == s.other || s.route("/old/1", now) != kept {
		t.Error("want the new route to have series, and the one in use to keep them")
	}
	old.count(503) // a request that took long
	if n := testutil.CollectAndCount(requests, "tentagate_requests_total"); n != before-maxRoutes+1 {
		t.Errorf("%d series, want %d", n, before-maxRoutes+1)
	}
}

// What a configuration does not have any more has no series, also if a request of it ends
// later, and the series of others stay.
func TestForgottenServiceHasNoSeries(t *testing.T) {
	all := func() (n int) {
		for _, c := range collectors {
			n += testutil.CollectAndCount(c)
		}
		return n
	}
	before := all()
	kept, s := newService("kept", ""), newService("forgotten", "")
	now := time.Unix(1_800_000_000, 0)
	kept.route("/a", now).count(200)
	with := all()
	late := s.route("/a", now)
	for _, status := range []int{200, 404, 599} {
		late.count(status)
		s.other.count(status)
	}
	_ = s.forget()
	late.count(503)
	s.route("/b", now).count(200)
	if n := all(); n != with-newServiceSeries {
		t.Errorf("%d series, want %d", n, with-newServiceSeries)
	}
	_ = kept.forget()
	if n := all(); n != before {
		t.Errorf("%d series, want the %d from before", n, before)
	}
}

// newServiceSeries are those of a service that had no request.
const newServiceSeries = 4

func TestCodes(t *testing.T) {
	for status, want := range map[int]string{200: "200", 499: "499", 503: "503", 599: "_other", 0: "_other", -1: "_other", 999: "_other", 1000: "_other", 511: "511"} {
		if got := codes.names[codes.index(status)]; got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

// The status says when services and their routes were last asked for.
func TestTraffic(t *testing.T) {
	s := newService("traffic", "")
	defer func() { _ = s.forget() }()
	if got := s.traffic(); got.LastRequest != nil || len(got.Routes) != 0 {
		t.Errorf("a service without requests: %+v", got)
	}
	now := time.Unix(1_800_000_000, 0)
	s.route("/items/{id}", now)
	s.route("", now.Add(time.Minute))
	got := s.traffic()
	if got.LastRequest == nil || !got.LastRequest.Equal(now.Add(time.Minute)) {
		t.Errorf("last request at %v", got.LastRequest)
	}
	if len(got.Routes) != 2 || got.Routes[0].Route != "/items/{id}" || !got.Routes[0].LastRequest.Equal(now) || got.Routes[1].Route != route.Other {
		t.Errorf("routes %+v", got.Routes)
	}
	var b strings.Builder
	if err := printTraffic(&b, []serviceTraffic{got, {Service: "unused"}}); err != nil || !strings.Contains(b.String(), "traffic\t1\t2027-01-15T08:01:00Z\nunused\t0\tnever\n") {
		t.Errorf("%v: %s", err, b.String())
	}
}
