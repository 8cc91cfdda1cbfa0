package replog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func shuffled(list []string, seed int) []string {
	list = slices.Clone(list)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// Whatever Redis loses, the gateways restore it: a gateway that starts
// afterwards knows all, what was removed stays removed, and changes go on.
func TestLost(t *testing.T) {
	for name, lose := range map[string]func(s *redistest.Server, keys Keys){
		"flushed":       func(s *redistest.Server, _ Keys) { s.Flush() },
		"log evicted":   func(s *redistest.Server, keys Keys) { s.Client().Del(context.Background(), keys.Log) },
		"state evicted": func(s *redistest.Server, keys Keys) { s.Client().Del(context.Background(), keys.State) },
		"end of the log lost": func(s *redistest.Server, keys Keys) {
			c := s.Client()
			for _, key := range c.ZRange(context.Background(), keys.Log, -2, -1).Val() {
				c.ZRem(context.Background(), keys.Log, key)
				c.HDel(context.Background(), keys.State, key)
			}
		},
		"trimmed past the follower": func(s *redistest.Server, keys Keys) {
			s.Client().ZRemRangeByRank(context.Background(), keys.Log, 0, -1)
		},
		"log of another type":   func(s *redistest.Server, keys Keys) { s.Client().Set(context.Background(), keys.Log, "x", 0) },
		"state of another type": func(s *redistest.Server, keys Keys) { s.Client().Set(context.Background(), keys.State, "x", 0) },
		"restarted with nothing": func(s *redistest.Server, _ Keys) {
			s.Kill()
			s.Restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothKinds(t, func(t *testing.T, keys Keys) {
				server := redistest.Start(t)
				a := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
				b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
				ready(t, a, b)
				for _, key := range []string{"one", "two", "gone", "three"} {
					mustShare(t, a, key)
				}
				testkit.Eventually(t, "all", func() bool { return b.knows("one", "two", "gone", "three") })
				if keys.Expires != "" {
					b.remove(t, "gone")
					testkit.Eventually(t, "the removal", func() bool { return !a.knows("gone") })
				}
				lose(server, keys)
				testkit.Eventually(t, "noticing", func() bool { return a.Stats().Lost > 0 || b.Stats().Lost > 0 })
				ready(t, a, b)
				c := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
				testkit.Eventually(t, "a new gateway", func() bool { return c.knows("one", "two", "three") })
				mustShare(t, c, "four")
				testkit.Eventually(t, "a new change", func() bool { return a.knows("four") && b.knows("four") })
				if keys.Expires != "" && (a.knows("gone") || b.knows("gone") || c.knows("gone")) {
					t.Error("what was removed came back")
				}
			})
		})
	}
}

// Redis restarts with an older snapshot: later changes are restored.
func TestRestartWithOlderData(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		a, b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond), follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
		ready(t, a, b)
		mustShare(t, a, "before")
		mustShare(t, a, "gone")
		if err := server.Client().Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		mustShare(t, a, "after")
		testkit.Eventually(t, "all", func() bool { return b.knows("before", "gone", "after") })
		if keys.Expires != "" {
			a.remove(t, "gone")
			testkit.Eventually(t, "the removal", func() bool { return !b.knows("gone") })
		}
		server.Kill()
		server.Restart()
		testkit.Eventually(t, "noticing", func() bool { return a.Stats().Lost == 1 && b.Stats().Lost == 1 })
		ready(t, a, b)
		c := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
		testkit.Eventually(t, "a new gateway", func() bool { return c.knows("before", "after") && (keys.Expires == "" || !c.knows("gone")) })
		if keys.Expires != "" && (a.knows("gone") || b.knows("gone")) {
			t.Error("what was removed came back")
		}
	})
}

