package app

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func provision(t *testing.T, block string) (*App, context.CancelFunc) {
	t.Helper()
	a := new(App)
	if err := a.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	loaded := new(App)
	if err := json.Unmarshal(raw, loaded); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	if err := loaded.Provision(ctx); err != nil {
		cancel()
		t.Fatal(err)
	}
	return loaded, cancel
}

// patient returns a configuration with the Redis whose client waits however busy the
// machine is.
func patient(url string) string {
	return "tentagate {\n redis " + url + " {\n timeout 5s\n dial_timeout 5s\n}\n}"
}

func TestMemoryOrRedis(t *testing.T) {
	for _, tc := range []struct {
		name, config, env string
		redis             bool
	}{
		{"not configured, no environment", "", "", false},
		{"not configured, environment", "", "redis://127.0.0.1:1", true},
		{"configured without redis", `{}`, "redis://127.0.0.1:1", false},
		{"empty variable", `{"redis":{"urls":["{env.REDIS_URL}"]}}`, "", false},
		{"variable", `{"redis":{"urls":["{env.REDIS_URL}"]}}`, "redis://127.0.0.1:1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("REDIS_URL", tc.env)
			a := new(App)
			if tc.config != "" {
				if err := json.Unmarshal([]byte(tc.config), a); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			if err := a.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			defer a.Cleanup()
			if got := a.Redis() != nil; got != tc.redis {
				t.Errorf("redis: got %v", got)
			}
			if a.KeyPrefix() != "tentagate" {
				t.Errorf("prefix %q", a.KeyPrefix())
			}
		})
	}
}

func TestUnmarshalJSONIsStrict(t *testing.T) {
	if err := json.Unmarshal([]byte(`{"reddis":{}}`), new(App)); err == nil {
		t.Error("an unknown key was accepted")
	}
}

