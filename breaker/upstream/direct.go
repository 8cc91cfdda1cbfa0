package upstream

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/breaker/internal/direct"
	"github.com/pythopus/tentagate/breaker/internal/exchange"
)

// provisionDirect sets up the direct client, where the options allow it.
func (t *Transport) provisionDirect(ctx caddy.Context) error {
	if reason := t.indirect(); reason != "" {
		ctx.Logger().Debug("requests go through Caddy's HTTP client", zap.String("reason", reason))
		return nil
	}
	h := t.HTTPTransport.Transport
	if t.ReadTimeout > 0 || t.WriteTimeout > 0 {
		// Caddy's dialer wraps connections that have these timeouts, and would
		// overwrite the deadlines of the direct client. One without them does not.
		plain := t.HTTPTransport
		plain.ReadTimeout, plain.WriteTimeout = 0, 0
		var err error
		if h, err = plain.NewTransport(ctx); err != nil {
			return err
		}
	}
	t.direct = direct.New(direct.Options{
		Dial:            h.DialContext,
		MaxIdle:         h.MaxIdleConns,
		MaxIdlePerHost:  h.MaxIdleConnsPerHost,
		MaxPerHost:      h.MaxConnsPerHost,
		IdleTimeout:     h.IdleConnTimeout,
		HeaderTimeout:   h.ResponseHeaderTimeout,
		ContinueTimeout: h.ExpectContinueTimeout,
		ReadTimeout:     time.Duration(t.ReadTimeout),
		WriteTimeout:    time.Duration(t.WriteTimeout),
		MaxHeaderBytes:  h.MaxResponseHeaderBytes,
		ReadBuffer:      h.ReadBufferSize,
		WriteBuffer:     h.WriteBufferSize,
		NoKeepAlive:     h.DisableKeepAlives,
		NoCompression:   h.DisableCompression,
	})
	return nil
}

// indirect returns why requests go through Caddy's client, or nothing.
func (t *Transport) indirect() string {
	switch {
	case t.Direct != nil && !*t.Direct:
		return "direct is off"
	case !direct.Supported:
		return "the direct client does not support this operating system"
	case t.TLS != nil:
		return "TLS"
	case !slices.Contains(t.Versions, "1.1") || slices.Contains(t.Versions, "h2c"):
		return "versions"
	case t.ForwardProxyURL != "" || len(t.NetworkProxyRaw) > 0:
		return "network_proxy"
	case os.Getenv("HTTP_PROXY") != "" || os.Getenv("http_proxy") != "":
		return "HTTP_PROXY"
	}
	return ""
}

// send sends a request through the direct client if it can, or Caddy's.
func (t *Transport) send(r *http.Request) (*http.Response, error) {
	t.SetScheme(r)
	if t.direct != nil && r.URL.Scheme == "http" {
		resp, err := t.direct.RoundTrip(r)
		if errors.Is(err, direct.ErrSwitch) {
			err = exchange.ErrUnaskedUpgrade
		}
		return resp, err
	}
	expectAnswer(r)
	return t.HTTPTransport.RoundTrip(r)
}
