package jwtauth

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/events"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/running"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// remotes are the key sets from URLs. Handlers and configurations with the same
// source share one.
var remotes = pool.New((*keyset.Remote).Destruct)

// acquireRemote shares the key set of a URL.
func (p *Provider) acquireRemote(address string, discovery bool) error {
	issuers := p.rules.Issuers
	if !discovery {
		issuers = nil
	}
	key := pool.Key(address, discovery, issuers, p.Algorithms, p.AllowHTTP, p.CA, p.TokenFile)
	w := &watch{provider: p.name}
	ref, err := remotes.Acquire(key, func() (*keyset.Remote, error) {
		return keyset.NewRemote(keyset.Options{
			URL: address, Discovery: discovery, Issuers: slices.Clone(issuers), Algorithms: slices.Clone(p.Algorithms),
			AllowHTTP: p.AllowHTTP, CAFile: p.CA, TokenFile: p.TokenFile, Timing: timing, Observe: w.observe,
		}), nil
	})
	if err != nil {
		return err
	}
	p.source, p.remoteRef = ref.Value, ref
	return nil
}

// timing of key sets from URLs; tests have less time.
var timing = keyset.DefaultTiming()

// watch logs and counts the fetches of one key set. The key set may outlive the
// configuration that it was made for, and so does not use its logger.
type watch struct {
	provider string
	failure  string // of the last fetch, if it failed
	logged   time.Time
}

// repeatLogAfter is the time between two log lines of the same failure.
const repeatLogAfter = 30 * time.Second

// observe logs and counts a fetch. While there are no keys, failed fetches follow
// each other fast; not each is logged.
func (w *watch) observe(result string, skipped []error, err error) {
	refreshes.WithLabelValues(w.provider, result).Inc()
	log := running.Logger("http.handlers.jwt_auth")
	recovered := err == nil && w.failure != ""
	switch now := time.Now(); {
	case err != nil && (err.Error() != w.failure || now.Sub(w.logged) >= repeatLogAfter-time.Second):
		log.Warn("fetching keys failed: the last good keys stay in use; without any, requests with a token get 503", zap.String("provider", w.provider), zap.Error(err))
		w.logged, w.failure = now, err.Error()
		events.Emit(caddy.Context{}, "jwt_keys_failed", map[string]any{"provider": w.provider, "error": err.Error()})
	case recovered:
		log.Info("fetching keys works again", zap.String("provider", w.provider))
		w.failure = ""
	}
	if recovered || err == nil && result == "ok" {
		events.Emit(caddy.Context{}, "jwt_keys_refreshed", map[string]any{"provider": w.provider, "result": result})
	}
	logSkippedKeys(log, w.provider, skipped)
}

// logSkippedKeys logs the keys of a key set that were skipped. Those for encryption
// are expected.
func logSkippedKeys(log *zap.Logger, provider string, skipped []error) {
	for _, err := range skipped {
		level := zap.WarnLevel
		if errors.Is(err, keyset.ErrEncryption) {
			level = zap.DebugLevel
		}
		log.Log(level, "skipped a key of the key set", zap.String("provider", provider), zap.Error(err))
	}
}
