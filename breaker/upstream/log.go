package upstream

import (
	"reflect"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// encodeWhenWritten has the proxy's logger encode fields only for lines that are
// written. After each round trip reverse_proxy adds the whole request to its logger, for
// a line of level DEBUG: to encode that was about 4 % of the CPU time of a request.
//
// Caddy has no option for it, and the logger is in an unexported field. Without a field
// of that name and type, all stays as it is.
func encodeWhenWritten(proxy *reverseproxy.Handler) {
	field := reflect.ValueOf(proxy).Elem().FieldByName("logger")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*zap.Logger]() || field.IsNil() {
		return
	}
	logger := (*zap.Logger)(field.UnsafePointer())
	*logger = *logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return lazyCore{core} }))
}

// lazyCore is a core that encodes the fields of With when it writes a line.
type lazyCore struct{ zapcore.Core }

func (c lazyCore) With(fields []zapcore.Field) zapcore.Core {
	return zapcore.NewLazyWith(c.Core, fields)
}
