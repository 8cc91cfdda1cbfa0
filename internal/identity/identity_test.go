package identity

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
}

func TestFrom(t *testing.T) {
	r := request()
	if id, ok := From(r); ok {
		t.Errorf("anonymous: got %+v", id)
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("http.auth.user.id", "bob")
	if id, ok := From(r); !ok || id.Subject != "bob" || id.Provider != "" {
		t.Errorf("other handler: got %+v, %v", id, ok)
	}
	Set(r, &Identity{Provider: "main", Subject: "ann"})
	if id, ok := From(r); !ok || id.Subject != "ann" || id.Provider != "main" {
		t.Errorf("jwt: got %+v, %v", id, ok)
	}
}

func TestPartitionsAreDistinct(t *testing.T) {
	ids := []Identity{
		{Provider: "a", Subject: "bc"},
		{Provider: "ab", Subject: "c"},
		{Provider: "", Subject: "abc"},
		{Provider: "1:a", Subject: "bc"},
		{Provider: "a", Token: [16]byte{1}},
		{Provider: "a", Token: [16]byte{2}},
		{Provider: "a", Subject: "01000000000000000000000000000000"},
	}
	seen := map[string]int{}
	for i := range ids {
		p := ids[i].Partition()
		if j, dup := seen[p]; dup {
			t.Errorf("%+v and %+v share %q", ids[i], ids[j], p)
		}
		seen[p] = i
	}
	same := Identity{Provider: "a", Subject: "bc", Token: [16]byte{9}}
	if same.Partition() != ids[0].Partition() {
		t.Error("two tokens of one subject have two partitions")
	}
}
