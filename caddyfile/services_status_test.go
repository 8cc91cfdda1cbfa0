package caddyfile

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// The status has each proxy wherever it stands, with what stands in front of it there.
func TestServicesAtAnyDepth(t *testing.T) {
	config, err := servertest.Adapt(`{
	admin off
	auto_https off
}
&(named) {
	route {
		circuit_breaker of-named
		reverse_proxy named:1
		invoke again
	}
}
&(again) {
	route {
		reverse_proxy again:1
		invoke again
	}
}
a.test:80 {
	invoke named
	handle_errors {
		reverse_proxy errors:1
	}
}
b.test:80 {
	invoke again
	reverse_proxy b:1 {
		@gone status 404
		handle_response @gone {
			reverse_proxy response:1
		}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	app, err := servertest.App(config)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servicesOf(app) {
		got = append(got, fmt.Sprint(s.Site, " ", s.Upstreams[0].Address, " ", len(s.Breakers)))
	}
	slices.Sort(got)
	want := []string{"a.test again:1 1", "a.test errors:1 0", "a.test named:1 1", "b.test again:1 0", "b.test b:1 0", "b.test response:1 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
