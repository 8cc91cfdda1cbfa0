package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// redisServer is a redis-server of this run.
type redisServer struct {
	cmd  *exec.Cmd
	dir  string
	addr string
}

func startRedis() (*redisServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &redisServer{addr: l.Addr().String()}
	_, port, _ := net.SplitHostPort(s.addr)
	_ = l.Close()
	if s.dir, err = os.MkdirTemp("", "tentagate-bench"); err != nil {
		return nil, err
	}
	s.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no")
	if err := s.cmd.Start(); err != nil {
		_ = os.RemoveAll(s.dir)
		return nil, fmt.Errorf("redis-server: %w", err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr, DialTimeout: time.Second})
	defer func() { _ = c.Close() }()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err = c.Ping(context.Background()).Err(); err == nil {
			return s, nil
		}
		if time.Since(began) > 10*time.Second {
			s.stop()
			return nil, fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

func (s *redisServer) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// plainScript is the same algorithm for one key and one limit, as one would
// write it for one request at a time.
var plainScript = redis.NewScript(`
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1e6 + t[2]
local T, tau, c = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now elseif tat > now + tau then tat = now + tau end
local wait = tat + c * T - tau - now
if wait > 0 then return { math.ceil(wait), math.ceil(tat - now) } end
tat = tat + c * T
redis.call('SET', KEYS[1], string.format('%.17g', tat), 'PX', math.ceil((tat - now) / 1000))
return { 0, math.ceil(tat - now) }`)

// callers lets n goroutines ask for a turn, and returns answers per second.
func callers(n int, ask func(i int) error) (float64, error) {
	var (
		next   atomic.Int64
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	began := time.Now()
	for range n {
		wg.Go(func() {
			for time.Since(began) < *turn && failed.Load() == nil {
				if err := ask(int(next.Add(1))); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(next.Load()) / time.Since(began).Seconds(), nil
}

func makePlan(limit string) *gcra.Plan {
	l, err := gcra.ParseLimit(limit)
	if err != nil {
		panic(err)
	}
	p, err := gcra.NewPlan(gcra.Rate, []gcra.Limit{l}, nil)
	if err != nil {
		panic(err)
	}
	return p
}

func keysOf(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "10." + strconv.Itoa(i>>16) + "." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255)
	}
	return keys
}

var errElsewhere = errors.New("a decision was not made by redis")

// compareStrict lets strict decisions and one EVALSHA per request take turns.
func compareStrict(server *redisServer) error {
	client := redis.NewClient(&redis.Options{Addr: server.addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	engine := redisstore.NewEngine(redisstore.Options{Client: client, Prefix: "bench"})
	defer engine.Close()
	zone := engine.NewZone("z", 0)
	plan := makePlan("1000000/1s")
	ctx := context.Background()
	if err := plainScript.Load(ctx, client).Err(); err != nil {
		return err
	}
	for _, tc := range []struct{ callers, keys int }{{64, 1000}, {64, 1}, {8, 1000}, {1, 1000}} {
		keys := keysOf(tc.keys)
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = "plain:ratelimit:z:" + k
		}
		var plain, strict, ratio []float64
		for range *rounds {
			p, err := callers(tc.callers, func(i int) error {
				return client.EvalSha(ctx, plainScript.Hash(), []string{names[i%len(names)]}, 1, 1_000_000, 1).Err()
			})
			if err != nil {
				return err
			}
			s, err := callers(tc.callers, func(i int) error {
				var d gcra.Decision
				call := redisstore.Call{Zone: zone, Key: keys[i%len(keys)], Plan: plan, Cost: 1, Budget: 5 * time.Second, Decision: &d}
				if call.Decide(); d.Source != gcra.Shared {
					return errElsewhere
				}
				return nil
			})
			if err != nil {
				return err
			}
			plain, strict, ratio = append(plain, p), append(strict, s), append(ratio, s/p)
		}
		fmt.Printf("%2d callers, %4d keys: EVALSHA per request %s/s, strict %s/s, ratio %s\n",
			tc.callers, tc.keys, spread("%.0f", plain), spread("%.0f", strict), spread("%.2f", ratio))
	}
	return nil
}

// measureLeased measures decisions from reserved units, and from refusals that
// are remembered.
func measureLeased(server *redisServer) error {
	client := redis.NewClient(&redis.Options{Addr: server.addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	engine := redisstore.NewEngine(redisstore.Options{Client: client, Prefix: "bench"})
	defer engine.Close()
	zone := engine.NewZone("leased", 0)
	for _, tc := range []struct {
		name   string
		limit  string
		source gcra.Source
	}{{"leased", "1000000/1s burst 1000000000", gcra.Lease}, {"refusal remembered", "1/1d", gcra.Remembered}} {
		plan := makePlan(tc.limit)
		var d gcra.Decision
		call := redisstore.Call{Zone: zone, Key: tc.name, Plan: plan, Cost: 1, Budget: 5 * time.Second, Leased: tc.source == gcra.Lease, Decision: &d}
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
			call.Decide()
		}
		var cost, part []float64
		for range *rounds {
			n, from := 0, 0
			began, used := time.Now(), processor()
			for took := time.Duration(0); took < *turn; took = time.Since(began) {
				for range 256 {
					call.Decide()
					if d.Source == tc.source {
						from++
					}
				}
				n += 256
			}
			cost = append(cost, float64(processor()-used)/float64(n))
			part = append(part, 100*float64(from)/float64(n))
		}
		fmt.Printf("%s, one caller, one key: %s ns, %.2f %% without Redis\n", tc.name, spread("%.0f", cost), median(part))
	}
	return nil
}
