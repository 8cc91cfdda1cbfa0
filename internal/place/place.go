// Package place records where a directive stands in a Caddyfile, so that an error
// found after parsing names the line, as a parse error does.
package place

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Of returns the place of the dispenser's current token, such as `Caddyfile:12`.
// The directory is left out: replicas may keep the same file in different ones.
func Of(d *caddyfile.Dispenser) string {
	return At(d.File(), d.Line())
}

// At returns the place of a line, or "" without a file.
func At(file string, line int) string {
	if file == "" || line <= 0 {
		return ""
	}
	return filepath.Base(file) + ":" + strconv.Itoa(line)
}

// Error adds the directive and its place to an error of provisioning, in the form of
// a parse error: `directive: what is wrong, at Caddyfile:12`. It also logs the error,
// since Caddy puts a long path of modules in front of what is returned.
func Error(ctx caddy.Context, directive, at string, err error) error {
	if err == nil {
		return nil
	}
	var placed *placedError
	if errors.As(err, &placed) {
		return err
	}
	placed = &placedError{directive: directive, at: at, err: err}
	ctx.Logger().Error(placed.Error(), zap.String("directive", directive))
	return placed
}

type placedError struct {
	directive, at string
	err           error
}

func (e *placedError) Error() string {
	if e.at == "" {
		return fmt.Sprintf("%s: %v", e.directive, e.err)
	}
	return fmt.Sprintf("%s: %v, at %s", e.directive, e.err, e.at)
}

func (e *placedError) Unwrap() error { return e.err }
