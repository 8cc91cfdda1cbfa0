package integration

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Options with secrets are marked, so that they are masked by their type.
func TestSecretOptionsAreMarked(t *testing.T) {
	const ours = "github.com/pythopus/tentagate/"
	name := regexp.MustCompile(`secret|passw|^keys?$|token|salt`)
	// These have names of headers, parameters and files, or parts of requests.
	open := []string{"Handler.Key", "Provider.TokenFile", "RedisTLS.Key", "Tier.Key"}
	var found []string
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(typ reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map}, typ.Kind()) {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] || !strings.HasPrefix(typ.PkgPath()+"/", ours) {
			return
		}
		seen[typ] = true
		for field := range typ.Fields() {
			if !field.IsExported() {
				continue
			}
			member, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			text := field.Type.Kind() == reflect.String || field.Type == reflect.TypeFor[[]string]()
			marked := field.Tag.Get("secret") != ""
			switch full := typ.Name() + "." + field.Name; {
			case marked:
				found = append(found, full)
			case text && name.MatchString(member) && !slices.Contains(open, full):
				t.Errorf("%s.%s: mark it with `secret:\"true\"`, or name it as open here", typ.PkgPath(), full)
			}
			walk(field.Type)
		}
	}
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		walk(reflect.TypeOf(info.New()))
	}
	slices.Sort(found)
	if want := []string{"DPoP.NonceSecrets", "Provider.Secrets", "RedisConfig.Password", "Storage.Keys"}; !slices.Equal(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
}
