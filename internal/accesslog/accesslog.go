// Package accesslog adds what the gateway decided about a request to its line in the
// access log. docs/telemetry.md has the fields.
package accesslog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
)

// Add has the decisions about the request logged with it. They are read when the line is
// written, after all handlers. Further calls do nothing; s may be nil.
func Add(r *http.Request, s *requeststate.State) {
	if s == nil || s.Decisions.Logged {
		return
	}
	s.Decisions.Logged = true
	ctx := r.Context()
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || server.Logs == nil {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.Inline((*entry)(s)))
	}
}

// entry is the state of a request as the access log has it.
type entry requeststate.State

// MarshalLogObject writes the fields that have a value.
func (e *entry) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	d := &e.Decisions
	if id := e.Problem.ID.Load(); id != nil {
		enc.AddString("request_id", *id)
	}
	add(enc, "service", d.Service)
	add(enc, "route", d.Route)
	add(enc, "cors", d.CORS)
	add(enc, "auth", d.Auth)
	add(enc, "provider", d.Provider)
	add(enc, "user", Pseudonym(cmp.Or(e.placeholder("http.auth.user.id"), d.Subject)))
	if d.Limits != nil {
		zone, outcome, remaining := d.Limits.Decided()
		add(enc, "ratelimit", outcome)
		add(enc, "ratelimit_zone", zone)
		if remaining >= 0 {
			enc.AddInt64("ratelimit_remaining", remaining)
		}
	}
	add(enc, "cache", d.Cache)
	add(enc, "cache_reason", d.CacheReason)
	add(enc, "circuit_breaker", d.Circuit)
	add(enc, "upstream", e.placeholder("http.reverse_proxy.upstream.hostport"))
	if d.ClientClosed {
		enc.AddBool("client_closed", true)
	}
	if !d.Observed {
		return nil
	}
	return enc.AddObject("stages", (*stages)(&d.Stages))
}

func add(enc zapcore.ObjectEncoder, name, value string) {
	if value != "" {
		enc.AddString(name, value)
	}
}

func (e *entry) placeholder(name string) string {
	repl := (*requeststate.State)(e).Replacer()
	if repl == nil {
		return ""
	}
	value, _ := repl.GetString(name)
	return value
}

// Pseudonym returns the name by which logs have a user, so that one can find a user's
// requests without the log naming anybody: the first 16 hexadecimal digits of the SHA-256
// of the subject. It is empty for nobody.
func Pseudonym(subject string) string {
	if subject == "" {
		return ""
	}
	sum := Sum(subject)
	return hex.EncodeToString(sum[:])
}

// Sum returns the bytes of the Pseudonym of a subject that is not empty. It does not
// allocate for one of up to 256 bytes.
func Sum(subject string) [8]byte {
	var room [256]byte
	sum := sha256.Sum256(append(room[:0], subject...))
	return [8]byte(sum[:8])
}

// stages writes the time at each stage that the request reached, in seconds.
type stages stage.Clock

func (s *stages) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for i := range stage.Stage(stage.Count) {
		if spent, ok := (*stage.Clock)(s).Spent(i); ok {
			enc.AddFloat64(i.String(), spent.Seconds())
		}
	}
	return nil
}
