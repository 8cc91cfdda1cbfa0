package app

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("tentagate", parseGlobalOption)
}

// OptionParser reads one option of the global `tentagate` block, the dispenser
// standing on its name, and returns the name and the value of the setting.
type OptionParser func(d *caddyfile.Dispenser) (key string, value any, err error)

var optionParsers = map[string]OptionParser{}

// RegisterOption lets a feature define settings in the global `tentagate`
// block, for several of its handlers to use by name. It is called from init and
// panics if the option is taken.
func RegisterOption(name string, parser OptionParser) {
	if _, taken := optionParsers[name]; taken || name == "redis" {
		panic("app: global option " + name + " is registered already")
	}
	optionParsers[name] = parser
}

func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
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
	if err := parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for d.NextBlock(0) {
		option := d.Val()
		if option == "redis" {
			if err := seen.Once(d); err != nil {
				return err
			}
			a.RedisConfig = new(RedisConfig)
			if err := a.RedisConfig.unmarshalCaddyfile(d); err != nil {
				return err
			}
			continue
		}
		parser, ok := optionParsers[option]
		if !ok {
			return parse.Unknown(d, acceptedOptions()...)
		}
		key, value, err := parser(d)
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
	}
	return nil
}

func acceptedOptions() []string {
	names := []string{"redis"}
	for name := range optionParsers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
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
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "sentinel":
			c.Sentinel, err = text(d)
		case "cluster":
			c.Cluster, err = true, parse.NoArgs(d)
		case "key_prefix":
			c.KeyPrefix, err = text(d)
		case "username":
			c.Username, err = text(d)
		case "password":
			c.Password, err = text(d)
		case "tls":
			c.TLS = new(RedisTLS)
			err = c.TLS.unmarshalCaddyfile(d)
		case "entra":
			c.Entra = new(Entra)
			err = c.Entra.unmarshalCaddyfile(d)
		case "timeout":
			c.Timeout, err = parse.Duration(d)
		case "dial_timeout":
			c.DialTimeout, err = parse.Duration(d)
		case "pool_size":
			c.PoolSize, err = parse.Int(d, 1, 10_000)
		default:
			err = parse.Unknown(d, "sentinel", "cluster", "key_prefix", "username", "password", "tls", "entra",
				"timeout", "dial_timeout", "pool_size")
		}
		if err != nil {
			return err
		}
	}
	if c.Sentinel != "" && c.Cluster {
		return d.Err("redis: sentinel and cluster exclude each other")
	}
	return nil
}

func (t *RedisTLS) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	fields := map[string]*string{"ca": &t.CA, "cert": &t.Cert, "key": &t.Key, "server_name": &t.ServerName}
	return unmarshalTexts(d, fields, "ca", "cert", "key", "server_name")
}

func (e *Entra) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	fields := map[string]*string{"client_id": &e.ClientID, "username": &e.Username, "scope": &e.Scope}
	return unmarshalTexts(d, fields, "client_id", "username", "scope")
}

// text returns the only argument of an option, which must have something in it.
func text(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	value, err := parse.OneArg(d)
	if err == nil && strings.TrimSpace(value) == "" {
		err = d.Errf("%s: the value is empty: write one, or leave the option out", option)
	}
	return value, err
}

// unmarshalTexts reads a block in which every option has one text.
func unmarshalTexts(d *caddyfile.Dispenser, fields map[string]*string, accepted ...string) error {
	if err := parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		field, ok := fields[d.Val()]
		if !ok {
			return parse.Unknown(d, accepted...)
		}
		if err := seen.Once(d); err != nil {
			return err
		}
		value, err := text(d)
		if err != nil {
			return err
		}
		*field = value
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
