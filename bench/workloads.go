package main

import (
	"fmt"
	"strings"
)

// Sites of the workloads.
const (
	bare      = "reverse_proxy BACKEND"
	direct    = "reverse_proxy BACKEND {\n\ttransport tentagate\n}"
	before    = "guard\ncors https://app.example.com\n"
	chain     = before + "jwt_auth SECRET\nratelimit 50000000/1m\ncircuit_breaker bench\n" + direct
	rs256     = before + "jwt_auth {\n\tpublic_key PUBLICKEY\n\talgorithms RS256\n}\nratelimit 50000000/1m\ncircuit_breaker bench\n" + direct
	strict    = before + "jwt_auth SECRET\nratelimit {\n\tlimit 50000000/1m\n\tmode strict\n}\ncircuit_breaker bench\n" + direct
	leased    = before + "jwt_auth SECRET\nratelimit {\n\tlimit 50000000/1m\n\tmode leased\n}\ncircuit_breaker bench\n" + direct
	perKey    = "ratelimit {\n\tkey {header.X-Key}\n\tlimit 50000000/1m\n\tmax_keys 2000000\n}\n" + direct
	cached    = "http_cache {\n\tttl 1h\n\tmemory 4GiB\n}\n" + direct
	inRedis   = "http_cache {\n\tttl 1h\n\tstore redis\n}\n" + direct
	noChain   = "guard\n" + direct
	hs256Name = "HS256"
)

// respond answers as a hit does: with the same fields and the same body.
func respond(path string, size int) string {
	return fmt.Sprintf("header {\n\tAge 7\n\tCache-Status `tentagate; hit; ttl=86393`\n\tCache-Control max-age=86400\n\tContent-Type application/json\n\tEtag `\"0123456789abcdef\"`\n\tX-Request-Id f7bd4b1c-6f6b-4f0e-8a54-0f3f4f0b9d57\n\tContent-Length %d\n}\nrespond %s `%s`",
		size, path, strings.Repeat("x", size))
}

// directive is the whole gateway with as many services.
func directive(services int) string {
	var b strings.Builder
	b.WriteString("tentagate bench {\n\tjwt SECRET\n\tratelimit 50000000/1m\n")
	for i := range services {
		fmt.Fprintf(&b, "\tservice s%d http://BACKEND\n", i)
	}
	return b.String() + "}"
}