func TestResolveErrors(t *testing.T) {
	const secret = "s3cr3t-pw"
	for _, tc := range []struct{ name, block, want string }{
		{"no scheme", `redis localhost:6379`, "accepted are redis://"},
		{"port too large", `redis redis://` + secret + `@localhost:99999`, `port "99999" is not a number from 1 to 65535`},
		{"port zero", `redis rediss://` + secret + `@localhost:0`, `port "0" is not a number from 1 to 65535`},
		{"second port", `redis redis://a:1 redis://b:70000`, `address 2 of 2: port "70000" is not a number`},
		{"unknown scheme", `redis http://` + secret + `@localhost`, `unknown scheme "http"`},
		{"no host", `redis redis://`, "it has no host"},
		{"bad port", `redis redis://u:` + secret + `@localhost:port`, "cannot be read"},
		{"bad escape", `redis redis://u:` + secret + `%zz@localhost`, "percent-encoded"},
		{"mixed TLS", `redis redis://a:1 rediss://b:1`, "all redis:// or all rediss://"},
		{"second bad", `redis "redis://a:1,ftp://u:` + secret + `@b:1"`, "address 2 of 2"},
		{"socket and host", `redis unix:///s redis://b:1`, "a unix socket can only be"},
		{"cluster database", `redis redis://a:1/2 redis://b:1/2`, "only database 0"},
		{"prefix", "redis redis://a:1 {\n key_prefix \"a b\"\n}", "key_prefix"},
		{"entra without TLS", "redis redis://a:1 {\n entra\n}", "only sent over TLS"},
		{"entra with password", "redis rediss://u:" + secret + "@a:1 {\n entra\n}", "leave the password out"},
		{"tls file", "redis rediss://a:1 {\n tls {\n ca /does/not/exist\n}\n}", "tls: ca"},
		{"another variable", "redis {env.REDIS_URI}", "address: {env.REDIS_URI} is empty: set the environment variable REDIS_URI"},
		{"a part of the address", "redis redis://{env.REDIS_HOST}:6379", "{env.REDIS_HOST} is empty"},
		{"a second address", "redis {env.REDIS_URL} {env.REDIS_URI}", "is empty"},
		{"no placeholder that is known", "redis {redis_url}", "address: {redis_url} is not a placeholder that is known"},
		{"commas alone", "redis {env.COMMAS}", "address"},
		{"prefix unset", "redis redis://a:1 {\n key_prefix {env.UNSET_X}\n}", "key_prefix: {env.UNSET_X} is empty"},
		{"sentinel unset", "redis redis://a:1 {\n sentinel {env.UNSET_X}\n}", "sentinel: {env.UNSET_X} is empty"},
		{"username unset", "redis redis://a:1 {\n username {env.UNSET_X}\n}", "username: {env.UNSET_X} is empty"},
		{"password unset", "redis redis://a:1 {\n password {env.UNSET_X}\n}", "password: {env.UNSET_X} is empty"},
		{"password file", "redis redis://a:1 {\n password {file./does/not/exist}\n}", "password: {file./does/not/exist} is empty"},
		{"password with braces", "redis redis://a:1 {\n password ab{cd}ef\n}", "password: the text between its braces is not a placeholder"},
		{"braces in the password of an address", "redis redis://:ab{cd}ef@a:1", "address: the text between its braces is not a placeholder"},
		{"tls unset", "redis rediss://a:1 {\n tls {\n ca {env.UNSET_X}\n}\n}", "tls: ca: {env.UNSET_X} is empty"},
		{"tls name unset", "redis rediss://a:1 {\n tls {\n server_name {env.UNSET_X}\n}\n}", "tls: server_name: {env.UNSET_X} is empty"},
		{"entra unset", "redis rediss://a:1 {\n entra {\n client_id {env.UNSET_X}\n}\n}", "entra: client_id: {env.UNSET_X} is empty"},
		{"tls halves", "redis rediss://a:1 {\n tls {\n cert /c\n}\n}", "cert and key must be given together"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("COMMAS", " , ")
			t.Setenv("REDIS_URL", "")
			a := new(App)
			if err := a.UnmarshalCaddyfile(caddyfile.NewTestDispenser("tentagate {\n" + tc.block + "\n}")); err != nil {
				t.Fatal(err)
			}
			_, err := a.RedisConfig.resolve()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// What is found when the configuration loads names the line.
func TestErrorsNameTheLine(t *testing.T) {
	t.Setenv("REDIS_URI", "")
	a := new(App)
	if err := a.UnmarshalCaddyfile(caddyfile.NewTestDispenser("tentagate {\n\n\tredis {env.REDIS_URI}\n}")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	err := a.Provision(ctx)
	if want := "redis: address: {env.REDIS_URI} is empty: set the environment variable REDIS_URI, or remove the option, at Testfile:3"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseErrors(t *testing.T) {
	for block, want := range map[string]string{
		"tentagate x":                                             "unexpected argument",
		"tentagate {\n redis\n}":                                  "missing argument",
		"tentagate {\n redis a\n redis b\n}":                      "given more than once",
		"tentagate {\n rediss a\n}":                               `unknown option "rediss": accepted are`,
		"tentagate {\n redis a {\n what\n}\n}":                    `unknown option "what"`,
		"tentagate {\n redis a {\n cluster yes\n}\n}":             "it takes none",
		"tentagate {\n redis a {\n timeout soon\n}\n}":            "not a duration",
		"tentagate {\n redis a {\n pool_size 0\n}\n}":             "from 1 to 10000",
		"tentagate {\n redis a {\n username a\n username b\n}\n}": "username: given more than once",
		"tentagate {\n redis a {\n sentinel m\n cluster\n}\n}":    "exclude each other",
		"tentagate {\n redis a {\n tls {\n insecure\n}\n}\n}":     `unknown option "insecure"`,
		"tentagate {\n redis a {\n entra {\n client_id\n}\n}\n}":  "missing argument",
	} {
		err := new(App).UnmarshalCaddyfile(caddyfile.NewTestDispenser(block))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
}

func TestSecretsStayPlaceholders(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://user:hidden-password@127.0.0.1:1/0")
	a, cancel := provision(t, "tentagate {\n redis {env.REDIS_URL}\n}")
	defer cancel()
	defer a.Cleanup()
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "hidden") || strings.Contains(a.Redis().Key(), "hidden") {
		t.Errorf("the password shows: %s", raw)
	}
}

// A configuration that is only validated opens no connection.
func TestProvisionDoesNotDial(t *testing.T) {
	server := redistest.Start(t)
	a, cancel := provision(t, "tentagate {\n redis "+server.URL()+"\n}")
	defer cancel()
	if a.Redis().hot.PoolStats().TotalConns != 0 || a.Redis().background.PoolStats().TotalConns != 0 {
		t.Error("there are connections before the start")
	}
	if err := a.Cleanup(); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionOutlivesReload(t *testing.T) {
	server := redistest.Start(t)
	block := patient(server.URL())
	first, cancelFirst := provision(t, block)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	kept := first.Redis()
	second, cancelSecond := provision(t, block)
	defer cancelSecond()
	if second.Redis() != kept {
		t.Fatal("the same settings opened a second connection")
	}
	_ = first.Cleanup()
	_ = first.Cleanup() // a failed provision is cleaned up too, perhaps twice
	cancelFirst()
	if err := kept.Client().Ping(t.Context()).Err(); err != nil {
		t.Fatalf("after the reload: %v", err)
	}
	other, cancelOther := provision(t, "tentagate {\n redis "+server.URL()+" {\n key_prefix other\n}\n}")
	defer cancelOther()
	if other.Redis() == kept || other.KeyPrefix() != "other" {
		t.Error("changed settings kept the old connection")
	}
	_ = other.Cleanup()
	_ = second.Cleanup()
	if err := kept.Client().Ping(t.Context()).Err(); err == nil {
		t.Error("the connection is open after its last user is gone")
	}
}

func TestServerLostAndBack(t *testing.T) {
	server := redistest.Start(t)
	a, cancel := provision(t, patient(server.URL()))
	defer cancel()
	defer a.Cleanup()
	_ = a.Start()
	rd := a.Redis()
	testkit.Eventually(t, "the first heartbeat", rd.Up)
	if rd.Instances() != 1 {
		t.Errorf("alone, but %d instances", rd.Instances())
	}

	server.Kill()
	testkit.Eventually(t, "the loss", func() bool { return !rd.Up() })
	if rd.Instances() != 1 {
		t.Errorf("%d instances while redis is away, want the last known", rd.Instances())
	}
	server.Restart()
	testkit.Eventually(t, "the return", rd.Up)
	if err := rd.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("hot client after the return: %v", err)
	}

	// Another gateway announces itself, then falls silent.
	client := server.Client()
	testkit.Eventually(t, "the second instance", func() bool {
		now := time.Now().UnixMilli()
		if err := announce.Run(t.Context(), client, []string{rd.instancesKey()}, "other", now).Err(); err != nil {
			t.Fatal(err)
		}
		return rd.Instances() == 2
	})
	testkit.Eventually(t, "its end", func() bool { return rd.Instances() == 1 })
}

// A server that hangs costs the configured time, not go-redis' seconds: the
// call ends with the deadline of its context.
func TestFrozenServer(t *testing.T) {
	server := redistest.Start(t)
	a, cancel := provision(t, patient(server.URL()))
	defer cancel()
	defer a.Cleanup()
	rd := a.Redis()
	if err := rd.Client().Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	errorsBefore := testutil.ToFloat64(commandErrors)
	server.Freeze()
	defer server.Thaw()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	err := rd.Client().Ping(ctx).Err()
	var timeout net.Error
	if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &timeout) && timeout.Timeout()) {
		t.Fatalf("a frozen server: got %v, want a timeout", err)
	}
	if testutil.ToFloat64(commandErrors) != errorsBefore+1 {
		t.Error("the failure was not counted")
	}
}

func TestTopologies(t *testing.T) {
	t.Run("unix socket", func(t *testing.T) {
		server := redistest.Start(t)
		ping(t, "tentagate {\n redis unix://"+server.Socket()+"\n}")
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t)
		a := ping(t, "tentagate {\n redis "+strings.Join(cluster.URLs(), " ")+"\n}")
		if !a.Redis().Cluster() {
			t.Error("several addresses are no Cluster")
		}
		ping(t, "tentagate {\n redis "+cluster.URLs()[0]+" {\n cluster\n}\n}")
	})
	t.Run("sentinel", func(t *testing.T) {
		s := redistest.StartSentinel(t)
		a := ping(t, "tentagate {\n redis "+s.URL()+" {\n sentinel "+redistest.MasterName+"\n}\n}")
		s.Master.Kill()
		testkit.Eventually(t, "the replica as the new master", func() bool {
			return a.Redis().Client().Set(t.Context(), "tentagate:{x}:2", "2", time.Minute).Err() == nil
		})
		if got, err := s.Replica.Client().Get(t.Context(), "tentagate:{x}:2").Result(); err != nil || got != "2" {
			t.Errorf("the new master has %q, %v", got, err)
		}
	})
	t.Run("password", func(t *testing.T) {
		server := redistest.Start(t, "--requirepass", "pw")
		file := t.TempDir() + "/password"
		if err := os.WriteFile(file, []byte("pw\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ping(t, "tentagate {\n redis "+server.URL()+" {\n password {file."+file+"}\n}\n}")
	})
	t.Run("ACL user", func(t *testing.T) {
		server := redistest.Start(t, "--user", "gate", "on", ">pw", "~tentagate:*", "+@all")
		ping(t, "tentagate {\n redis "+strings.Replace(server.URL(), "://", "://gate:pw@", 1)+"\n}")
	})
}

// ping provisions the app and sends a command through both clients.
func ping(t *testing.T, block string) *App {
	t.Helper()
	a, cancel := provision(t, block)
	t.Cleanup(func() { _ = a.Cleanup(); cancel() })
	rd := a.Redis()
	testkit.Eventually(t, "the first answer", func() bool {
		return rd.Client().Set(t.Context(), "tentagate:{x}:1", "1", time.Minute).Err() == nil
	})
	if err := rd.Background().Get(t.Context(), "tentagate:{x}:1").Err(); err != nil {
		t.Errorf("background client: %v", err)
	}
	return a
}

func TestNoGoroutineIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, cancel := provision(t, "tentagate {\n redis redis://127.0.0.1:1\n}")
	_ = a.Start()
	_ = a.Cleanup()
	cancel()
}
