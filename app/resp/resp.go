// Package resp checks the framing of what a Redis server sends, before the client
// library parses it. go-redis believes the lengths that a reply announces, and
// allocates that much at once: a server that is broken, or no Redis at all, could
// exhaust the memory of the process or make it panic.
package resp

import (
	"bytes"
	"errors"
	"fmt"
)

const (
	// maxLine is the longest line of a reply: a status, an error, a number or a length.
	maxLine = 64 << 10
	// maxBulk is the longest string. The longest that is stored is a certificate
	// storage value of 16 MiB.
	maxBulk = 24 << 20
	// maxBytes is the size of all strings and lines of one reply.
	maxBytes = 64 << 20
	// maxElements is how many values one reply has, those in nested values included.
	maxElements = 1 << 20
	// maxDepth is how deeply values are nested.
	maxDepth = 16
)

// Checker follows the replies on a connection. The zero value is at the start of a
// connection. After an error it must not be used again.
type Checker struct {
	// bulk is how many bytes of a string, its line end included, are to come.
	bulk int
	// kind is the first byte of the current line, last the newest, length how many
	// there were.
	kind, last byte
	length     int
	number     number
	// open are the values that are not complete, the outermost first.
	open  [maxDepth]aggregate
	depth int
	// elements and size are those of the current reply.
	elements, size int
}

// aggregate is an array, set, push, map or attribute.
type aggregate struct {
	left int
	// attribute is set for what precedes a value and is none itself.
	attribute bool
}

// number is a length while it is read.
type number struct {
	value, digits            int
	negative, ended, invalid bool
}

func (n *number) add(c byte) {
	switch {
	case n.ended:
		n.invalid = true
	case c == '\r':
		n.ended = true
	case c == '-' && n.digits == 0 && !n.negative:
		n.negative = true
	case c < '0' || c > '9' || n.digits == 10:
		n.invalid = true
	default:
		n.value = n.value*10 + int(c-'0')
		n.digits++
	}
}

// Check follows the bytes that came next. It returns an error if they are not RESP,
// or announce more than a reply may have.
func (c *Checker) Check(p []byte) error {
	for len(p) > 0 {
		if c.bulk > 0 {
			n := min(c.bulk, len(p))
			c.bulk -= n
			p = p[n:]
			if c.bulk == 0 {
				c.complete()
			}
			continue
		}
		line, end := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, end = p[:i+1], true
		}
		p = p[len(line):]
		if err := c.line(line); err != nil {
			return err
		}
		if end {
			if err := c.endLine(); err != nil {
				return err
			}
		}
	}
	return nil
}

// line follows a part of a line.
func (c *Checker) line(part []byte) error {
	begin := c.length == 0
	if begin {
		c.kind, c.last, c.number = part[0], 0, number{}
	}
	if c.length += len(part); c.length > maxLine {
		return fmt.Errorf("invalid reply from Redis: a line is longer than %d bytes", maxLine)
	}
	text := bytes.TrimSuffix(part, []byte("\n"))
	if len(text) == 0 {
		return nil
	}
	c.last = text[len(text)-1]
	if hasLength(c.kind) {
		if begin {
			text = text[1:]
		}
		for _, b := range text {
			c.number.add(b)
		}
	}
	return nil
}

// hasLength reports whether lines of this kind hold a length.
func hasLength(kind byte) bool {
	switch kind {
	case '$', '!', '=', '*', '~', '>', '%', '|':
		return true
	}
	return false
}

// endLine begins or completes the value that the line stands for.
func (c *Checker) endLine() error {
	n, length := c.number, c.length
	c.length = 0
	if length < 3 || c.last != '\r' {
		return errors.New("invalid reply from Redis: a line is empty or does not end with CRLF")
	}
	if c.size += length; c.size > maxBytes {
		return fmt.Errorf("invalid reply from Redis: it is larger than %d bytes", maxBytes)
	}
	if !hasLength(c.kind) {
		return c.scalar()
	}
	switch {
	case n.invalid || n.digits == 0 || n.negative && (n.value != 1 || c.kind == '|'):
		return errors.New("invalid reply from Redis: a length is no number")
	case n.negative: // null
		c.complete()
		return nil
	}
	switch c.kind {
	case '$', '!', '=':
		return c.beginBulk(n.value)
	case '%', '|':
		return c.beginAggregate(2*n.value, c.kind == '|')
	}
	return c.beginAggregate(n.value, false)
}

func (c *Checker) scalar() error {
	switch c.kind {
	case '+', '-', ':', '_', ',', '#', '(':
		c.complete()
		return nil
	}
	return fmt.Errorf("invalid reply from Redis: %q is no type of a value", c.kind)
}

func (c *Checker) beginBulk(n int) error {
	if n > maxBulk {
		return fmt.Errorf("invalid reply from Redis: it announces a string of %d bytes; accepted are at most %d", n, maxBulk)
	}
	if c.size += n; c.size > maxBytes {
		return fmt.Errorf("invalid reply from Redis: it is larger than %d bytes", maxBytes)
	}
	c.bulk = n + len("\r\n")
	return nil
}

// costOfAttribute is how many elements an attribute counts for: go-redis calls itself for
// each, and how deep that goes is not bounded otherwise.
const costOfAttribute = 1 << 10

func (c *Checker) beginAggregate(n int, attribute bool) error {
	if attribute {
		c.elements += costOfAttribute
	}
	if c.elements += n; c.elements > maxElements {
		return fmt.Errorf("invalid reply from Redis: it announces %d elements; accepted are at most %d", c.elements, maxElements)
	}
	if n == 0 {
		if !attribute {
			c.complete()
		}
		return nil
	}
	if c.depth == maxDepth {
		return fmt.Errorf("invalid reply from Redis: it is nested more than %d deep", maxDepth)
	}
	c.open[c.depth] = aggregate{left: n, attribute: attribute}
	c.depth++
	return nil
}

// complete ends a value, and those that it is the last element of.
func (c *Checker) complete() {
	for c.depth > 0 {
		top := &c.open[c.depth-1]
		if top.left--; top.left > 0 {
			return
		}
		c.depth--
		if top.attribute {
			return
		}
	}
	c.elements, c.size = 0, 0
}
