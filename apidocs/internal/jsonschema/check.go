package jsonschema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Result is what was found of a value.
type Result uint8

// The results.
const (
	Valid Result = iota
	// Unknown: the schema has something that is not known here, or the check took too
	// long.
	Unknown
	Invalid
)

// Fault is why a value is invalid.
type Fault struct {
	// Pointer is the JSON pointer (RFC 6901) of the value that is at fault.
	Pointer string
	// Detail says what is wrong. It repeats nothing of the value.
	Detail string
}

// Check checks a value; the number of steps bounds the work. The fault is that of the
// first value that is found to be invalid.
func (s *Schema) Check(v tree.Value, steps int) (Result, Fault) {
	c := &checker{steps: steps}
	result := c.check(s, v, 0)
	if c.steps < 0 {
		return Unknown, Fault{}
	}
	if result != Invalid {
		return result, Fault{}
	}
	return Invalid, c.fault
}

// maxDepth bounds how far schemas and values go into one another.
const maxDepth = 1000

// checker checks one value.
type checker struct {
	steps  int
	at     []string  // the names on the way to the value
	here   []*Schema // what is being checked, from the outermost schema
	from   int       // where in here the schemas of the value begin
	fault  Fault
	silent int // how many schemas around may fail: their faults are nobody's
}

func (c *checker) fail(format string, args ...any) Result {
	if c.silent == 0 && c.fault.Detail == "" {
		c.fault.Detail = fmt.Sprintf(format, args...)
		for _, name := range c.at {
			c.fault.Pointer += "/" + tree.Escape(name)
		}
	}
	return Invalid
}

// check checks a value against a schema; nil is one that everything fits.
func (c *checker) check(s *Schema, v tree.Value, depth int) Result {
	if c.steps--; c.steps < 0 || depth > maxDepth {
		return Unknown
	}
	if s == nil {
		return Valid
	}
	if s.never {
		return c.fail("is not allowed")
	}
	result := Valid
	if s.unknown {
		result = Unknown
	}
	if s.nullable && v.Is(tree.Null) {
		return max(result, c.plain(s, v, depth))
	}
	c.here = append(c.here, s)
	result = max(result, c.inPlace(s, v, depth))
	c.here = c.here[:len(c.here)-1]
	return result
}

// inPlace checks a value against what a schema has and refers to.
func (c *checker) inPlace(s *Schema, v tree.Value, depth int) Result {
	result := Valid
	if s.ref != nil {
		to := s.ref.target()
		if to == nil {
			return Unknown
		}
		result = max(result, c.check(to, v, depth+1))
	}
	for _, part := range []func(*Schema, tree.Value, int) Result{c.plain, c.contents, c.combined} {
		if result == Invalid || c.steps < 0 {
			return result
		}
		result = max(result, part(s, v, depth))
	}
	return result
}

// enter goes into a value, and leave, which gets what enter returned, goes out of it.
func (c *checker) enter(name string) (from int) {
	from, c.from = c.from, len(c.here)
	c.at = append(c.at, name)
	return from
}

func (c *checker) leave(from int) {
	c.at, c.from = c.at[:len(c.at)-1], from
}

// plain checks what needs no other schema.
func (c *checker) plain(s *Schema, v tree.Value, _ int) Result {
	if s.types != 0 && s.types&typesOfValue(v) == 0 {
		return c.fail("must be of the type %s", s.types)
	}
	if s.enum != nil && !slices.ContainsFunc(s.enum, func(e tree.Value) bool { return c.equal(e, v, 0) }) {
		return c.fail("is none of the values that are allowed")
	}
	if s.constant.Exists() && !c.equal(s.constant, v, 0) {
		return c.fail("is not the value that is allowed")
	}
	switch v.Kind() {
	case tree.Number:
		return c.number(s, v)
	case tree.String:
		return c.text(s, v.Text())
	default:
		return Valid
	}
}

func (c *checker) number(s *Schema, v tree.Value) Result {
	f, err := strconv.ParseFloat(string(v.Raw()), 64)
	if err != nil && !math.IsInf(f, 0) {
		return Unknown
	}
	switch b := s.minimum; {
	case b == nil:
	case b.exclusive && f <= b.value:
		return c.fail("must be greater than %v", b.value)
	case f < b.value:
		return c.fail("must be at least %v", b.value)
	}
	switch b := s.maximum; {
	case b == nil:
	case b.exclusive && f >= b.value:
		return c.fail("must be less than %v", b.value)
	case f > b.value:
		return c.fail("must be at most %v", b.value)
	}
	if s.multipleOf > 0 {
		// Neither number need be exact in binary.
		if q := f / s.multipleOf; math.Abs(q-math.Round(q)) > 1e-9*math.Max(1, math.Abs(q)) {
			return c.fail("must be a multiple of %v", s.multipleOf)
		}
	}
	return Valid
}

func (c *checker) text(s *Schema, text string) Result {
	n := -1
	if s.minLength > 0 || s.maxLength >= 0 {
		n = utf8.RuneCountInString(text)
	}
	switch {
	case n >= 0 && n < s.minLength:
		return c.fail("must have at least %d characters", s.minLength)
	case s.maxLength >= 0 && n > s.maxLength:
		return c.fail("must have at most %d characters", s.maxLength)
	}
	result := c.matches(s.pattern, text)
	if result == Invalid {
		return c.fail("must match the pattern %.100q", s.pattern)
	}
	return result
}

