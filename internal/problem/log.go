package problem

import (
	"cmp"
	"errors"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/running"
)

// errorLog is where Caddy logs the errors that reach the server.
var errorLog = running.Logger("http.log.error")

// logError does for an error answered here what Caddy does for one that
// reaches the server, but that a refusal of our own is never an ERROR line:
// an open breaker would write one per request. What handlers changed of the path,
// such as the prefix of a service, is logged as the client sent it.
func logError(r *http.Request, err error) {
	level := zapcore.DebugLevel
	status := http.StatusInternalServerError
	message := err.Error()
	he, foreign := errors.AsType[caddyhttp.HandlerError](err)
	if foreign {
		status = cmp.Or(he.StatusCode, status)
		message = http.StatusText(status)
		if he.Err != nil {
			message = he.Err.Error()
		}
	}
	if status >= http.StatusInternalServerError && !IsOwn(err) {
		level = zapcore.ErrorLevel
	}
	c := errorLog.Check(level, message)
	if c == nil {
		return
	}
	sent := r
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		sent = &original
	}
	fields := []zap.Field{
		zap.Int("status", status),
		zap.String("request_id", RequestID(r)),
		zap.String("method", sent.Method),
		zap.String("host", r.Host),
		zap.String("path", sent.URL.EscapedPath()),
	}
	if s := requeststate.Of(r); s != nil {
		s.Decisions.ErrorLogged = s.Decisions.ErrorLogged || level == zapcore.ErrorLevel
		fields = appendText(fields, "service", s.Decisions.Service)
		if repl := s.Replacer(); repl != nil {
			upstream, _ := repl.GetString("http.reverse_proxy.upstream.hostport")
			fields = appendText(fields, "upstream", upstream)
		}
	}
	fields = appendText(fields, "err_id", he.ID)
	c.Write(appendText(fields, "err_trace", he.Trace)...)
}

// appendText appends a field that has a value.
func appendText(fields []zap.Field, name, value string) []zap.Field {
	if value == "" {
		return fields
	}
	return append(fields, zap.String(name, value))
}
