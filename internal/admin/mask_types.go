package admin

import (
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// secretTag marks the fields of configurations that hold secrets: `secret:"true"`.
const secretTag = "secret"

// secretFields are the members with secrets of types that are not ours, by type.
var secretFields = map[string][]string{
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth.Account": {"password"},
	"github.com/caddyserver/caddy/v2/modules/caddytls.ACMEIssuer":         {"account_key", "external_account"},
	"github.com/caddyserver/caddy/v2/modules/caddytls.ZeroSSLIssuer":      {"api_key"},
}

// secretNamespaces are those of modules all of whose texts may be secrets: each provider
// of DNS has names of its own for its credentials.
var secretNamespaces = []string{"dns.providers"}

// maskKnown masks the fields of a configuration that are known to hold secrets, by the
// types of the modules that it is for.
func maskKnown(config any) any { return maskTyped(reflect.TypeFor[caddy.Config](), config) }

// maskTyped is maskKnown for a value of a type.
func maskTyped(t reflect.Type, value any) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := value.(type) {
	case map[string]any:
		switch t.Kind() {
		case reflect.Struct:
			maskFields(t, v)
		case reflect.Map:
			for name, inner := range v {
				v[name] = maskTyped(t.Elem(), inner)
			}
		}
	case []any:
		if k := t.Kind(); k == reflect.Slice || k == reflect.Array {
			for i, inner := range v {
				v[i] = maskTyped(t.Elem(), inner)
			}
		}
	}
	return value
}

// maskFields masks the members of a struct.
func maskFields(t reflect.Type, object map[string]any) {
	known := secretFields[t.PkgPath()+"."+t.Name()]
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" {
			maskTyped(field.Type, object)
			continue
		}
		inner, ok := object[name]
		switch namespace, inlineKey, modules := moduleTag(field.Tag); {
		case !ok:
		case field.Tag.Get(secretTag) != "" || slices.Contains(known, name):
			object[name] = maskTexts(inner, "")
		case modules:
			object[name] = maskModules(namespace, inlineKey, inner)
		default:
			object[name] = maskTyped(field.Type, inner)
		}
	}
}

// moduleTag reads the tag by which Caddy finds the modules of a field.
func moduleTag(tag reflect.StructTag) (namespace, inlineKey string, ok bool) {
	for part := range strings.FieldsSeq(tag.Get("caddy")) {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "namespace":
			namespace, ok = value, true
		case "inline_key":
			inlineKey = value
		}
	}
	return namespace, inlineKey, ok
}

// maskModules masks one or several modules of a namespace: their name is the member
// inlineKey of each, or without such a key what each is found by.
func maskModules(namespace, inlineKey string, value any) any {
	switch v := value.(type) {
	case []any:
		for i, inner := range v {
			v[i] = maskModules(namespace, inlineKey, inner)
		}
	case map[string]any:
		if name, ok := v[inlineKey].(string); ok && inlineKey != "" {
			return maskModule(namespace, name, inlineKey, v)
		}
		for name, inner := range v {
			if inlineKey == "" {
				v[name] = maskModule(namespace, name, "", inner)
			} else {
				v[name] = maskModules(namespace, inlineKey, inner)
			}
		}
	}
	return value
}

// maskModule masks a module.
func maskModule(namespace, name, inlineKey string, value any) any {
	if slices.Contains(secretNamespaces, namespace) {
		return maskTexts(value, inlineKey)
	}
	info, err := caddy.GetModule(strings.TrimPrefix(namespace+"."+name, "."))
	if err != nil {
		return value
	}
	return maskTyped(reflect.TypeOf(info.New()), value)
}

// maskTexts masks all texts of a value but the member of a name and placeholders.
func maskTexts(value any, but string) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			if name != but || but == "" {
				v[name] = maskTexts(inner, "")
			}
		}
	case []any:
		for i, inner := range v {
			v[i] = maskTexts(inner, "")
		}
	case string:
		if v != "" && !onlyPlaceholders.MatchString(v) {
			return mask
		}
	}
	return value
}
