package contract

import "strings"

// segment is one segment of a path template, such as `{id}`, `{name}.json` or `items`.
// literals has one text more than there are names: literal, name, literal, …
type segment struct {
	literals []string
	names    []string
}

// parseSegment reads a segment. Braces that do not pair are literal text.
func parseSegment(text string) segment {
	var s segment
	literal := ""
	for text != "" {
		open := strings.IndexByte(text, '{')
		end := strings.IndexByte(text[max(open, 0):], '}') + max(open, 0)
		if open < 0 || end < open+2 {
			break
		}
		s.literals = append(s.literals, literal+text[:open])
		s.names = append(s.names, text[open+1:end])
		literal, text = "", text[end+1:]
	}
	s.literals = append(s.literals, literal+text)
	return s
}

// isLiteral reports whether the segment has no parameter.
func (s *segment) isLiteral() bool { return len(s.names) == 0 }

// isWild reports whether the segment is one parameter and nothing else.
func (s *segment) isWild() bool {
	return len(s.names) == 1 && s.literals[0] == "" && s.literals[1] == ""
}

// match reports whether a segment of a request fits, and appends the values of the
// parameters. No parameter is empty.
func (s *segment) match(text string, values []string) ([]string, bool) {
	rest, ok := strings.CutPrefix(text, s.literals[0])
	if !ok {
		return values, false
	}
	last := len(s.names) - 1
	for i := range s.names {
		literal := s.literals[i+1]
		end := len(rest)
		switch {
		case i == last:
			if end -= len(literal); end < 1 || !strings.HasSuffix(rest, literal) {
				return values, false
			}
		case literal == "":
			end = min(1, len(rest)) // two parameters without a text between them
		default:
			if len(rest) < 2 {
				return values, false
			}
			if end = strings.Index(rest[1:], literal) + 1; end < 1 {
				return values, false
			}
		}
		if end < 1 {
			return values, false
		}
		values = append(values, rest[:end])
		rest = rest[end+len(literal):]
		if i == last {
			rest = ""
		}
	}
	return values, rest == ""
}

// node is a place in the tree of all path templates.
type node struct {
	literals map[string]*node
	patterns []patternEdge
	byText   map[string]*node // the nodes of patterns, by the key of their segment
	wild     *node
	path     *Path
}

type patternEdge struct {
	segment segment
	to      *node
}

// key is the same for segments that differ by the names of parameters alone.
func (s *segment) key() string { return strings.Join(s.literals, "{?}") }

// insert returns the node of a template, which is new if there was none. It takes from
// budget the number of new nodes, and returns nil once there are none left.
func (n *node) insert(template string, budget *int) *node {
	for text := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		if n = n.child(parseSegment(text), text, budget); n == nil {
			return nil
		}
	}
	return n
}

// newNode returns a node, or nil if the budget is spent.
func newNode(budget *int) *node {
	if *budget--; *budget < 0 {
		return nil
	}
	return new(node)
}

func (n *node) child(s segment, text string, budget *int) *node {
	switch {
	case s.isLiteral():
		text = unescapeSegment(text)
		if to := n.literals[text]; to != nil {
			return to
		}
		to := newNode(budget)
		if to != nil {
			if n.literals == nil {
				n.literals = map[string]*node{}
			}
			n.literals[text] = to
		}
		return to
	case s.isWild():
		if n.wild == nil {
			n.wild = newNode(budget)
		}
		return n.wild
	}
	key := s.key()
	if to := n.byText[key]; to != nil {
		return to
	}
	to := newNode(budget)
	if to != nil {
		if n.byText == nil {
			n.byText = map[string]*node{}
		}
		n.byText[key] = to
		n.patterns = append(n.patterns, patternEdge{s, to})
	}
	return to
}

// maxSteps bounds the work of finding one path, whatever templates there are.
const maxSteps = 10_000

// finder looks for the template of one path that has a method.
type finder struct {
	method  string
	escaped bool // segments are percent-encoded
	steps   int
	values  []string
	without []*Path // the paths that fit but do not have the method, the best first
}

// find returns the path whose template the rest of a path fits: a literal segment goes
// before one with parameters (OpenAPI 3.1 §4.8.8). Where templates overlap, the path must
// have the method, as frameworks look for both together.
func (f *finder) find(n *node, rest string) *Path {
	if f.steps++; f.steps > maxSteps {
		return nil
	}
	text, behind, more := strings.Cut(rest, "/")
	if f.escaped {
		text = unescapeSegment(text)
	}
	next := func(to *node) *Path {
		if more {
			return f.find(to, behind)
		}
		if to.path != nil && to.path.Operation(f.method) == nil {
			f.without = append(f.without, to.path)
			return nil
		}
		return to.path
	}
	if to := n.literals[text]; to != nil {
		if p := next(to); p != nil {
			return p
		}
	}
	if text == "" {
		return nil // no parameter is empty
	}
	mark := len(f.values)
	for i := range n.patterns {
		if f.steps++; f.steps > maxSteps {
			return nil
		}
		e := &n.patterns[i]
		var ok bool
		if f.values, ok = e.segment.match(text, f.values); ok {
			if p := next(e.to); p != nil {
				return p
			}
		}
		f.values = f.values[:mark]
	}
	if n.wild != nil {
		f.values = append(f.values, text)
		if p := next(n.wild); p != nil {
			return p
		}
		f.values = f.values[:mark]
	}
	return nil
}
