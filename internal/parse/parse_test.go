package parse_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// block is what the options of the tests set.
type block struct {
	flag, orOff bool
	ttl         caddy.Duration
	limit       caddy.Duration
	n           int
	store       string
	names       []string
	many        []string
	inner       block2
	other       []string
}

type block2 struct{ size int64 }

func (b *block) unmarshal(text string) error {
	d := caddyfile.NewTestDispenser("directive " + text)
	d.Next()
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	return parse.Block(d,
		parse.Flag("flag", &b.flag),
		parse.FlagOrOff("or_off", &b.orOff),
		parse.Value("ttl", &b.ttl, parse.Duration).Given(len(args) > 0),
		parse.Value("limit", &b.limit, parse.DurationOrOff),
		parse.Value("number", &b.n, parse.Int(1, 9)),
		parse.Value("store", &b.store, parse.OneOf("memory", "redis", "both")),
		parse.List("names", &b.names).Then(func() error {
			if b.names[0] == "bad" {
				return fmt.Errorf("names: %q is bad", b.names[0])
			}
			return nil
		}),
		parse.Func("many", func(d *caddyfile.Dispenser) error {
			text, err := parse.OneArg(d)
			b.many = append(b.many, text)
			return err
		}).Repeatable(),
		parse.Func("inner", func(d *caddyfile.Dispenser) error {
			if err := parse.NoArgs(d); err != nil {
				return err
			}
			return parse.Block(d, parse.Value("size", &b.inner.size, parse.SizeOrOff))
		}),
		parse.ListOrOff("fields", &b.other),
		parse.Func("lazy", func(*caddyfile.Dispenser) error { return nil }),
	)
}

func TestBlock(t *testing.T) {
	for text, want := range map[string]string{
		"":   "{false false 0s 0s 0  [] [] {0} []}",
		"1s": "{false false 0s 0s 0  [] [] {0} []}",
		"{\n flag\n or_off\n ttl 2s\n limit off\n number 3\n store redis\n names a b\n many x\n many y\n inner {\n size 1KiB\n }\n}": "{true true 2s 0s 3 redis [a b] [x y] {1024} []}",
		"{\n or_off off\n}":                    "{false false 0s 0s 0  [] [] {0} []}",
		"{\n fields 0s\n}":                     "{false false 0s 0s 0  [] [] {0} [off]}",
		"{\n fields none\n}":                   `fields: "none" is not a value; to disable it, write off, at Testfile:2`,
		"{\n names 0s\n}":                      "{false false 0s 0s 0  [0s] [] {0} []}",
		"{\n fields off\n}":                    "{false false 0s 0s 0  [] [] {0} [off]}",
		"{\n fields a off\n}":                  "{false false 0s 0s 0  [] [] {0} [a off]}",
		"{\n flag 0\n}":                        `flag: unexpected argument "0": it takes none: to switch it off, leave the line out`,
		"{\n names off\n}":                     "names: off is not a value: leave the line out, at Testfile:2",
		"{\n store off\n}":                     `store: unknown value "off": accepted are memory, redis and both; it cannot be switched off: without the line it has its default, at Testfile:2`,
		"{\n limit 0%\n}":                      `limit: "0%" is not a duration such as 250ms, 30s, 5m or 1d; to disable it, write off, at Testfile:2`,
		"{\n or_off on\n}":                     `or_off: unexpected argument "on": it takes none, or off, at Testfile:2`,
		"{\n or_off off 1\n}":                  `or_off: unexpected argument "1": it takes none, or off`,
		"{\n flag\n flag\n}":                   "flag: given more than once, at Testfile:3",
		"{\n flag on\n}":                       `flag: unexpected argument "on": it takes none: the name alone switches it on`,
		"{\n flag off\n}":                      `flag: unexpected argument "off": it takes none: to switch it off, leave the line out`,
		"1s {\n ttl 2s\n}":                     "ttl: given more than once",
		"{\n ttl\n}":                           "ttl: missing argument: it takes 1 value, at Testfile:2",
		"{\n ttl 1s 2s\n}":                     `ttl: unexpected argument "2s": it takes 1 value`,
		"{\n ttl soon\n}":                      `ttl: "soon" is not a duration above zero, such as 250ms, 30s, 5m or 1d, at Testfile:2`,
		"{\n ttl 1s {\n x\n }\n}":              "ttl: it takes no block",
		"{\n store disk\n}":                    `store: unknown value "disk": accepted are memory, redis and both`,
		"{\n names\n}":                         "names: missing argument: it takes at least 1 value",
		"{\n names a \"\"\n}":                  "names: an empty value: remove it, or the line",
		"{\n names bad\n}":                     `names: "bad" is bad, at Testfile:2`,
		"{\n inner {\n size 1\n size 2\n }\n}": "size: given more than once",
		"{\n inner {\n sise 1\n }\n}":          `unknown option "sise": accepted are size; did you mean size?`,
		"{\n xyz 1\n}":                         `unknown option "xyz": accepted are flag, or_off, ttl, limit, number, store, names, many, inner, fields, lazy, at`,
		"{\n lazy 1\n}":                        `lazy: unexpected argument "1"`,
		"{\n @open path /a\n}":                 "@open: define a named matcher in the site",
		"a b":                                  `directive: unexpected argument "b": it takes at most 1 value`,
	} {
		var b block
		err := b.unmarshal(text)
		got := fmt.Sprintf("{%v %v %v %v %v %v %v %v %v %v}", b.flag, b.orOff, time.Duration(b.ttl), time.Duration(b.limit), b.n, b.store, b.names, b.many, b.inner, b.other)
		if strings.HasPrefix(want, "{") {
			if err != nil || got != want {
				t.Errorf("%s: got %s and %v, want %s", text, got, err, want)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// What Rest takes is not unknown, and what another option names is not the rest.
func TestRest(t *testing.T) {
	d := caddyfile.NewTestDispenser("directive {\n flag\n a 1\n b {\n c\n }\n a 2\n}")
	d.Next()
	var flag bool
	var rest []string
	err := parse.Block(d, parse.Flag("flag", &flag), parse.Rest(func(d *caddyfile.Dispenser) error {
		for _, token := range d.NextSegment() {
			rest = append(rest, token.Text)
		}
		return nil
	}))
	if got := strings.Join(rest, " "); err != nil || !flag || got != "a 1 b { c } a 2" {
		t.Errorf("got %v, %q and %v", flag, got, err)
	}
}

func TestWhere(t *testing.T) {
	d := caddyfile.NewTestDispenser("directive {\n\n flag x\n}")
	d.Next()
	line := 0
	err := parse.Block(d, parse.Flag("flag", new(bool)).Where(func(name string, d *caddyfile.Dispenser) {
		if name == "flag" {
			line = d.Line()
		}
	}))
	if err == nil || line != 3 {
		t.Errorf("got line %d and %v", line, err)
	}
}

func TestArgs(t *testing.T) {
	for line, want := range map[string]string{
		"o":       "missing argument: it takes 1 to 2 values",
		"o a b c": `unexpected argument "c": it takes 1 to 2 values`,
	} {
		d := caddyfile.NewTestDispenser(line)
		d.Next()
		if _, err := parse.Args(d, 1, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}