// A failover loses the end of the log, and before the gateway that wrote it reads
// again others write to the new master: the loss is not hidden by that.
func TestFailoverLosesTheEnd(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
		host, port, _ := net.SplitHostPort(master.Addr())
		replica := redistest.Start(t, "--replicaof", host+" "+port)
		p := redistest.NewProxy(t, master.Addr())
		a, b := follow(t, keys, redistest.WithoutMessages(t, redistest.BackgroundClient(t, p.Addr())), time.Hour), follow(t, keys, redistest.WithoutMessages(t, redistest.BackgroundClient(t, p.Addr())), time.Hour)
		ready(t, a, b)
		testkit.Eventually(t, "the replica", func() bool { return replica.Client().Exists(t.Context(), keys.Log, keys.State).Val() == 2 })
		if err := replica.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
			t.Fatal(err)
		}
		mustShare(t, a, "lost")
		p.Direct(replica.Addr())
		for i := range 3 {
			testkit.Eventually(t, "the new master", func() bool {
				shared := b.put(fmt.Sprint("other", i), 1)
				if !shared {
					b.Read()
				}
				return shared
			})
		}
		if b.knows("lost") || b.synced.Load() <= a.synced.Load() {
			t.Fatal("this tests nothing")
		}
		testkit.Eventually(t, "the loss noticed", func() bool { a.Read(); return a.Stats().Lost == 1 })
		testkit.Eventually(t, "the change at the other", func() bool { b.Read(); return b.knows("lost") })
		if !a.knows("lost") {
			t.Error("forgotten where it was made")
		}
	})
}

// What is written back has positions below those read last. It is read
// nevertheless.
func TestRestoredIsRead(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		a, b := follow(t, keys, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), time.Hour), follow(t, keys, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), time.Hour)
		ready(t, a, b)
		mustShare(t, a, "x")
		server.Flush()
		mustShare(t, b, "y")
		testkit.Eventually(t, "b with the new log", func() bool { b.Read(); return b.Stats().Lost == 1 })
		if b.knows("x") {
			t.Fatal("this tests nothing")
		}
		testkit.Eventually(t, "a with the new log", func() bool { a.Read(); return a.Stats().Lost == 1 })
		testkit.Eventually(t, "the change", func() bool { b.Read(); return b.knows("x") })
	})
}

// While Redis is unreachable changes are pending; they are shared when it is back,
// even if it is empty then. Nothing can be removed meanwhile.
func TestRedisUnreachable(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			bothKinds(t, func(t *testing.T, keys Keys) {
				server := redistest.Start(t)
				var observed atomic.Int64
				a := followWith(t, Options{
					Client: redistest.BackgroundClient(t, server.Addr()), Keys: keys, Period: 20 * time.Millisecond,
					Observe: func(error) { observed.Add(1) },
				})
				b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
				ready(t, a, b)
				mustShare(t, a, "early")
				if how == "killed" {
					server.Kill()
				} else {
					server.Freeze()
				}
				testkit.Eventually(t, "noticing", func() bool { return !a.Ready() && !b.Ready() && observed.Load() == 1 })
				contact := a.Contact()
				if a.put("late", 1) || !a.knows("late") {
					t.Error("shared, or not known where it was made")
				}
				if keys.Expires != "" {
					if _, err := a.Remove(t.Context(), "late", func() {}); err == nil || !a.knows("late") {
						t.Errorf("removed without Redis: %v", err)
					}
				}
				if how == "killed" {
					server.Restart()
				} else {
					server.Thaw()
				}
				testkit.Eventually(t, "what was pending", func() bool { return b.knows("early", "late") && a.Stats().Pending == 0 })
				testkit.Eventually(t, "the return", func() bool { return observed.Load() == 2 && a.Contact().After(contact) })
				c := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
				testkit.Eventually(t, "a new gateway", func() bool { return c.knows("early", "late") })
			})
		})
	}
}

// What is pending is in the log, and what others wrote is known, before Redis is
// used again.
func TestBeforeRedisIsUsedAgain(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		p := redistest.NewProxy(t, server.Addr())
		engine := availability.New(availability.Options{Client: redistest.BackgroundClient(t, p.Addr()), Budget: 200 * time.Millisecond})
		t.Cleanup(engine.Close)
		// Without the engine, it would be read in an hour.
		a := followWith(t, Options{Client: redistest.WithoutMessages(t, redistest.BackgroundClient(t, p.Addr())), Keys: keys, Period: time.Hour, Availability: engine, Name: "test"})
		b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod)
		ready(t, a, b)
		p.Swallow(true)
		testkit.Eventually(t, "the outage", func() bool { a.Read(); return !engine.Partition(keys.Log).Readable() && !a.Ready() })
		mustShare(t, b, "missed")
		if a.put("late", 1) {
			t.Error("shared without Redis")
		}
		p.Swallow(false)
		p.Cut()
		testkit.Eventually(t, "the return", engine.Partition(keys.Log).Writable)
		if !a.knows("missed") || a.Stats().Pending != 0 || !a.Ready() {
			t.Errorf("Redis is used again: %v, %+v", a.m.live(), a.Stats())
		}
		testkit.Eventually(t, "the change at the other", func() bool { return b.knows("late") })
	})
}