// contents checks items and members.
func (c *checker) contents(s *Schema, v tree.Value, depth int) Result {
	switch v.Kind() {
	case tree.Array:
		return c.array(s, v, depth)
	case tree.Object:
		return c.object(s, v, depth)
	default:
		return Valid
	}
}

func (c *checker) array(s *Schema, v tree.Value, depth int) Result {
	result, n := Valid, 0
	for item := range v.Items() {
		var each *Schema
		switch {
		case n < len(s.prefix):
			each = s.prefix[n]
		default:
			each = s.items
		}
		if each != nil {
			from := c.enter(strconv.Itoa(n))
			result = max(result, c.check(each, item, depth+1))
			c.leave(from)
		}
		if n++; result == Invalid || c.steps < 0 {
			return result
		}
	}
	switch {
	case n < s.minItems:
		return c.fail("must have at least %d items", s.minItems)
	case s.maxItems >= 0 && n > s.maxItems:
		return c.fail("must have at most %d items", s.maxItems)
	case s.unique && !c.unique(v):
		return c.fail("has an item more than once")
	}
	return result
}

func (c *checker) object(s *Schema, v tree.Value, depth int) Result {
	result, n := Valid, 0
	for name, member := range v.Members() {
		n++
		from := c.enter(name)
		result = max(result, c.member(s, name, member, depth))
		c.leave(from)
		if result == Invalid || c.steps < 0 {
			return result
		}
		for _, other := range s.dependent[name] {
			if c.steps -= 1 + n/16; c.steps < 0 {
				return result
			}
			if c.lacks(v, other) {
				return c.fail("the member %.100q is missing", other)
			}
		}
	}
	for _, name := range s.required {
		if c.steps -= 1 + n/16; c.steps < 0 {
			return result
		}
		if c.lacks(v, name) {
			from := c.enter(name)
			r := c.fail("is missing")
			c.leave(from)
			return r
		}
	}
	switch {
	case n < s.minProps:
		return c.fail("must have at least %d members", s.minProps)
	case s.maxPro >= 0 && n > s.maxPro:
		return c.fail("must have at most %d members", s.maxPro)
	}
	return result
}

// lacks reports whether an object does not have a member that requests have: none of the
// schemas that are being checked for it says that it is read-only.
func (c *checker) lacks(v tree.Value, name string) bool {
	if v.Get(name).Exists() {
		return false
	}
	for _, s := range c.here[c.from:] {
		if c.steps--; s.isOutput(name) {
			return false
		}
	}
	return true
}

// member checks one member of an object.
func (c *checker) member(s *Schema, name string, v tree.Value, depth int) Result {
	result, known := Valid, false
	if s.names != nil {
		if r := c.text(s.names, name); r == Invalid {
			return r
		}
		result = Unknown // but for its length and pattern
	}
	if p, ok := s.properties[name]; ok {
		known, result = true, max(result, c.check(p, v, depth+1))
	}
	for _, p := range s.patterns {
		if result == Invalid || c.steps < 0 {
			return result
		}
		switch c.matches(p.pattern, name) {
		case Valid:
			known, result = true, max(result, c.check(p.schema, v, depth+1))
		case Unknown:
			known, result = true, max(result, Unknown)
		case Invalid:
		}
	}
	if !known && s.additional != nil && result != Invalid {
		result = max(result, c.check(s.additional, v, depth+1))
	}
	return result
}

// combined checks the schemas that are combined with this one.
func (c *checker) combined(s *Schema, v tree.Value, depth int) Result {
	result := Valid
	for _, other := range s.allOf {
		if result = max(result, c.check(other, v, depth+1)); result == Invalid {
			return result
		}
	}
	if s.anyOf != nil {
		if result = max(result, c.some(s.anyOf, v, depth, false)); result == Invalid {
			return c.fail("fits none of the alternatives")
		}
	}
	if s.oneOf != nil {
		if result = max(result, c.some(s.oneOf, v, depth, true)); result == Invalid {
			return c.fail("does not fit exactly one of the alternatives")
		}
	}
	if s.not != nil {
		switch c.quietly(s.not, v, depth) {
		case Valid:
			return c.fail("is of a kind that is not allowed")
		case Unknown:
			result = Unknown
		case Invalid:
		}
	}
	if s.when != nil {
		switch c.quietly(s.when, v, depth) {
		case Valid:
			result = max(result, c.check(s.then, v, depth+1))
		case Invalid:
			result = max(result, c.check(s.otherwise, v, depth+1))
		default:
			result = Unknown
		}
	}
	return result
}

// quietly is check for a schema that may fail.
func (c *checker) quietly(s *Schema, v tree.Value, depth int) Result {
	c.silent++
	defer func() { c.silent-- }()
	return c.check(s, v, depth+1)
}

// some checks alternatives, of which at least one, or exactly one, is to fit.
func (c *checker) some(alternatives []*Schema, v tree.Value, depth int, one bool) Result {
	fit, unknown := 0, 0
	for _, s := range alternatives {
		switch c.quietly(s, v, depth) {
		case Valid:
			if fit++; !one {
				return Valid
			}
		case Unknown:
			unknown++
		case Invalid:
		}
		if c.steps < 0 {
			return Unknown
		}
	}
	switch {
	case fit > 1:
		return Invalid
	case unknown > 0:
		return Unknown
	case fit == 1:
		return Valid
	}
	return Invalid
}
