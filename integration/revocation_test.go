package integration

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// revocations is a gateway that refuses what was revoked.
const revocations = `{
	admin $ADMIN
	tentagate {
		redis {env.REDIS_URL}
	}
}
http://$ADDR {
	jwt_auth {env.JWT_SECRET_KEY} {
		deny_list {
			on_store_error deny
		}
	}
	respond ok
}
`

var hscanCalls = regexp.MustCompile(`cmdstat_hscan:calls=(\d+)`)

// fullReads is how often gateways have read all revocations from the server.
func fullReads(t *testing.T, rs *redistest.Server) int {
	t.Helper()
	info, err := rs.Client().Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	m := hscanCalls.FindStringSubmatch(info)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// Two gateways of the built binary on one Redis: what the command revokes at
// one is refused by the other, which follows the log of changes. That everything is
// also read anew now and then does not count.
func TestRevokedAtOneGatewayRefusedByTheOther(t *testing.T) {
	rs := redistest.Start(t)
	env := []string{"JWT_SECRET_KEY=" + secret, "REDIS_URL=" + rs.URL()}
	one, two := start(t, revocations, env...), start(t, revocations, env...)
	for _, g := range []*gateway{one, two} {
		testkit.Eventually(t, "reading the list", func() bool {
			return g.get("/", "Authorization", "Bearer "+token(t, "nobody")).status == 200
		})
	}
	pushed := 0
	for i := 0; pushed < 3; i++ {
		if i == 6 {
			t.Fatal("revocations come only when everything is read anew")
		}
		subject := fmt.Sprint("ann-", i)
		bearer := "Bearer " + token(t, subject)
		if a := two.get("/", "Authorization", bearer); a.status != 200 {
			t.Fatalf("before: %d %s", a.status, a.body)
		}
		read := fullReads(t, rs)
		began := time.Now()
		if code, out := cli(t, nil, "revoke", "--sub", subject, "--address", one.admin); code != 0 || !strings.Contains(out, "revoked") {
			t.Fatalf("revoke: %d %s", code, out)
		}
		revoked := time.Now()
		if a := one.get("/", "Authorization", bearer); a.status != 401 {
			t.Fatalf("where it was revoked: %d %s", a.status, a.body)
		}
		testkit.Eventually(t, "the refusal by the other gateway", func() bool {
			return two.get("/", "Authorization", bearer).status == 401
		})
		if n := fullReads(t, rs) - read; n != 0 {
			t.Logf("everything was read %d times meanwhile: once more", n)
			continue
		}
		pushed++
		t.Logf("refused by the other %s after the command ended, %s after it began", time.Since(revoked), time.Since(began))
	}
	if a := two.get("/", "Authorization", "Bearer "+token(t, "nobody")); a.status != 200 {
		t.Errorf("another subject: %d %s", a.status, a.body)
	}
	if code, out := cli(t, nil, "revoke", "--sub", "ann-0", "--undo", "--address", two.admin); code != 0 || !strings.Contains(out, "no longer revoked on all gateways") {
		t.Fatalf("undo: %d %s", code, out)
	}
	testkit.Eventually(t, "the other way round, taken back", func() bool {
		return one.get("/", "Authorization", "Bearer "+token(t, "ann-0")).status == 200
	})
}

// Redis that hangs, that cannot be reached, and that is gone with its data: a gateway with on_store_error deny
// answers 503 to good tokens once its list is old, and to nothing else; one that
// is told to allow goes on. What is revoked meanwhile holds where it was, the
// command says that the others do not know yet, and they do when Redis is back.
func TestRevocationsWhileRedisIsUnreachable(t *testing.T) {
	rs := redistest.Start(t)
	proxy := redistest.NewProxy(t, rs.Addr())
	env := []string{"JWT_SECRET_KEY=" + secret, "REDIS_URL=" + proxy.URL()}
	deny, allow := start(t, revocations, env...), start(t, strings.Replace(revocations, "deny\n", "allow\n", 1), env...)
	ask := func(g *gateway, subject string) answer {
		t.Helper()
		return g.get("/", "Authorization", "Bearer "+token(t, subject))
	}
	is := func(what string, g *gateway, subject string, want int) {
		t.Helper()
		if a := ask(g, subject); a.status != want {
			t.Errorf("%s: %d, want %d: %s", what, a.status, want, a.body)
		}
	}
	becomes := func(what string, g *gateway, subject string, want int) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return ask(g, subject).status == want })
	}
	becomes("reading the list", deny, "good", 200)
	if code, out := cli(t, nil, "revoke", "--sub", "known", "--address", deny.admin); code != 0 {
		t.Fatalf("revoke: %d %s", code, out)
	}
	becomes("known to the other", allow, "known", 401)

	for name, outage := range map[string]struct{ begin, end func() }{
		"frozen": {rs.Freeze, rs.Thaw},
		"killed": {rs.Kill, rs.Restart},
		"cut off": {
			func() { proxy.Direct("127.0.0.1:1"); proxy.Cut() },
			func() { proxy.Direct(rs.Addr()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			meanwhile := "meanwhile " + name
			outage.begin()
			began := time.Now()
			// On a busy machine the list may be old before it is asked.
			if a := ask(deny, "good"); a.status != 200 && time.Since(began) < 2*time.Second {
				t.Errorf("at once, deny: %d %s", a.status, a.body)
			}
			is("at once, allow", allow, "good", 200)
			testkit.Eventually(t, "revoking meanwhile", func() bool {
				code, out := cli(t, nil, "revoke", "--sub", meanwhile, "--address", allow.admin)
				if code == 0 && !strings.Contains(out, "follow when Redis is available") || code != 0 && !strings.Contains(out, "revoke again") {
					t.Fatalf("it does not say that the others do not know: %d %s", code, out)
				}
				return code == 0
			})
			is("where it was revoked", allow, meanwhile, 401)
			if code, out := cli(t, nil, "revoke", "--sub", "known", "--undo", "--address", allow.admin); code == 0 || !strings.Contains(out, "nothing is restored") {
				t.Errorf("undo: %d %s", code, out)
			}
			is("not taken back", allow, "known", 401)

			testkit.Eventually(t, "an old list", func() bool {
				a := ask(deny, "good")
				if a.status != 200 && a.status != 503 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return a.status == 503
			})
			a := ask(deny, "good")
			if a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %v %s", a.status, a.header, a.body)
			}
			for what, bearer := range map[string]string{"no token": "", "a bad token": "Bearer x.y.z", "another key": "Bearer " + token(t, "good") + "AA"} {
				if a := deny.get("/", "Authorization", bearer); a.status != 401 {
					t.Errorf("%s: %d", what, a.status)
				}
			}
			// Would one wait for Redis, these would not end.
			for range 300 {
				is("an old list, allow", allow, "good", 200)
				is("an old list, deny", deny, "good", 503)
				is("an old list, known", allow, "known", 401)
			}

			outage.end()
			becomes("back", deny, "good", 200)
			becomes("up to date with what was revoked meanwhile", deny, meanwhile, 401)
			for _, g := range []*gateway{deny, allow} {
				is("after the outage", g, "known", 401)
				is("after the outage", g, meanwhile, 401)
				is("after the outage", g, "good", 200)
			}
		})
	}
}
