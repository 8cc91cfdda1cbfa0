package redis

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// oddServer speaks Redis' protocol and gives one answer to every script.
type oddServer struct {
	listener net.Listener
	answer   string
	mu       sync.Mutex
	conns    []net.Conn
	done     sync.WaitGroup
}

func startOddServer(t *testing.T, answer string) *oddServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &oddServer{listener: l, answer: answer}
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.done.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *oddServer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		switch strings.ToLower(command[0]) {
		case "hello":
			answer = "-ERR unknown command\r\n" // an old server
		case "eval", "evalsha":
			answer = s.answer
		}
		if answer == "" {
			return // it hangs up
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) (args []string, err error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, fmt.Errorf("%q", line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	for range n {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args = append(args, string(b[:size]))
	}
	return args, nil
}

// Whatever a server answers instead of decisions, it is an outage: limits hold
// by the policy of the zone, and after a few answers Redis is not asked any more.
func TestOddAnswers(t *testing.T) {
	for _, answer := range []string{
		"-NOPERM this user has no permissions to run the 'evalsha' command\r\n",
		"-NOAUTH Authentication required.\r\n",
		"-READONLY You can't write against a read only replica.\r\n",
		"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
		"-LOADING Redis is loading the dataset in memory\r\n",
		"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
		"-MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.\r\n",
		"-CLUSTERDOWN Hash slot not served\r\n",
		"-MOVED 3999 127.0.0.1:1\r\n",
		"-ASK 3999 127.0.0.1:1\r\n",
		"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
		"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
		"-NOREPLICAS Not enough good replicas to write.\r\n",
		"-NOSCRIPT No matching script. Please use EVAL.\r\n", // even to EVAL
		"-ERR Error running script: Script killed by user with SCRIPT KILL\r\n",
		"-ERR max number of clients reached\r\n",
		"-\r\n",
		"+OK\r\n",
		"$2\r\nOK\r\n",
		"$-1\r\n",
		"*-1\r\n",
		"*0\r\n",
		":0\r\n",
		"*1\r\n:0\r\n",
		"*2\r\n:-5\r\n:0\r\n",
		"*2\r\n$-1\r\n$-1\r\n",
		"*2\r\n:0\r\n:9223372036854775807\r\n",
		"*2\r\n*1\r\n:0\r\n:0\r\n",
		"*2\r\n-ERR no\r\n:0\r\n",
		"*99999999999999\r\n",
		"HTTP/1.1 400 Bad Request\r\n\r\n",
		"\x00\xff\r\n",
		"", // hangs up
	} {
		t.Run(strconv.Quote(answer), func(t *testing.T) {
			server := startOddServer(t, answer)
			e := newTestEngine(t, redistest.RequestClient(t, server.listener.Addr().String()), false)
			z := e.NewZone("z", 0)
			for name, p := range map[string]*gcra.Plan{"rate": gcratest.Plan(t, gcra.Rate, "2/1h"), "window": gcratest.Plan(t, gcra.Window, "2/1h"), "quota": gcratest.Plan(t, gcra.Rate, "2/1h", "2/day")} {
				for policy, want := range map[string]int{Local: 2, Allow: 10, Deny: 0} {
					n := 0
					for range 10 {
						var d gcra.Decision
						c := Call{Zone: z, Key: name + policy, Plan: p, Cost: 1, OnError: policy, Budget: 5 * time.Second, Decision: &d}
						c.Decide()
						if d.Admitted() {
							n++
						}
					}
					if n != want {
						t.Errorf("%s, %s: %d of 10 admitted, want %d", name, policy, n, want)
					}
				}
			}
			testkit.Eventually(t, "the breaker", func() bool { return !e.available(0) })
		})
	}
}

// A real server refuses for a while, in the ways that operators bring about,
// and decides again when it has been put right.
func TestRefusingServer(t *testing.T) {
	ctx := context.Background()
	for name, fault := range map[string]func(t *testing.T, s *redistest.Server, admin *redis.Client) (mend func()){
		"no permission": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.Do(ctx, "ACL", "SETUSER", "default", "-@scripting").Err())
			return func() { must(t, admin.Do(ctx, "ACL", "SETUSER", "default", "+@all").Err()) }
		},
		"no permission for the keys": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.Do(ctx, "ACL", "SETUSER", "default", "resetkeys", "~other:*").Err())
			return func() { must(t, admin.Do(ctx, "ACL", "SETUSER", "default", "~*").Err()) }
		},
		"password": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.ConfigSet(ctx, "requirepass", "secret").Err())
			must(t, admin.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err())
			return func() { must(t, admin.ConfigSet(ctx, "requirepass", "").Err()) }
		},
		"read-only": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err())
			return func() { must(t, admin.Do(ctx, "REPLICAOF", "NO", "ONE").Err()) }
		},
		"out of memory": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.ConfigSet(ctx, "maxmemory", "1").Err())
			return func() { must(t, admin.ConfigSet(ctx, "maxmemory", "0").Err()) }
		},
		"busy with a script": func(t *testing.T, s *redistest.Server, admin *redis.Client) func() {
			must(t, admin.ConfigSet(ctx, "busy-reply-threshold", "1").Err())
			other := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: -1, MaxRetries: -1})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer other.Close()
				_ = other.Eval(ctx, "while true do end", nil).Err()
			}()
			return func() {
				testkit.Eventually(t, "the script's end", func() bool {
					_ = admin.ScriptKill(ctx).Err()
					select {
					case <-ended:
						return true
					default:
						return false
					}
				})
			}
		},
		"too few replicas": func(t *testing.T, _ *redistest.Server, admin *redis.Client) func() {
			must(t, admin.ConfigSet(ctx, "min-replicas-to-write", "3").Err())
			return func() { must(t, admin.ConfigSet(ctx, "min-replicas-to-write", "0").Err()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 1, MinIdleConns: 1, ReadTimeout: 10 * time.Second})
			t.Cleanup(func() { _ = admin.Close() })
			must(t, admin.Ping(ctx).Err())
			var recoveries atomic.Int64
			e := NewEngine(Options{Client: redistest.RequestClient(t, server.Addr()), Prefix: "tg", OnOutage: func(down bool) {
				if !down {
					recoveries.Add(1)
				}
			}})
			t.Cleanup(e.Close)
			z := e.NewZone("z", 0)
			const rate, burst = 200.0, 100.0
			p := gcratest.Plan(t, gcra.Rate, "200/1s burst 100")
			tr := startTraffic(z, p, Local)
			testkit.Eventually(t, "refusals", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.refused > 50 })
			mend := fault(t, server, admin)
			testkit.Eventually(t, "the breaker", func() bool { return !e.available(0) })
			before := recoveries.Load()
			tr.waitLocal(t)
			if n := recoveries.Load() - before; n != 0 {
				t.Errorf("it was taken for recovered %d times before it was", n)
			}
			mend()
			took := testkit.Eventually(t, "Redis decides again", tr.shared)
			tr.waitMore(t, 50)
			tr.end()
			tr.report(t)
			t.Logf("Redis decided again %v after it was put right", took)
			if tr.sources[gcra.Unavailable]+tr.sources[gcra.Unchecked] > 0 {
				t.Errorf("sources %v", tr.sources)
			}
			// Nothing was forgotten: there is no fresh burst.
			if over := worst(tr.admitted, burst+rate*0.3, rate); over > 0 {
				t.Errorf("%.1f above the limit", over)
			}
		})
	}
}

