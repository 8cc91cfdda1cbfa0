package parse

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/typo"
)

// Option is an option of a block: its name, and how its line is read.
type Option struct {
	name       string
	read       func(d *caddyfile.Dispenser) error
	repeatable bool
	given      bool
}

// Func is an option that read handles: its line, and its block if it has one. The
// dispenser stands on the option's name.
func Func(name string, read func(d *caddyfile.Dispenser) error) Option {
	return Option{name: name, read: read}
}

// Flag is an option that is switched on by its name alone.
func Flag(name string, to *bool) Option {
	return Func(name, func(d *caddyfile.Dispenser) error {
		*to = true
		return NoArgs(d)
	})
}

// FlagOrOff is Flag for an option that may also be followed by `off`.
func FlagOrOff(name string, to *bool) Option {
	return Func(name, func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		*to = len(args) == 0
		if len(args) > 1 || len(args) == 1 && args[0] != Off {
			return d.WrapErr(Mend("%s: unexpected argument %q: it takes none, or off", name, args[len(args)-1]))
		}
		return nil
	})
}

// Value is an option with one argument, which read turns into a value. An error of
// read says what is accepted; the name of the option is put in front of it.
func Value[T any](name string, to *T, read func(text string) (T, error)) Option {
	return Func(name, func(d *caddyfile.Dispenser) error {
		text, err := OneArg(d)
		if err != nil {
			return err
		}
		if *to, err = read(text); err != nil {
			return d.Errf("%s: %w", name, VariableHint(text, err))
		}
		return nil
	})
}

// List is an option with one or several arguments, none of them blank. `off` alone is
// no value; zero is text like any other.
func List[S ~[]string](name string, to *S) Option {
	return list(name, to).NotOff()
}

// ListOrOff is List for an option that can be switched off: to is then `off` alone,
// also for zero in any unit.
func ListOrOff[S ~[]string](name string, to *S) Option {
	return list(name, to).Then(func() error {
		args := *to
		if len(args) == 1 && IsOff(args[0]) {
			*to = S{Off}
		}
		if len(args) == 1 && slices.Contains(offWords, args[0]) {
			return OrOff("%s: %q is not a value", name, args[0])
		}
		return nil
	})
}

func list[S ~[]string](name string, to *S) Option {
	return Func(name, func(d *caddyfile.Dispenser) error {
		args, err := Args(d, 1, -1)
		if err != nil {
			return err
		}
		*to = args
		if slices.ContainsFunc(args, func(arg string) bool { return strings.TrimSpace(arg) == "" }) {
			return d.Errf("%s: an empty value: remove it, or the line", name)
		}
		return nil
	})
}

// Then returns the option with a check of what was read. Its errors get the place
// of the option, and name the option by themselves.
func (o Option) Then(check func() error) Option {
	read := o.read
	o.read = func(d *caddyfile.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		if err := check(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
	return o
}

// NotOff returns the option as one that cannot be switched off, where `off` would be
// taken for a name. Zero may be one.
func (o Option) NotOff() Option {
	name, read := o.name, o.read
	o.read = func(d *caddyfile.Dispenser) error {
		ahead := *d
		if args := ahead.RemainingArgs(); len(args) > 0 && args[len(args)-1] == Off {
			return d.WrapErr(Mend("%s: off is not a value: leave the line out", name))
		}
		return read(d)
	}
	return o
}

// Rest takes every line whose option no other names, with the dispenser standing on
// its name: for the options of another parser.
func Rest(read func(d *caddyfile.Dispenser) error) Option {
	return Option{name: rest, read: read, repeatable: true}
}

// rest is not a token.
const rest = "\n"

// Where returns the option as one that notes where it is given before it is read.
func (o Option) Where(note func(name string, d *caddyfile.Dispenser)) Option {
	read := o.read
	o.read = func(d *caddyfile.Dispenser) error {
		note(o.name, d)
		return read(d)
	}
	return o
}

// Repeatable returns the option as one that may be given several times.
func (o Option) Repeatable() Option {
	o.repeatable = true
	return o
}

// Given returns the option as one that was given already if so, as by an argument
// of the directive, and may not be given again in the block.
func (o Option) Given(so bool) Option {
	o.given = so
	return o
}

// Head returns a copy of the dispenser for errors about a block as a whole: behind
// the block, d stands on the closing brace.
func Head(d *caddyfile.Dispenser) *caddyfile.Dispenser {
	head := *d
	return &head
}

// BlockAlone is Block for a directive or option that takes no arguments.
func BlockAlone(d *caddyfile.Dispenser, options ...Option) error {
	if err := NoArgs(d); err != nil {
		return err
	}
	return Block(d, options...)
}

// Block reads the block behind the directive or option whose line the dispenser
// has read to its end, if there is one.
func Block(d *caddyfile.Dispenser, options ...Option) error {
	options = slices.Clone(options)
	last := ""
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		i := indexOf(options, name)
		if i < 0 {
			i = indexOf(options, rest)
		}
		switch {
		case i >= 0 && options[i].given && !options[i].repeatable:
			return d.Errf("%s: given more than once", name)
		case i < 0 && name == "{" && last != "":
			return d.Errf("%s: it takes no block", last)
		case i < 0 && strings.HasPrefix(name, "@"):
			return d.Errf("%s: define a named matcher in the site, beside the directive that uses it", name)
		case i < 0:
			return unknown(d, options)
		}
		options[i].given = true
		ahead := *d
		args := ahead.RemainingArgs()
		if err := options[i].read(d); err != nil {
			return withMend(err, args)
		}
		if d.NextArg() {
			return d.Errf("%s: unexpected argument %q", name, d.Val())
		}
		last = name
	}
	return nil
}

// NoBlock refuses a block behind what the dispenser has read.
func NoBlock(d *caddyfile.Dispenser, what string) error {
	head := Head(d)
	if d.NextBlock(d.Nesting()) || d.Val() == "}" {
		return head.Errf("%s: it takes no block", what)
	}
	return nil
}

func indexOf(options []Option, name string) int {
	return slices.IndexFunc(options, func(o Option) bool { return o.name == name })
}

// Names returns the names of the options.
func Names(options ...Option) []string {
	names := make([]string, len(options))
	for i, o := range options {
		names[i] = o.name
	}
	return names
}

// unknown is the error for an option that the block does not have.
func unknown(d *caddyfile.Dispenser, options []Option) error {
	names := Names(options...)
	hint := ""
	if name := typo.Nearest(d.Val(), names, max(1, len(d.Val())/3)); name != "" {
		hint = "; did you mean " + name + "?"
	}
	return d.Errf("unknown option %q: accepted are %s%s", d.Val(), strings.Join(names, ", "), hint)
}
