// Package jsonschema checks JSON against the schemas of an OpenAPI document.
//
// It knows a part of JSON Schema 2020-12 and of the Schema Object of OpenAPI 3.0:
//
//   - type, nullable, enum, const
//   - minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf
//   - minLength, maxLength, pattern (those that Go's regexp can compile)
//   - items, prefixItems, minItems, maxItems, uniqueItems
//   - properties, patternProperties, additionalProperties, propertyNames, required,
//     dependentRequired, minProperties, maxProperties
//   - allOf, anyOf, oneOf, not, if, then, else
//   - $ref within the document
//
// What it does not know never makes a value invalid: the result is Unknown where it
// could have mattered. Formats are not checked. A property that is read-only, as its own
// schema or another one of the same allOf says, is not required, as it is not a part of
// requests. A schema that is nullable takes null whatever its $ref, allOf, anyOf and oneOf
// say, as those who write that beside them mean it.
package jsonschema

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Schemas are the schemas of one document. They are compiled when they are first used.
type Schemas struct {
	root tree.Value
	old  bool // OpenAPI 3.0: nothing counts beside $ref

	mu       sync.Mutex
	compiled map[uint32]*Schema // by the value in the document
}

// New returns the schemas of a document.
func New(root tree.Value, openAPI30 bool) *Schemas {
	return &Schemas{root: root, old: openAPI30, compiled: map[uint32]*Schema{}}
}

// Schema is a schema that was compiled. It does not change.
type Schema struct {
	never   bool // the schema false
	unknown bool // it has an assertion that is not known here

	ref      *reference
	types    types
	nullable bool
	readOnly bool

	enum     []tree.Value // nil: none
	constant tree.Value

	minimum, maximum *bound
	multipleOf       float64 // 0: none

	minLength, maxLength int // -1: none
	pattern              *pattern

	items              *Schema
	prefix             []*Schema
	minItems, maxItems int
	unique             bool

	properties       map[string]*Schema
	patterns         []patternSchema
	additional       *Schema
	names            *Schema
	required         []string
	dependent        map[string][]string
	minProps, maxPro int

	allOf, anyOf, oneOf []*Schema
	not, when           *Schema
	then, otherwise     *Schema

	outputsOnce sync.Once
	outputs     map[string]struct{} // see readonly.go
	allOutputs  bool
}

type bound struct {
	value     float64
	exclusive bool
}

type patternSchema struct {
	pattern *pattern
	schema  *Schema
}

// types is a set of the types of JSON Schema; 0 is every type.
type types uint8

const (
	typeNull types = 1 << iota
	typeBoolean
	typeInteger
	typeNumber
	typeString
	typeArray
	typeObject
)

var typeNames = []struct {
	name string
	is   types
}{
	{"null", typeNull},
	{"boolean", typeBoolean},
	{"integer", typeInteger},
	{"number", typeNumber},
	{"string", typeString},
	{"array", typeArray},
	{"object", typeObject},
}

func (t types) String() string {
	var names []string
	for _, n := range typeNames {
		if t&n.is != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " or ")
}

// typesOfValue returns the types that a value is of: an integer is a number too.
func typesOfValue(v tree.Value) types {
	switch v.Kind() {
	case tree.Null:
		return typeNull
	case tree.True, tree.False:
		return typeBoolean
	case tree.Number:
		if f, err := strconv.ParseFloat(string(v.Raw()), 64); err != nil || f == math.Trunc(f) {
			return typeNumber | typeInteger
		}
		return typeNumber
	case tree.String:
		return typeString
	case tree.Array:
		return typeArray
	case tree.Object:
		return typeObject
	default:
		return 0
	}
}

// reference is a $ref, which is followed when it is first met.
type reference struct {
	schemas *Schemas
	text    string
	once    sync.Once
	to      *Schema // nil: it leads nowhere
}

func (r *reference) target() *Schema {
	r.once.Do(func() {
		pointer, local := strings.CutPrefix(r.text, "#")
		if decoded, err := url.PathUnescape(pointer); err == nil {
			pointer = decoded
		}
		steps := 1_000_000
		if v := r.schemas.root.Find(pointer, &steps); local && v.Exists() {
			r.to = r.schemas.Of(v)
		}
	})
	return r.to
}

// resolved returns the schema that references lead to.
func (s *Schema) resolved() *Schema {
	for range 16 {
		if s == nil || s.ref == nil || s.types != 0 {
			return s
		}
		to := s.ref.target()
		if to == nil {
			return s
		}
		s = to
	}
	return s
}

// Shape says which kind of values a schema is for.
type Shape uint8

// The shapes.
const (
	// Plain: no arrays, or nothing is said of that.
	Plain Shape = iota
	List
	// Mixed: arrays among other values.
	Mixed
)

// Shape returns the shape of the values, and the schema of the items of a list, nil for
// any. It looks through allOf, anyOf and oneOf; null counts as no value.
func (s *Schema) Shape() (shape Shape, items *Schema) {
	k := kinds{steps: 1000}
	set, items := k.of(s)
	switch {
	case k.steps < 0 || k.differ:
		return Mixed, nil
	case set&typeArray == 0 || set == everyType:
		return Plain, nil
	case set&^typeNull == typeArray:
		return List, items
	}
	return Mixed, nil
}

// everyType has all types.
const everyType = typeNull | typeBoolean | typeInteger | typeNumber | typeString | typeArray | typeObject

// kinds finds which types values may have.
type kinds struct {
	steps  int
	differ bool // arrays may have items of several schemas
}

// of returns the types that values may have, and the schema of the items of those that
// are arrays.
func (k *kinds) of(s *Schema) (set types, items *Schema) {
	s = s.resolved()
	if k.steps--; s == nil || k.steps < 0 {
		return everyType, nil
	}
	set, items = everyType, s.items
	if s.types != 0 {
		set = s.types
	}
	for _, other := range s.allOf {
		inner, innerItems := k.of(other)
		set &= inner
		if items == nil {
			items = innerItems
		}
	}
	for _, alternatives := range [][]*Schema{s.anyOf, s.oneOf} {
		var either types
		lists := 0
		for _, other := range alternatives {
			inner, innerItems := k.of(other)
			either |= inner
			if inner&typeArray != 0 {
				if lists++; lists > 1 && innerItems != items {
					k.differ = true
				} else if items == nil {
					items = innerItems
				}
			}
		}
		if alternatives != nil {
			set &= either
		}
	}
	return set, items
}

// IsObject reports whether values are objects.
func (s *Schema) IsObject() bool {
	s = s.resolved()
	return s != nil && (s.types&^typeNull == typeObject || s.types == 0 && s.properties != nil)
}

// TakesStrings reports whether the schema names string among its types.
func (s *Schema) TakesStrings() bool {
	s = s.resolved()
	return s != nil && s.types&typeString != 0
}
