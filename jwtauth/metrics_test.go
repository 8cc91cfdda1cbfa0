package jwtauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pythopus/tentagate/internal/metrics"
)

// value returns the only value of a series of the collector, and false if it
// has none.
func value(t *testing.T, c prometheus.Collector, name string) (float64, bool) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

func TestEvictionsAreCounted(t *testing.T) {
	evictions := func() float64 {
		n, ok := value(t, metrics.Collector(collectCaches, cacheEntriesDesc, cacheBytesDesc, cacheEvictionsDesc), "tentagate_jwt_token_cache_evictions_total")
		if !ok {
			t.Fatal("no series")
		}
		return n
	}
	before := evictions()
	h := must(t, "jwt_auth "+secret+" {\n token_cache 1MiB 32\n}")
	for i := range 200 {
		send(t, h, mint(t, secret, jwt.MapClaims{"jti": fmt.Sprint(i)}))
	}
	after := evictions()
	if after-before < 200-32 || after-before > 200 {
		t.Errorf("%v evictions", after-before)
	}
	if err := h.cacheRef.Release(); err != nil {
		t.Fatal(err)
	}
	if n := evictions(); n != after {
		t.Errorf("%v evictions after the cache has gone, %v before", n, after)
	}
}

// No series comes from what clients send, whatever it is.
func TestLabelsAreBounded(t *testing.T) {
	h := must(t, "jwt_auth {\n provider a {\n secret "+secret+"\n issuer https://a.test\n}\n provider b {\n secret "+other+"\n issuer https://b.test\n}\n}")
	hostile := func(i int) []string {
		s := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
		unique := fmt.Sprint("unique-", i)
		return []string{
			unique, "", "a.b.c",
			s.sign(t, s.header(), fmt.Sprintf(`{"iss":%q,"sub":%q,"exp":9999999999}`, unique, unique)),
			s.sign(t, s.header(), fmt.Sprintf(`{"iss":"https://a.test","sub":%q,"exp":9999999999}`, unique)),
			s.sign(t, fmt.Sprintf(`{"alg":%q,"kid":%q}`, unique, unique), `{"iss":"https://a.test"}`),
			s.sign(t, fmt.Sprintf(`{"alg":"HS256","kid":%q,"typ":%q}`, unique, unique), `{"iss":"https://a.test","exp":9999999999}`),
			s.sign(t, s.header(), fmt.Sprintf(`{"iss":"https://b.test","exp":9999999999,"jti":%q}`, unique)),
			s.sign(t, s.header(), fmt.Sprintf(`{"iss":"https://a.test","exp":%q}`, unique)),
		}
	}
	all := func() (n int) {
		for _, c := range []prometheus.Collector{verifications, refreshes, cacheRequests, metrics.Collector(collectCaches, cacheEntriesDesc, cacheBytesDesc, cacheEvictionsDesc)} {
			n += testutil.CollectAndCount(c)
		}
		return n
	}
	var known int
	for i := range 50 {
		for _, text := range hostile(i) {
			send(t, h, text)
		}
		if i == 0 {
			known = all()
		}
	}
	if n := all(); n != known {
		t.Errorf("%d series became %d", known, n)
	}
}

// A key set that was never fetched has no age.
func TestAgeOfUnfetchedKeys(t *testing.T) {
	var well atomic.Bool
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	}))
	defer issuer.Close()
	ages := func() int { return testutil.CollectAndCount(metrics.Collector(collectAges, ageDesc)) }
	before := ages()
	h := must(t, "jwt_auth {\n jwks "+issuer.URL+"\n}")
	text := strings.Join([]string{b64([]byte(`{"alg":"EdDSA"}`)), b64([]byte(`{}`)), b64(make([]byte, 64))}, ".")
	if got := send(t, h, text); got != 503 || ages() != before {
		t.Errorf("%d, %d ages more", got, ages()-before)
	}
	well.Store(true)
	h = must(t, "jwt_auth {\n jwks "+issuer.URL+"/again\n}")
	if got := send(t, h, text); got != 401 || ages() != before+1 {
		t.Errorf("%d, %d ages more", got, ages()-before)
	}
}
