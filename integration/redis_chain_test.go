package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
	_ "github.com/pythopus/tentagate/jwtauth"
	_ "github.com/pythopus/tentagate/ratelimit"
	_ "github.com/pythopus/tentagate/rediscache"
)

// observer is a handler that notes how long requests have waited for Redis, all
// features together.
type observer struct{}

// observed is what the handlers note. The tests of this file do not run in
// parallel.
var observed struct {
	sync.Mutex
	redis  *app.Redis
	waited time.Duration // of the latest request
}

func init() {
	caddy.RegisterModule(observer{})
	httpcaddyfile.RegisterHandlerDirective("observe_wait", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return observer{}, nil
	})
}

func (observer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.observe_wait", New: func() caddy.Module { return new(observer) }}
}

func (observer) Provision(ctx caddy.Context) error {
	a, err := app.Get(ctx)
	if err == nil {
		observed.redis = a.Redis()
	}
	return err
}

func (observer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err := next.ServeHTTP(w, r)
	observed.Lock()
	defer observed.Unlock()
	observed.waited = app.WaitBudget(r).Waited()
	return err
}

const chainSecret = "a-secret-of-the-chain-7c3f1e9b5a2d"

// chain is a gateway with every feature that waits for Redis.
type chain struct {
	t       *testing.T
	handler http.Handler
	key     *ecdsa.PrivateKey
	token   string
	jwk     map[string]string
	n       int
}

// chainBudget is long, so that a busy machine does not make one wait look like
// two.
const chainBudget = 500 * time.Millisecond

