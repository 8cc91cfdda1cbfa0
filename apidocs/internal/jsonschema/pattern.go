package jsonschema

import (
	"regexp"
	"regexp/syntax"
)

// The bounds of a regular expression. Counted repetitions make a short one large.
const (
	maxPattern      = 1000 // bytes
	maxInstructions = 2000 // of the program that it is compiled to
)

// pattern is a regular expression. The time of a match grows with the text and with the
// number of its instructions.
type pattern struct {
	*regexp.Regexp
	instructions int
}

// expression compiles a regular expression, nil if Go's package cannot, or if it is too
// large.
func expression(text string) *pattern {
	if len(text) > maxPattern {
		return nil
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxInstructions {
		return nil
	}
	e, err := regexp.Compile(text)
	if err != nil {
		return nil
	}
	return &pattern{e, len(program.Inst)}
}

// matches reports whether a text matches, and takes the steps for that. Without any left
// it is not asked; nil matches everything.
func (c *checker) matches(p *pattern, text string) bool {
	if p == nil {
		return true
	}
	if c.steps -= 1 + len(text)*p.instructions/256; c.steps < 0 {
		return true
	}
	return p.MatchString(text)
}