// A server that loads its data refuses commands. That is not taken for a loss.
func TestLoading(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		// It answers once for each kilobyte of what it loads.
		server := redistest.Start(t, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")
		refused := new(refusedLoading)
		start := func() *gateway {
			client := redistest.BackgroundClient(t, server.Addr())
			client.AddHook(refused)
			return follow(t, keys, client, 5*time.Millisecond)
		}
		a := start()
		ready(t, a)
		mustShare(t, a, "x")
		a.Close()
		for i := range 200 {
			server.Client().Set(t.Context(), fmt.Sprint("fill", i), strings.Repeat("x", 2000), 0)
		}
		if err := server.Client().Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		server.Kill()
		server.Restart()
		b := start()
		b.put("y", 1)
		testkit.Eventually(t, "the server seen loading", refused.seen.Load)
		// The rest is loaded at once.
		if err := server.Client().ConfigSet(t.Context(), "key-load-delay", "0").Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "all", func() bool { return b.knows("x", "y") && b.Stats().Pending == 0 })
		if b.m.birth == 0 || b.Stats().Lost != 0 {
			t.Errorf("birth %d, %+v", b.m.birth, b.Stats())
		}
	})
}

// refusedLoading is a hook that sees whether a command was refused because the server
// loads its data.
type refusedLoading struct{ seen atomic.Bool }

func (*refusedLoading) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *refusedLoading) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil && strings.HasPrefix(err.Error(), "LOADING") {
			h.seen.Store(true)
		}
		return err
	}
}

func (*refusedLoading) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// lostReplies is a hook by which commands are carried out and their answer is
// lost.
type lostReplies struct{ on atomic.Bool }

var errLostReply = errors.New("the answer was lost")

func (*lostReplies) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *lostReplies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && h.on.Load() {
			cmd.SetErr(errLostReply)
			return errLostReply
		}
		return err
	}
}

func (*lostReplies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A change whose answer was lost is written again, and counts once.
func TestAnswerLost(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		hook := new(lostReplies)
		c := redistest.BackgroundClient(t, server.Addr())
		c.AddHook(hook)
		a, b := follow(t, keys, c, 20*time.Millisecond), follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
		ready(t, a, b)
		hook.on.Store(true)
		if a.put("x", 7) {
			t.Error("shared without an answer")
		}
		testkit.Eventually(t, "the change at the other", func() bool { return b.knows("x") })
		hook.on.Store(false)
		testkit.Eventually(t, "writing it again", func() bool { return a.Ready() && a.Stats().Pending == 0 })
		if keys.Expires != "" {
			b.remove(t, "x")
			testkit.Eventually(t, "the removal", func() bool { return !a.knows("x") && !b.knows("x") })
		}
	})
}

// A value whose position was never written is found nevertheless: its writer ended
// in between, or was of a version without positions.
func TestValueWithoutPosition(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client()
	c.HSet(t.Context(), withValues.State, "before", "3 99999999999999", "epoch", "x", "seq", "1", "bad", "1 x", "worse", "")
	a := follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
	ready(t, a)
	if live := a.m.live(); len(live) != 1 || live["before"] != 3 {
		t.Errorf("got %v", live)
	}
	mustShare(t, a, "x")
	c.Del(t.Context(), withValues.Log)
	a.Close()
	b := follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
	ready(t, b)
	if !b.knows("before", "x") {
		t.Errorf("got %v", b.m.live())
	}
}

