// Package running finds the apps and the logs of the configuration that is in use.
package running

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
)

// App returns an app of the running configuration, and false if that does not have it.
func App[T any](name string) (app T, ok bool) {
	found, err := caddy.ActiveContext().AppIfConfigured(name)
	if err != nil {
		return app, false
	}
	app, ok = found.(T)
	return app, ok
}

// Logger returns a logger of this name that writes to the logs of the configuration that
// runs at the time of each line. It is for what outlives a configuration, or knows none: the
// logger of an earlier configuration may write to a file that is closed, and caddy.Log is
// the log `default` alone, which drops what another log includes, as
// `log requests { include http }` does.
func Logger(name string) *zap.Logger {
	return zap.New(core{name: name}).Named(name)
}

// Starting says which configuration is about to run. Until there is an active one its logs
// are used: Caddy makes it the active one only after its apps have started, and those may
// log before.
func Starting(ctx caddy.Context) {
	if caddy.ActiveContext().Context != nil {
		starting.Store(nil)
		return
	}
	starting.Store(&ctx)
}

var (
	starting atomic.Pointer[caddy.Context]
	latest   atomic.Pointer[cores]
)

// core passes each line on to the logs of the running configuration.
type core struct {
	name   string
	fields []zap.Field
}

func (c core) Enabled(level zapcore.Level) bool { return current(c.name).Enabled(level) }

func (c core) With(fields []zap.Field) zapcore.Core {
	return core{name: c.name, fields: append(slices.Clip(c.fields), fields...)}
}

func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	target := current(c.name)
	if len(c.fields) > 0 {
		target = target.With(c.fields)
	}
	return target.Check(entry, checked)
}

// Write does nothing: what Check adds to an entry are the cores of the configuration.
func (core) Write(zapcore.Entry, []zap.Field) error { return nil }

func (c core) Sync() error { return current(c.name).Sync() }

// current returns where the lines of a logger go now.
func current(name string) zapcore.Core {
	active := caddy.ActiveContext()
	if active.Context == nil {
		first := starting.Load()
		if first == nil {
			return caddy.Log().Core()
		}
		active = *first
	}
	known := latest.Load()
	if known == nil || known.config != active.Context {
		known = &cores{config: active.Context}
		latest.Store(known)
	}
	return known.core(active, name)
}

// cores are those of one configuration that were asked for, by name.
type cores struct {
	config context.Context
	byName sync.Map
}

func (c *cores) core(ctx caddy.Context, name string) zapcore.Core {
	if known, ok := c.byName.Load(name); ok {
		return known.(zapcore.Core)
	}
	made := ctx.Logger(module(name)).Core()
	c.byName.Store(name, made)
	return made
}

// module is the name of a logger in the form in which Caddy asks for it.
type module string

// CaddyModule returns the name as the id of a module.
func (m module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: caddy.ModuleID(m)}
}