// groups are what is measured. The ratios to reach are those of the project.
func groups(quick bool) []group {
	plain, token := load{path: "/x"}, load{path: "/x", token: hs256Name}
	shipped := load{path: "/api/s0/x", token: hs256Name}
	hit := load{path: "/hit"}
	all := []group{
		{name: "gateway", quick: true, what: "a GET of 1 KiB that is not stored, through the gateway", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: plain},
			{name: "reverse_proxy, transport tentagate", start: caddy(direct), load: plain, bar: 0.70},
			{name: "chain: guard, CORS, JWT HS256, limit, breaker, metrics", start: caddy(chain, metrics), load: token, bar: 0.85, below: "Traefik: limit, breaker"},
			{name: "chain with JWT RS256", start: caddy(rs256, metrics), load: load{path: "/x", token: "RS256"}, bar: 0.85, below: "Traefik: limit, breaker"},
			{name: "the tentagate directive as shipped", start: caddy(directive(1)), load: shipped, bar: 0.95},
			{name: "chain, limit in Redis, strict", start: caddy(strict, metrics, withRedis), load: token, bar: 1.00},
			{name: "chain, limit in Redis, leased", start: caddy(leased, metrics, withRedis), load: token, bar: 0.90},
			{name: "Traefik: limit, breaker", start: traefik, load: plain},
			{name: "KrakenD: limit, breaker", start: krakend, load: plain},
			{name: "HAProxy, proxy alone", start: haproxy, load: plain},
			{name: "nginx, proxy alone", start: nginxProxy, load: plain},
		}},
		{name: "hit", quick: true, what: "a stored response of 1 KiB", workloads: []workload{
			{name: "stock Caddy, respond", start: caddy(respond("/hit", 1024), stock), load: hit},
			{name: "hit in memory", start: caddy(cached), load: hit, bar: 0.88, below: "Varnish, hit"},
			{name: "hit in Redis", start: caddy(inRedis, withRedis), load: load{path: "/o/%d", paths: 256, warm: true}},
			{name: "Varnish, hit", start: varnish, load: hit},
			{name: "nginx, hit", start: nginxCache, load: hit},
		}},
		{name: "half load", half: true, what: "a GET of 1 KiB, at half of the rate that stock Caddy reaches; times from when a request was due", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: plain},
			{name: "chain", start: caddy(chain, metrics), load: token},
			{name: "the tentagate directive as shipped", start: caddy(directive(1)), load: shipped},
		}},
		{name: "hit of 100 KiB", what: "a stored response of 100 KiB", workloads: []workload{
			{name: "stock Caddy, respond", start: caddy(respond("/file/100k", 100<<10), stock), load: load{path: "/file/100k"}},
			{name: "hit in memory", start: caddy(cached), load: load{path: "/file/100k"}},
			{name: "Varnish, hit", start: varnish, load: load{path: "/file/100k"}},
			{name: "nginx, hit", start: nginxCache, load: load{path: "/file/100k"}},
		}},
		{name: "miss", what: "responses of 1 KiB that are stored, or validated each time", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: load{path: "/o/%d"}},
			{name: "miss, stored in memory", start: caddy(strings.Replace(cached, "4GiB", "256MiB", 1)), load: load{path: "/o/%d"}},
			{name: "validated (304 from the backend)", start: caddy(cached), load: load{path: "/re/%d", paths: 256, warm: true}},
		}},
		{name: "POST", what: "a POST of 1 KiB", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: load{path: "/x", body: 1 << 10}},
			{name: "chain", start: caddy(chain, metrics), load: load{path: "/x", body: 1 << 10, token: hs256Name}},
		}},
		{name: "POST of 1 MiB", what: "a POST of 1 MiB", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: load{path: "/x", body: 1 << 20, conns: 8}},
			{name: "chain", start: caddy(chain, metrics), load: load{path: "/x", body: 1 << 20, conns: 8, token: hs256Name}},
		}},
		{name: "TLS", what: "a GET of 1 KiB over HTTP/1.1 with TLS", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock, secure), load: plain},
			{name: "chain", start: caddy(chain, metrics, secure), load: token},
		}},
		{name: "HTTP/2", what: "a GET of 1 KiB over HTTP/2", workloads: []workload{
			{name: "stock Caddy, reverse_proxy alone", start: needs("h2load", caddy(bare, stock, secure)), load: load{path: "/x", http2: true}},
			{name: "chain", start: needs("h2load", caddy(chain, metrics, secure)), load: load{path: "/x", http2: true, token: hs256Name}},
		}},
	}
	all = append(all, scale(quick)...)
	if !quick {
		return all
	}
	var some []group
	for _, g := range all {
		if g.quick {
			some = append(some, g)
		}
	}
	return some
}

// scale are the groups whose cost should not depend on how much there is.
func scale(quick bool) []group {
	services := group{name: "services", what: "the directive with more services"}
	for _, n := range []int{1, 10, 100, 1000} {
		services.workloads = append(services.workloads, workload{
			name: fmt.Sprintf("%d services", n), start: caddy(directive(n)), bar: 1.2,
			load: load{path: fmt.Sprintf("/api/s%d/x", n/2), token: hs256Name},
		})
	}
	sizes := []int{1000, 100_000, 1_000_000}
	if quick {
		sizes = sizes[:2]
	}
	keys := group{name: "keys", what: "a limit with more clients"}
	objects := group{name: "objects", what: "hits among more stored responses of 1 KiB"}
	for _, n := range sizes {
		keys.workloads = append(keys.workloads, workload{
			name: fmt.Sprintf("%d clients", n), start: caddy(perKey), bar: 1.2, load: load{path: "/x", keys: n, warm: true},
		})
		objects.workloads = append(objects.workloads, workload{
			name: fmt.Sprintf("%d responses", n), start: caddy(cached), bar: 1.2, load: load{path: "/o/%d", paths: n, warm: true},
		})
	}
	return []group{services, keys, objects}
}

// needs leaves a workload out if a command is not installed.
func needs(command string, start func(*lab) (*server, error)) func(*lab) (*server, error) {
	return func(l *lab) (*server, error) {
		if !l.installed(command) {
			return nil, nil
		}
		return start(l)
	}
}
