package place_test

import (
	"context"
	"errors"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/place"
)

func TestPlace(t *testing.T) {
	d := caddyfile.NewTestDispenser("one\ntwo")
	d.Next()
	d.Next()
	if got := place.Of(d); got != "Testfile:2" {
		t.Errorf("got %q", got)
	}
	if got := place.At("/etc/caddy/Caddyfile", 12); got != "Caddyfile:12" {
		t.Errorf("got %q", got)
	}
	if got := place.At("", 12); got != "" {
		t.Errorf("without a file: got %q", got)
	}
}

func TestError(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	cause := errors.New("secret: it is too short")
	err := place.Error(ctx, "jwt_auth", "Caddyfile:12", cause)
	if want := "jwt_auth: secret: it is too short, at Caddyfile:12"; err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("got %q, want %q", err, want)
	}
	if again := place.Error(ctx, "tentagate", "Caddyfile:1", err); !errors.Is(again, err) || again.Error() != err.Error() {
		t.Errorf("a place is named once: got %q", again)
	}
	if err := place.Error(ctx, "jwt_auth", "", cause); err.Error() != "jwt_auth: secret: it is too short" {
		t.Errorf("got %q", err)
	}
	if place.Error(ctx, "jwt_auth", "Caddyfile:12", nil) != nil {
		t.Error("no error is no error")
	}
}
