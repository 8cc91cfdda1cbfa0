package site

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// canonical writes configuration that was loaded as a text that is equal for
// equal configuration. Caddy forgets the JSON of modules once they are loaded,
// so it is read from their fields: those with a name in JSON, and modules.
type canonical struct {
	b     []byte
	depth int
}

func canonicalText(v any) string {
	c := &canonical{}
	c.value(reflect.ValueOf(v))
	return string(c.b)
}

func (c *canonical) text(s string) { c.b = strconv.AppendQuote(c.b, s) }

func (c *canonical) value(v reflect.Value) {
	if c.depth++; c.depth > 64 {
		c.depth--
		c.b = append(c.b, "..."...)
		return
	}
	defer func() { c.depth-- }()
	if !v.IsValid() {
		c.b = append(c.b, "null"...)
		return
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			c.b = append(c.b, "null"...)
			return
		}
		if module, ok := reflect.TypeAssert[caddy.Module](v); ok && v.Kind() == reflect.Interface {
			c.text(moduleID(module))
		}
		if v.Kind() == reflect.Pointer && v.Elem().Kind() != reflect.Struct && c.marshalled(v) {
			return
		}
		c.value(v.Elem())
		return
	case reflect.Struct:
		c.structure(v)
		return
	}
	if c.marshalled(v) {
		return
	}
	switch v.Kind() {
	case reflect.String:
		c.text(v.String())
	case reflect.Bool:
		c.b = strconv.AppendBool(c.b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		c.b = strconv.AppendInt(c.b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		c.b = strconv.AppendUint(c.b, v.Uint(), 10)
	case reflect.Float32, reflect.Float64:
		c.b = strconv.AppendFloat(c.b, v.Float(), 'g', -1, 64)
	case reflect.Slice, reflect.Array:
		c.b = append(c.b, '[')
		if v.Type() == matcherSetType {
			// They were members of a JSON object, and are in no order.
			texts := make([]string, v.Len())
			for i := range v.Len() {
				one := &canonical{depth: c.depth}
				one.value(v.Index(i))
				texts[i] = string(one.b)
			}
			slices.Sort(texts)
			c.b = append(append(c.b, strings.Join(texts, ",")...), ']')
			return
		}
		for i := range v.Len() {
			c.value(v.Index(i))
			c.b = append(c.b, ',')
		}
		c.b = append(c.b, ']')
	case reflect.Map:
		c.b = append(c.b, '{')
		for _, key := range sortedKeys(v) {
			c.text(keyText(key))
			c.b = append(c.b, ':')
			c.value(v.MapIndex(key))
			c.b = append(c.b, ',')
		}
		c.b = append(c.b, '}')
	default: // functions and channels are no configuration
		c.b = append(c.b, '-')
	}
}

func (c *canonical) structure(v reflect.Value) {
	c.b = append(c.b, '{')
	done := c.marshalled(v)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value := v.Field(i)
		switch {
		case !field.IsExported() || value.IsZero():
			continue
		case field.Anonymous && name == "": // its fields are the structure's own
		case name == "position" && value.Kind() == reflect.String:
			continue // where in a file a directive stands
		case v.Type() == routeType && field.Name == "Group":
			continue // the adapter numbers them throughout a file
		case (name == "-" || name == "" || done) && !hasModules(value):
			continue
		}
		c.text(field.Name)
		c.b = append(c.b, ':')
		c.value(value)
		c.b = append(c.b, ',')
	}
	c.b = append(c.b, '}')
}

// marshalled writes a value as it writes itself.
func (c *canonical) marshalled(v reflect.Value) (ok bool) {
	if !v.CanInterface() {
		return false
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	for _, candidate := range []reflect.Value{v, addressable(v)} {
		if !candidate.IsValid() {
			continue
		}
		switch m := candidate.Interface().(type) {
		case json.Marshaler:
			// It sorts the keys of maps, and writes the result compactly.
			if text, err := json.Marshal(m); err == nil {
				c.b = append(c.b, text...)
				return true
			}
		case encoding.TextMarshaler:
			if text, err := m.MarshalText(); err == nil {
				c.text(string(text))
				return true
			}
		}
	}
	return false
}

func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	return reflect.Value{}
}

var (
	matcherSetsType = reflect.TypeFor[caddyhttp.MatcherSets]()
	matcherSetType  = reflect.TypeFor[caddyhttp.MatcherSet]()
	moduleType      = reflect.TypeFor[caddy.Module]()
)

// hasModules reports whether a value is modules, or has them in it.
func hasModules(v reflect.Value) bool {
	switch t := v.Type(); {
	case t == routeListType, t == routeType, t == handlersType, t == matcherSetsType, t == matcherSetType, t.Implements(moduleType):
		return true
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return !v.IsNil() && (v.Elem().Type().Implements(moduleType) || reflect.PointerTo(v.Elem().Type()).Implements(moduleType))
	case reflect.Slice, reflect.Array:
		return v.Len() > 0 && hasModules(v.Index(0))
	case reflect.Map:
		for _, key := range v.MapKeys() {
			return hasModules(v.MapIndex(key))
		}
	}
	return false
}

// moduleID returns the ID of a module, or its type if it has none.
func moduleID(m any) (id string) {
	defer func() {
		if recover() != nil {
			id = fmt.Sprintf("%T", m)
		}
	}()
	if module, ok := m.(caddy.Module); ok {
		return string(module.CaddyModule().ID)
	}
	return fmt.Sprintf("%T", m)
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(keyText(a), keyText(b)) })
	return keys
}

func keyText(key reflect.Value) string {
	if key.Kind() == reflect.String {
		return key.String()
	}
	return fmt.Sprint(key)
}

func pointer(h caddyhttp.MiddlewareHandler) bool { return reflect.ValueOf(h).Kind() == reflect.Pointer }