func newChain(t *testing.T, redis string) *chain {
	t.Helper()
	config, err := servertest.Adapt(`{
	admin off
	auto_https off
	log {
		output discard
	}
	tentagate {
		redis ` + redis + ` {
			budget ` + chainBudget.String() + `
			timeout 10s
			dial_timeout 10s
			key_prefix chain` + fmt.Sprint(time.Now().UnixNano()) + `
		}
	}
}
:80 {
	route {
		observe_wait
		jwt_auth ` + chainSecret + ` {
			dpop
			deny_list
		}
		ratelimit 1000000/1s {
			key everybody
		}
		http_cache 60s
		respond ok
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t}
	if c.handler, err = servertest.LoadJSON(t, config); err != nil {
		t.Fatal(err)
	}
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	point, err := c.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := b64(point[1:33]), b64(point[33:])
	thumbprint := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	c.jwk = map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}
	claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "cnf": map[string]any{"jkt": b64(thumbprint[:])}}
	if c.token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(chainSecret)); err != nil {
		t.Fatal(err)
	}
	return c
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// get sends a request for a path that nobody asked for before, with a proof of
// its own, and returns how long it waited for Redis.
func (c *chain) get() time.Duration {
	c.t.Helper()
	c.n++
	path := fmt.Sprint("/", c.n)
	hash := sha256.Sum256([]byte(c.token))
	proof := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"jti": rand.Text(), "htm": "GET", "htu": "http://gateway.test" + path, "iat": time.Now().Unix(), "ath": b64(hash[:]),
	})
	proof.Header["typ"], proof.Header["jwk"] = "dpop+jwt", c.jwk
	text, err := proof.SignedString(c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://gateway.test"+path, nil)
	r.Header.Set("Authorization", "DPoP "+c.token)
	r.Header.Set("DPoP", text)
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.String() != "ok" {
		c.t.Errorf("%s: %d %s", path, w.Code, w.Body)
	}
	observed.Lock()
	defer observed.Unlock()
	return observed.waited
}

// lost sends requests until none waits, and checks what they wait until then. silent says
// that Redis answers nothing; back reports whether it answers again.
func (c *chain) lost(want availability.State, silent bool, back func() bool) {
	c.t.Helper()
	engine := observed.redis.Availability()
	var waits []time.Duration
	for n := 0; ; n++ {
		waited := c.get()
		if waited >= chainBudget {
			waits = append(waits, waited)
		}
		if states(engine)[want] > 0 && (waited == 0 || want == availability.ReadOnly) {
			break
		}
		if n > 1000 {
			c.t.Fatalf("%v instead of %v", states(engine), want)
		}
	}
	// Three failures in a row are enough.
	if len(waits) > 6 {
		c.t.Errorf("%d requests waited in vain", len(waits))
	}
	if silent {
		checkWaits(c.t, waits)
	}
	if want != availability.Unavailable {
		return
	}
	for range 10 {
		if c.get() != 0 && !back() {
			c.t.Error("a request waits for a server that is down")
		}
	}
}

// checkWaits checks how long requests waited for a Redis that answers nothing. A busy
// machine may wake some of them late, but not half of them.
func checkWaits(t *testing.T, waits []time.Duration) {
	t.Helper()
	slices.Sort(waits)
	if len(waits) == 0 {
		t.Error("no request waited: this tests nothing")
	} else if median := waits[(len(waits)-1)/2]; median >= 2*chainBudget {
		t.Errorf("requests waited for %v: more than one feature's limit", waits)
	}
}

// back waits until all of Redis is used again, by every feature.
func (c *chain) back() {
	c.t.Helper()
	if c.t.Failed() {
		c.t.FailNow()
	}
	deadline := time.Now().Add(time.Minute)
	for c.get() == 0 || !observed.redis.Up() {
		if time.Now().After(deadline) {
			c.t.Fatalf("not back: %+v", observed.redis.Availability().Status())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func states(e *availability.Engine) map[availability.State]int {
	m := map[availability.State]int{}
	for _, s := range e.Status() {
		m[s.State]++
	}
	return m
}

// Whatever is wrong with Redis, every request through all features is answered
// and waits for one budget at most; soon none waits; and Redis is used again when
// it is back.
func TestChainDuringFaults(t *testing.T) {
	server := redistest.Start(t, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
	admin := server.Client()
	c := newChain(t, server.URL())
	c.back()
	for _, fault := range []struct {
		name       string
		take, give func()
		state      availability.State
		silent     bool
	}{
		{"frozen", server.Freeze, server.Thaw, availability.Unavailable, true},
		{"killed", server.Kill, server.Restart, availability.Unavailable, false},
		{"read-only", func() { admin.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1") }, func() { admin.Do(t.Context(), "REPLICAOF", "NO", "ONE") }, availability.ReadOnly, false},
		{"out of memory", func() { admin.ConfigSet(t.Context(), "maxmemory", "1") }, func() { admin.ConfigSet(t.Context(), "maxmemory", "0") }, availability.ReadOnly, false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			c.t = t
			fault.take()
			c.lost(fault.state, fault.silent, func() bool { return false })
			fault.give()
			c.back()
		})
	}
	t.Run("loading", func(t *testing.T) {
		c.t = t
		for i := range 200 {
			admin.Set(t.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 2000), 0)
		}
		admin.Save(t.Context())
		server.Kill()
		restarted := make(chan struct{})
		go func() {
			defer close(restarted)
			server.Restart()
		}()
		c.lost(availability.Unavailable, false, func() bool { return admin.Ping(t.Context()).Err() == nil })
		<-restarted
		c.back()
	})
}

// A Cluster that has lost a node goes on with the others.
func TestChainWithoutAClusterNode(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for _, s := range cluster.Servers {
		if err := s.Client().ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	c := newChain(t, strings.Join(cluster.URLs(), " "))
	engine := observed.redis.Availability()
	for n := 0; len(engine.Status()) != 3 || !engine.Up(); n++ {
		if c.get(); n > 1000 {
			t.Fatalf("%+v", engine.Status())
		}
	}
	cluster.Servers[2].Freeze()
	var waits []time.Duration
	for n := 0; states(engine)[availability.Unavailable] == 0; n++ {
		if waited := c.get(); waited >= chainBudget {
			waits = append(waits, waited)
		}
		if n > 1000 {
			t.Fatalf("%+v", engine.Status())
		}
	}
	checkWaits(t, waits)
	// Another node may have been too slow for a moment.
	testkit.Eventually(t, "the other nodes in use", func() bool {
		used := 0
		for range 30 {
			if c.get() > 0 {
				used++
			}
		}
		s := states(engine)
		t.Logf("states %v, up %v, usable %v, %d of 30 requests used Redis", s, engine.Up(), engine.Usable(), used)
		return s[availability.Unavailable] == 1 && s[availability.Available] == 2 && !engine.Up() && engine.Usable() && used > 0
	})
	cluster.Servers[2].Thaw()
	c.back()
}
