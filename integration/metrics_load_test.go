package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// loadedGateway is a gateway with every feature that has metrics.
const loadedGateway = `{
	admin $ADMIN
	skip_install_trust
	auto_https disable_redirects
	storage tentagate {
		key {env.CERTIFICATE_KEY}
	}
	metrics {
		otlp
	}
	servers {
		trusted_proxies static private_ranges
	}
	tentagate {
		redis $REDIS {
			budget 10s
			timeout 10s
			dial_timeout 10s
		}
	}
}
http://$ADDR {
	tentagate {
		service users $BACKEND
		service dead $DEAD
		service watched $BACKEND
		jwt {
			deny_list
		}
		ratelimit 40/1h
		circuit_breaker {
			consecutive 2
			max_inflight 100
		}
		cors https://app.example.com
		metrics any
	}
}
http://other.test:$PORT {
	route {
		telemetry other
		guard
		api_docs {
			service users $BACKEND
			validate observe
		}
		jwt_auth {
			provider remote {
				jwks $BACKEND/jwks
				issuer https://issuer.example.com
				audience api
			}
			dpop
		}
		reverse_proxy {
			dynamic tentagate localhost:$BACKENDPORT {
				versions ipv4
			}
		}
	}
}
https://secure.test:$SECURE {
	tls internal
	respond secure
}
`

// loadBackend is a service, an OpenAPI document and a key set.
func loadBackend(t testing.TB, public *ecdsa.PublicKey) *httptest.Server {
	t.Helper()
	point, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/openapi.json":
			_, _ = io.WriteString(w, `{"openapi":"3.1.0","info":{"title":"users","version":"1"},"paths":{"/items":{"get":{"responses":{"200":{"description":"all"}}}}}}`)
		case "/jwks":
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
				"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": b64(point[1:33]), "y": b64(point[33:]),
			}}})
		case "/private":
			w.Header().Set("Cache-Control", "no-store")
		default:
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// load runs the gateway and sends requests that lead to every kind of decision.
func load(t testing.TB, to *otlpReceiver) *gateway {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	backend := loadBackend(t, &key.PublicKey)
	redis := redistest.Start(t)
	g := start(t, strings.NewReplacer(
		"$REDIS", redis.URL(), "$BACKENDPORT", backend.URL[strings.LastIndex(backend.URL, ":")+1:], "$BACKEND", backend.URL,
		"$DEAD", "http://"+freeport.Addr(t), "$SECURE", fmt.Sprint(freeport.Get(t)),
	).Replace(loadedGateway), append(to.environment(), "JWT_SECRET_KEY="+secret, "CERTIFICATE_KEY="+certificateKey)...)

	bearer := "Bearer " + token(t, "ann")
	answers := map[int]int{}
	send := func(method, path, body string, headers ...string) {
		answers[g.send(method, path, body, headers...).status]++
	}
	for range 3 {
		send(http.MethodGet, "/api/users/items", "", "Authorization", bearer, "Origin", "https://app.example.com")
		send(http.MethodGet, "/api/dead/items", "", "Authorization", bearer)
	}
	send(http.MethodGet, "/api/users/private", "", "Authorization", bearer)
	send(http.MethodPost, "/api/users/items", `{"name":"new"}`, "Authorization", bearer)
	send(http.MethodGet, "/api/users/items", "")
	send(http.MethodGet, "/api/users/items", "", "Authorization", bearer+"x")
	send(http.MethodGet, "/api/nobody/items", "", "Authorization", bearer)
	send(http.MethodGet, "/api/users/..%2fitems", "")
	send(http.MethodOptions, "/api/users/items", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "PUT")
	send(http.MethodGet, "/elsewhere", "")
	for range 40 {
		send(http.MethodGet, "/api/users/items", "", "Authorization", bearer)
	}
	claims := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"sub": "bob", "iss": "https://issuer.example.com", "aud": "api", "exp": time.Now().Add(time.Hour).Unix(),
	})
	claims.Header["kid"] = "1"
	signed, err := claims.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	send(http.MethodGet, "/items", "", "Host", "other.test", "Authorization", "Bearer "+signed)
	if code, out := cli(t, nil, "purge", "--address", g.admin, "--all"); code != 0 {
		t.Fatalf("purge: %s", out)
	}
	for status, what := range map[int]string{200: "answered", 204: "a preflight", 400: "malformed", 401: "without a valid token", 404: "unknown", 429: "over the limit", 502: "a dead service", 503: "an open circuit"} {
		if answers[status] == 0 {
			t.Errorf("no request was %d, %s: %v", status, what, answers)
		}
	}
	testkit.Eventually(t, "the description of the service is fetched, a certificate is there, and something is in Redis", func() bool {
		text := g.adminGet("/metrics")
		return strings.Contains(text, "tentagate_api_docs_last_success_timestamp_seconds{") && strings.Contains(text, "tentagate_certificate_not_after_timestamp_seconds{") &&
			!strings.Contains(text, "tentagate_http_cache_redis_writes_total 0")
	})
	return g
}

// scrape is what a gateway exports after the load, by /metrics and by OTLP: once for all
// tests.
var scrape struct {
	sync.Once
	text     string
	families map[string]*dto.MetricFamily
	pushed   map[string]*metrics.Metric
}

func takeScrape(t *testing.T) {
	t.Helper()
	scrape.Do(func() {
		to := newOTLPReceiver(t)
		g := load(t, to)
		scrape.text = g.adminGet("/metrics")
		scrape.families = families(t, scrape.text)
		pushes, _ := to.latest()
		testkit.Eventually(t, "a push that began after the scrape", func() bool {
			n, pushed := to.latest()
			scrape.pushed = pushed
			return n > pushes+1
		})
	})
	if len(scrape.families) == 0 || len(scrape.pushed) == 0 {
		t.Fatal("there is no scrape")
	}
}

// scraped returns the series of a gateway after a load, by name.
func scraped(t *testing.T) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	takeScrape(t)
	return scrape.families, scrape.text
}

// families parses the text format.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(fmt.Errorf("the scrape: %w", err))
	}
	return found
}
