package rediscache

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/resolve"
)

// resolve replaces the placeholders of options that are read once, and checks those
// of options that are read for each request.
func (h *Handler) resolve(ctx caddy.Context) error {
	if h.Key == nil {
		h.Key = &KeyOptions{}
	}
	var err error
	if h.Namespace != "" {
		if h.Namespace, err = resolve.AtLoad("namespace", h.Namespace); err != nil {
			return err
		}
	}
	for _, o := range []struct {
		option string
		list   *[]string
		read   func(string, []string) ([]string, error)
	}{
		{"hosts", &h.Hosts, resolve.List},
		{"tags", &h.Tags, resolve.List},
		{"targets", &h.Targets, resolve.List},
		{"key header", &h.Key.Headers, resolve.List},
		{"key per_user header", &h.Key.UserHeaders, resolve.List},
		{"key credentials", &h.Key.Credentials, resolve.List},
		{"key cookie", &h.Key.Cookies, resolve.List},
		{"key query allow", &h.Key.QueryAllow, each},
		{"key query deny", &h.Key.QueryDeny, each},
	} {
		if *o.list == nil {
			continue
		}
		if *o.list, err = o.read(o.option, *o.list); err != nil {
			return err
		}
	}
	for i, v := range h.Key.Values {
		if len(resolve.Placeholders(v)) == 0 {
			h.logger.Warn("key value is the same for all requests of this gateway; a placeholder is written in braces", zap.String("value", v))
		}
		if h.Key.Values[i], err = resolve.Request(ctx, "key value", v); err != nil {
			return err
		}
	}
	return nil
}

// each is resolve.List for names that may have commas in them.
func each(option string, texts []string) ([]string, error) {
	list := make([]string, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = resolve.AtLoad(option, text); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// namespaces are the handlers of each configuration that name a namespace.
var namespaces = struct {
	sync.Mutex
	m map[*app.App]map[string][]*Handler
}{m: map[*app.App]map[string][]*Handler{}}

// joinNamespace refuses handlers that share what they store but not the rules for it:
// which of them apply would be chance.
func (h *Handler) joinNamespace(ctx caddy.Context, a *app.App) error {
	if h.Namespace == "" {
		return nil
	}
	namespaces.Lock()
	defer namespaces.Unlock()
	if namespaces.m[a] == nil {
		namespaces.m[a] = map[string][]*Handler{}
		context.AfterFunc(ctx, func() {
			namespaces.Lock()
			defer namespaces.Unlock()
			delete(namespaces.m, a)
		})
	}
	named := namespaces.m[a]
	for _, other := range named[h.Namespace] {
		if h.rules() != other.rules() {
			where := "another http_cache"
			if other.Position != "" {
				where = "the http_cache at " + other.Position
			}
			return fmt.Errorf("namespace %s: %s uses it with other options: handlers that share a namespace must have the same key, ttl and storing options", h.Namespace, where)
		}
	}
	named[h.Namespace] = append(named[h.Namespace], h)
	return nil
}

// rules are the options that decide what is stored, under which key and for
// whom.
func (h *Handler) rules() string {
	text, _ := json.Marshal(struct {
		TTL, MaxError, While, IfError, Disconnected any
		StatusTTL, Key, Tags, Targets, SetCookie    any
		CORS, Type, Profile, OnWrite, Segments      any
	}{
		h.TTL, h.MaxErrorTTL, h.StaleWhileRevalidate, h.StaleIfError, h.StaleWhenDisconnected,
		h.StatusTTL, h.Key, h.Tags, h.Targets, h.SetCookie,
		h.StoreCORS, h.MatchType, h.Profile, h.InvalidateOnWrite, h.InvalidateSegments,
	})
	return string(text)
}