// What the documentation says that a Redis user needs is enough.
func TestLeastPrivilege(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	must(t, server.Client().Do(ctx, "ACL", "SETUSER", "gate", "on", ">secret", "resetkeys", "~tg:ratelimit:*",
		"-@all", "+eval", "+evalsha", "+time", "+get", "+mget", "+set", "+psetex", "+del", "+pexpire",
		"+lindex", "+llen", "+lpop", "+lrem", "+rpush").Err())
	e := newTestEngine(t, redis.NewClient(&redis.Options{
		Addr: server.Addr(), Username: "gate", Password: "secret", MaxRetries: -1, ContextTimeoutEnabled: true,
	}), false)
	z := e.NewZone("z", 0)
	for _, p := range []*gcra.Plan{
		gcratest.Plan(t, gcra.Rate, "2/1h"), gcratest.Plan(t, gcra.Rate, "2/1h", "9/1d"), gcratest.Plan(t, gcra.Rate, "2/1h", "5/month"), gcratest.Plan(t, gcra.Window, "2/1h"), gcratest.Plan(t, gcra.Window, "2/20ms"),
	} {
		for i := range 4 {
			var d gcra.Decision
			c := Call{Zone: z, Key: p.String(), Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
			if c.Decide(); d.Source != gcra.Shared && d.Source != gcra.Remembered {
				t.Errorf("%s, request %d: decided by %v", p, i, d.Source)
			}
			if i == 1 {
				c.Refund(d.At, d.Source)
			}
			time.Sleep(10 * time.Millisecond) // units of the short window get old
		}
		if _, err := z.Reset(ctx, p.String(), []*gcra.Plan{p}); err != nil {
			t.Errorf("%s: reset: %v", p, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
