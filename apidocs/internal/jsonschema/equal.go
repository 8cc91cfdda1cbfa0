package jsonschema

import (
	"maps"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// equal reports whether two values are the same, whatever the order of their members.
func (c *checker) equal(a, b tree.Value, depth int) bool {
	if c.steps--; c.steps < 0 || depth > maxDepth || a.Kind() != b.Kind() {
		return false
	}
	c.steps -= min(a.Size(), b.Size())/16 + min(len(a.Raw()), len(b.Raw()))/256
	switch a.Kind() {
	case tree.Number:
		x, okX := float(a)
		y, okY := float(b)
		return okX && okY && x == y
	case tree.String:
		return a.Text() == b.Text()
	case tree.Array:
		return c.equalItems(a, b, depth)
	case tree.Object:
		return c.equalMembers(a, b, depth)
	default:
		return true
	}
}

// fewMembers are looked for one by one; more are put into a map first.
const fewMembers = 16

func (c *checker) equalMembers(a, b tree.Value, depth int) bool {
	n := 0
	for range b.Members() {
		n++
	}
	for range a.Members() {
		n--
	}
	if n != 0 || c.steps < 0 {
		return false
	}
	find := b.Get
	if a.Size() > fewMembers {
		if c.steps -= b.Size(); c.steps < 0 {
			return false
		}
		byName := maps.Collect(b.Members())
		find = func(name string) tree.Value { return byName[name] }
	}
	for name, member := range a.Members() {
		if other := find(name); !other.Exists() || !c.equal(member, other, depth+1) {
			return false
		}
	}
	return true
}

func (c *checker) equalItems(a, b tree.Value, depth int) bool {
	var items []tree.Value
	for item := range a.Items() {
		items = append(items, item)
	}
	n := 0
	for item := range b.Items() {
		if n >= len(items) || !c.equal(items[n], item, depth+1) {
			return false
		}
		n++
	}
	return n == len(items)
}

// unique reports whether no item of an array is there twice.
func (c *checker) unique(v tree.Value) bool {
	texts := map[string]bool{}
	var others []tree.Value
	for item := range v.Items() {
		switch item.Kind() {
		case tree.String:
			if text := item.Text(); texts[text] {
				return false
			} else {
				texts[text] = true
			}
			continue
		case tree.Number:
			// As text, for speed; 1 and 1.0 are found by their text alone.
			if text := "\x00" + string(item.Raw()); texts[text] {
				return false
			} else {
				texts[text] = true
			}
			continue
		default:
		}
		for _, other := range others {
			if c.equal(other, item, 0) {
				return false
			}
			if c.steps < 0 {
				return true
			}
		}
		others = append(others, item)
	}
	return true
}
