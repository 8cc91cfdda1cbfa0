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

// matches finds out whether a text matches, and takes the steps for that. Where there are
// not enough left the expression is not asked, so that what is beside the text is checked
// nevertheless; nil matches everything.
func (c *checker) matches(p *pattern, text string) Result {
	if p == nil {
		return Valid
	}
	steps := 1 + len(text)*p.instructions/256
	if steps > c.steps {
		return Unknown
	}
	c.steps -= steps
	if p.MatchString(text) {
		return Valid
	}
	return Invalid
}