// A user that may not use a command of the scripts: nothing is lost, and what may
// not be published is read.
func TestForbiddenCommands(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		for _, command := range []string{"zadd", "publish", "info"} {
			server := redistest.Start(t)
			a, b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond), follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
			ready(t, a, b)
			acl := func(rule string) {
				if err := server.Client().Do(t.Context(), "ACL", "SETUSER", "default", rule).Err(); err != nil {
					t.Fatal(err)
				}
			}
			acl("-" + command)
			if shared := a.put("x", 1); shared == (command == "zadd") {
				t.Errorf("%s: shared %v", command, shared)
			}
			if command == "zadd" {
				acl("+" + command)
			}
			testkit.Eventually(t, command+": the change", func() bool { return b.knows("x") && a.Stats().Pending == 0 })
			server.Client().Del(t.Context(), keys.Log)
			testkit.Eventually(t, command+": the loss noticed", func() bool { return a.Stats().Lost > 0 && b.Stats().Lost > 0 })
			ready(t, a, b)
			a.Close()
			b.Close()
		}
	})
}

// A change gets through to a Redis that is full and evicts nothing.
func TestFullRedis(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
		a, b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond), follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
		ready(t, a, b)
		c := server.Client()
		for size, refused := 10_000, 0; refused < 100; {
			if c.Set(t.Context(), fmt.Sprint("fill", rand.Uint64()), strings.Repeat("x", size), 0).Err() != nil {
				size, refused = 1, refused+1
			}
		}
		mustShare(t, a, "x")
		testkit.Eventually(t, "the change", func() bool { return b.knows("x") })
		if keys.Expires != "" {
			b.remove(t, "x")
		}
		if c.Set(t.Context(), "more", "x", 0).Err() == nil {
			t.Error("the server was not full")
		}
	})
}

// All keys are in one slot.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	bothKinds(t, func(t *testing.T, keys Keys) {
		for _, key := range []*string{&keys.Log, &keys.State, &keys.Expires, &keys.Channel} {
			if *key != "" {
				*key += ":" + strings.ReplaceAll(t.Name(), "/", "-")
			}
		}
		for name, period := range map[string]time.Duration{"Pub/Sub": time.Hour, "reading": 20 * time.Millisecond} {
			a, b := follow(t, keys, redistest.BackgroundClient(t, cluster.Addrs()...), period), follow(t, keys, redistest.BackgroundClient(t, cluster.Addrs()...), period)
			ready(t, a, b)
			if period == time.Hour {
				testkit.Eventually(t, "subscriptions", func() bool {
					n := int64(0)
					for _, s := range cluster.Servers {
						n += s.Client().PubSubNumSub(t.Context(), keys.Channel).Val()[keys.Channel]
					}
					return n == 2
				})
			}
			mustShare(t, a, name[:3])
			testkit.Eventually(t, name, func() bool { return b.knows(name[:3]) })
			a.Close()
			b.Close()
		}
	})
}

// The server's clock is set back, or another takes over whose clock is behind.
func TestClockGoesBack(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		a, b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond), follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
		ready(t, a, b)
		ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
		a.m.Advance(ahead)
		testkit.Eventually(t, "the clock", func() bool { return b.m.Clock() >= ahead })
		for i := range 3 {
			x, y := fmt.Sprint("x", i), fmt.Sprint("y", i)
			mustShare(t, a, x)
			mustShare(t, b, y)
			testkit.Eventually(t, "both", func() bool { return a.knows(y) && b.knows(x) })
		}
	})
}

// More than a page, written by many at once, is read whole, and restored whole.
func TestMany(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		a := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
		ready(t, a)
		var entries []Entry
		for i := range 2*pageSize + 100 {
			entries = append(entries, Entry{Key: fmt.Sprint("k", i), Expires: time.Now().Add(time.Hour).UnixMilli()})
		}
		enter := func() {
			for _, e := range entries {
				a.m.Apply([]Change{{e, unshared}})
			}
		}
		if !a.Append(t.Context(), enter, entries...) {
			t.Fatal("not shared")
		}
		for _, flush := range []bool{false, true} {
			if flush {
				server.Flush()
			}
			b := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
			testkit.Eventually(t, fmt.Sprint("all, flushed ", flush), func() bool { return len(b.m.live()) == len(entries) })
		}
	})
}
