package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("tentagate", parseGlobalOption)
}

// optionParser reads one option of the global `tentagate` block, the dispenser
// standing on its name, and returns the name and the value of the setting.
type optionParser func(d *caddyfile.Dispenser) (key string, value any, err error)

var optionParsers = map[string]optionParser{}

// RegisterOption lets a feature define settings in the global `tentagate`
// block, for several of its handlers to use by name. It is called from init and
// panics if the option is taken.
func RegisterOption(name string, parser optionParser) {
	if _, taken := optionParsers[name]; taken || name == "redis" {
		panic("app: global option " + name + " is registered already")
	}
	optionParsers[name] = parser
}

// settingCheck checks a setting of the global `tentagate` block.
type settingCheck func(ctx caddy.Context, key string, raw json.RawMessage) error

var settingChecks = map[string]settingCheck{}

// RegisterCheck lets the feature that registered an option check all its settings
// when the configuration loads, those among them that no handler uses too.
func RegisterCheck(name string, check settingCheck) { settingChecks[name] = check }

// checkShared checks the settings that features have registered.
func (a *App) checkShared(ctx caddy.Context) error {
	for _, option := range slices.Sorted(maps.Keys(a.SharedOptions)) {
		check, known := settingChecks[option]
		if !known {
			if _, known = optionParsers[option]; !known {
				return fmt.Errorf("shared: unknown option %q: accepted are %s", option, strings.Join(slices.Sorted(maps.Keys(optionParsers)), ", "))
			}
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(a.SharedOptions[option])) {
			if err := check(ctx, key, a.SharedOptions[option][key]); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next() // the option's name, so that the error has its place
		return nil, d.Err("the global option tentagate is given more than once")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "tentagate", Value: caddyconfig.JSON(a, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from the global option. Syntax:
//
//	tentagate {
//		redis <address...> {
//			sentinel     <master>
//			cluster
//			key_prefix   <prefix>
//			username     <name>
//			password     <password>
//			tls {
//				ca          <file>
//				cert        <file>
//				key         <file>
//				server_name <name>
//			}
//			entra {
//				client_id <id>
//			}
//			timeout      <duration>
//			dial_timeout <duration>
//			pool_size    <number>
//		}
//		jwt_provider <name> {
//			…
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	options := []parse.Option{RedisOption(&a.RedisConfig)}
	for _, name := range slices.Sorted(maps.Keys(optionParsers)) {
		options = append(options, parse.Func(name, func(d *caddyfile.Dispenser) error {
			return a.unmarshalShared(d, name)
		}).Repeatable())
	}
	return parse.BlockAlone(d, options...)
}

// RedisOption is the option `redis` of a block, with the same syntax wherever it
// stands.
func RedisOption(to **RedisConfig) parse.Option {
	return parse.Func("redis", func(d *caddyfile.Dispenser) error {
		*to = new(RedisConfig)
		return (*to).unmarshalCaddyfile(d)
	})
}

// unmarshalShared reads an option that a feature has registered.
func (a *App) unmarshalShared(d *caddyfile.Dispenser, option string) error {
	key, value, err := optionParsers[option](d)
	if err != nil {
		return err
	}
	if _, dup := a.SharedOptions[option][key]; dup {
		return d.Errf("%s %s: given more than once", option, key)
	}
	if a.SharedOptions == nil {
		a.SharedOptions = map[string]map[string]json.RawMessage{}
	}
	if a.SharedOptions[option] == nil {
		a.SharedOptions[option] = map[string]json.RawMessage{}
	}
	a.SharedOptions[option][key] = caddyconfig.JSON(value, nil)
	return nil
}

func (c *RedisConfig) unmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	c.Position = place.Of(d)
	if c.URLs, err = parse.Args(d, 1, -1); err != nil {
		return err
	}
	for _, url := range c.URLs {
		if strings.TrimSpace(url) == "" {
			return d.Err("redis: an address is empty: leave redis out to keep everything in memory")
		}
		if parse.IsOff(url) {
			return d.WrapErr(parse.Mend("redis: %q is not an address: leave redis out to keep everything in memory", url))
		}
	}
	head := parse.Head(d)
	err = parse.Block(d,
		parse.Value("sentinel", &c.Sentinel, parse.Text).NotOff(),
		parse.Flag("cluster", &c.Cluster),
		parse.Value("key_prefix", &c.KeyPrefix, parse.Text).NotOff(),
		parse.Value("username", &c.Username, parse.Text).NotOff(),
		parse.Value("password", &c.Password, parse.Text),
		parse.Func("tls", func(d *caddyfile.Dispenser) error {
			c.TLS = new(RedisTLS)
			return c.TLS.unmarshalCaddyfile(d)
		}),
		parse.Func("entra", func(d *caddyfile.Dispenser) error {
			c.Entra = new(Entra)
			return c.Entra.unmarshalCaddyfile(d)
		}),
		parse.Value("timeout", &c.Timeout, parse.Duration),
		parse.Value("dial_timeout", &c.DialTimeout, parse.Duration),
		parse.Value("budget", &c.Budget, parse.Duration),
		parse.Value("pool_size", &c.PoolSize, parse.Int(1, maxPoolSize)),
	)
	if err == nil && c.Sentinel != "" && c.Cluster {
		err = head.Err("redis: sentinel and cluster exclude each other")
	}
	return err
}

func (t *RedisTLS) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return parse.BlockAlone(d,
		parse.Value("ca", &t.CA, parse.Text).NotOff(),
		parse.Value("cert", &t.Cert, parse.Text).NotOff(),
		parse.Value("key", &t.Key, parse.Text).NotOff(),
		parse.Value("server_name", &t.ServerName, parse.Text).NotOff(),
	)
}

func (e *Entra) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return parse.BlockAlone(d,
		parse.Value("client_id", &e.ClientID, parse.Text).NotOff(),
		parse.Value("username", &e.Username, parse.Text).NotOff(),
		parse.Value("scope", &e.Scope, parse.Text).NotOff(),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
