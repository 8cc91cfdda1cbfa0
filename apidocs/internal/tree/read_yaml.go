package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxYAMLMarks bounds the characters by which YAML separates its nodes. Its parser
// takes some hundred bytes for each node, however short the node is.
const maxYAMLMarks = 1_500_000

// YAMLToJSON returns a document in YAML as JSON. Aliases are expanded, within the
// limits for the result; merge keys are merged. What JSON does not have becomes a
// string: dates, binary data, infinities. Of several documents in one text, the first
// counts.
func YAMLToJSON(text []byte, limits Limits) (result []byte, err error) {
	if len(text) > limits.Bytes {
		return nil, fmt.Errorf("longer than %d bytes", limits.Bytes)
	}
	if marks(text) > maxYAMLMarks {
		return nil, fmt.Errorf("more than %d separators: write the document as JSON, for which there is more room", maxYAMLMarks)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(limits.Depth))))
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := loader.Load(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty")
		}
		return nil, err
	}
	c := converter{limits: limits, w: NewWriter(len(text))}
	if err := c.node(&root, 0); err != nil {
		return nil, err
	}
	return c.w.Bytes(), nil
}

// marks counts the characters between nodes; each node has at least one.
func marks(text []byte) int {
	n := 0
	for _, c := range text {
		switch c {
		case ',', ':', '-', '[', '{', '?', '\n':
			n++
		}
	}
	return n
}

// converter writes the nodes of a document in YAML as JSON.
type converter struct {
	limits Limits
	w      *Writer
	nodes  int
}

func (c *converter) node(n *yaml.Node, depth int) error {
	c.nodes++
	switch {
	case depth > c.limits.Depth:
		return fmt.Errorf("line %d: more than %d mappings, sequences and aliases in one another", n.Line, c.limits.Depth)
	case c.nodes > c.limits.Nodes || c.w.Len() > c.limits.Bytes:
		return fmt.Errorf("line %d: the document is too large with its aliases expanded", n.Line)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return errors.New("the document is empty")
		}
		return c.node(n.Content[0], depth)
	case yaml.AliasNode:
		return c.node(n.Alias, depth+1)
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		c.w.Begin('[')
		for _, item := range n.Content {
			if err := c.node(item, depth+1); err != nil {
				return err
			}
		}
		c.w.End(']')
	case yaml.ScalarNode:
		c.scalar(n)
	default:
		return fmt.Errorf("line %d: unknown kind of node", n.Line)
	}
	return nil
}

// pair is a member of a mapping.
type pair struct {
	key   string
	value *yaml.Node
}

func (c *converter) mapping(n *yaml.Node, depth int) error {
	members, err := c.pairs(n, depth)
	if err != nil {
		return err
	}
	c.w.Begin('{')
	for _, m := range members {
		c.nodes++
		c.w.Name(m.key)
		if err := c.node(m.value, depth+1); err != nil {
			return err
		}
	}
	c.w.End('}')
	return nil
}

// pairs returns the members of a mapping, with those that merge keys bring in
// behind.
func (c *converter) pairs(n *yaml.Node, depth int) (members []pair, err error) {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		for hops := 0; key.Kind == yaml.AliasNode && hops < c.limits.Depth; hops++ {
			key = key.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("line %d: a key that is not a scalar", key.Line)
		case key.ShortTag() == "!!merge":
			merged = append(merged, n.Content[i+1])
		default:
			members = append(members, pair{key.Value, n.Content[i+1]})
		}
	}
	if len(merged) == 0 {
		return members, nil
	}
	own := make(map[string]bool, len(members))
	for _, m := range members {
		own[m.key] = true
	}
	return c.mergeAll(members, own, merged, depth+1)
}

// merge appends the members of the mapping, or mappings, that a merge key names.
func (c *converter) merge(members []pair, own map[string]bool, source *yaml.Node, depth int) ([]pair, error) {
	c.nodes++
	if depth > c.limits.Depth || c.nodes > c.limits.Nodes {
		return nil, fmt.Errorf("line %d: merge keys go too deep", source.Line)
	}
	switch source.Kind {
	case yaml.AliasNode:
		return c.merge(members, own, source.Alias, depth+1)
	case yaml.SequenceNode:
		return c.mergeAll(members, own, source.Content, depth+1)
	case yaml.MappingNode:
		inner, err := c.pairs(source, depth+1)
		c.nodes += len(inner)
		for _, m := range inner {
			if !own[m.key] {
				own[m.key] = true
				members = append(members, m)
			}
		}
		return members, err
	default:
		return nil, fmt.Errorf("line %d: a merge key whose value is not a mapping", source.Line)
	}
}

func (c *converter) mergeAll(members []pair, own map[string]bool, sources []*yaml.Node, depth int) (_ []pair, err error) {
	for _, source := range sources {
		if members, err = c.merge(members, own, source, depth); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func (c *converter) scalar(n *yaml.Node) {
	switch n.ShortTag() {
	case "!!null":
		c.w.Raw([]byte("null"))
		return
	case "!!bool":
		switch strings.ToLower(n.Value) {
		case "true":
			c.w.Raw([]byte("true"))
			return
		case "false":
			c.w.Raw([]byte("false"))
			return
		}
	case "!!int", "!!float":
		if text := jsonNumber(n.Value); text != "" && len(text) <= c.limits.Digits {
			c.w.Raw([]byte(text))
			return
		}
	}
	c.w.Text(n.Value)
}

// jsonNumber returns a number of YAML as one of JSON, or nothing if JSON has no
// such number.
func jsonNumber(text string) string {
	if numberLength([]byte(text)) == len(text) && text != "" {
		return text
	}
	plain := strings.ReplaceAll(text, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return strconv.FormatInt(i, 10)
	}
	f, err := strconv.ParseFloat(plain, 64)
	if err != nil || f-f != 0 { // infinite, or not a number
		return ""
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
