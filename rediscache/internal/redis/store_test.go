package redis

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // servers are killed here
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// prefix begins the keys of the tests.
const prefix = "tentagate"

// longBudget is a budget that no look-up exceeds, however busy the machine is.
const longBudget = 10 * time.Second

// newStore returns a store with the options, and usable values for those that are
// not given: look-ups may take as long as longBudget.
func newStore(t testing.TB, o Options) *Store {
	t.Helper()
	o.Prefix = prefix
	if o.Background == nil {
		o.Background = o.Client
	}
	if o.Availability == nil {
		o.Availability = availability.New(availability.Options{Client: o.Client})
		t.Cleanup(o.Availability.Close)
	}
	if o.Budget == 0 {
		o.Budget = longBudget
	}
	if o.MaxBody == 0 {
		o.MaxBody = 8 << 20
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Admit == nil {
		o.Admit = func(*object.Object) bool { return true }
	}
	s := NewStore(o)
	t.Cleanup(s.Close)
	return s
}

func fresh(body []byte) *object.Object {
	o := sample(body)
	o.Vary, o.Variant = nil, ""
	o.RequestTime, o.ResponseTime = time.Now(), time.Now()
	return o
}

// only returns an entry with one variant.
func only(key object.Key, o *object.Object) *object.Entry {
	return &object.Entry{Key: key, Variants: []*object.Object{o}}
}

// unwritten returns how many keys have objects that are not written yet.
func (s *Store) unwritten() int {
	s.waiting.mu.RLock()
	defer s.waiting.mu.RUnlock()
	return len(s.waiting.m)
}

// put writes and waits until it is written.
func put(t testing.TB, s *Store, key object.Key, o *object.Object) {
	t.Helper()
	before := s.Stats()
	s.Set(key, o)
	testkit.Eventually(t, "a write", func() bool {
		now := s.Stats()
		if now.WriteErrors+now.Dropped > before.WriteErrors+before.Dropped {
			t.Fatalf("not written: %+v", now)
		}
		return now.Writes > before.Writes
	})
}

func get(s *Store, key object.Key) *object.Object {
	if e := s.Get(context.Background(), key); e != nil {
		return e.Variants[0]
	}
	return nil
}

func TestStore(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	ctx := context.Background()
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Compress: true})

	for name, body := range map[string][]byte{
		"short": []byte("hello"), "empty": nil, "text": text(20_000), "large": noise(3*chunkSize + 5),
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush()
			key := object.NewKey("GET", "example.com", name)
			if get(s, key) != nil {
				t.Fatal("there before it was set")
			}
			o := fresh(body)
			o.ResponseTime = time.Now().Add(-20 * time.Second)
			put(t, s, key, o)
			got := get(s, key)
			if got == nil {
				t.Fatal("not there")
			}
			if !bytes.Equal(got.Body, body) || got.Header.Get("Etag") != `"x"` || got.Status != 203 || got.Epoch != o.Epoch {
				t.Errorf("got %+v", got)
			}
			if !got.ResponseTime.Equal(o.ResponseTime.Truncate(time.Microsecond)) || got.InitialAge != o.InitialAge {
				t.Error("its age begins anew")
			}

			// All keys are of one slot, and end with the object.
			keys := admin.Keys(ctx, "*").Val()
			tag := ""
			for _, k := range keys {
				begin, end := strings.Index(k, "{"), strings.Index(k, "}")
				if !strings.HasPrefix(k, "tentagate:cache:{") || tag != "" && tag != k[begin:end] {
					t.Errorf("key %q", k)
				}
				tag = k[begin:end]
				left := admin.PTTL(ctx, k).Val()
				if want := time.Until(o.UsefulUntil()); left < want-10*time.Second || left > want+time.Second {
					t.Errorf("%s expires in %v, useful for %v", k, left, want)
				}
			}
			if want := 2 + len(body)/chunkSize; name == "large" && len(keys) != want+1 {
				t.Errorf("keys: %q", keys)
			}

			other := key
			other.Full = "another of the same hash"
			if get(s, other) != nil {
				t.Error("another key of the same hash is given the response")
			}
			s.Delete(key)
			testkit.Eventually(t, "deletion", func() bool { return admin.DBSize(ctx).Val() == 0 })
		})
	}
	t.Run("expired", func(t *testing.T) {
		key := object.NewKey("past")
		o := fresh(nil)
		o.ResponseTime = time.Now().Add(-30 * time.Hour)
		put(t, s, key, o)
		if n := admin.DBSize(ctx).Val(); n != 0 {
			t.Errorf("%d keys", n)
		}
	})
	t.Run("too large", func(t *testing.T) {
		small := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), MaxBody: 100})
		key := object.NewKey("large")
		small.Set(key, fresh(text(101)))
		if small.Stats().Oversize != 1 {
			t.Errorf("%+v", small.Stats())
		}
		put(t, s, key, fresh(text(101)))
		if get(small, key) != nil {
			t.Error("a body larger than allowed is read")
		}
	})
}

// What was set is found at once, while it waits to be written and afterwards.
func TestFoundAtOnce(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	for i := range 300 {
		key := object.NewKey(fmt.Sprint(i))
		s.Set(key, fresh([]byte("old")))
		s.Set(key, fresh([]byte(fmt.Sprint(i))))
		for range 3 {
			if o := get(s, key); o == nil || string(o.Body) != fmt.Sprint(i) {
				t.Fatalf("%d: got %v", i, o)
			}
		}
		if i%3 == 0 {
			s.Delete(key)
			testkit.Eventually(t, "deletion", func() bool { return get(s, key) == nil })
		}
	}
	testkit.Eventually(t, "the writes", func() bool { return s.Stats().Writes == 600 })
	if n := s.unwritten(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	// What does not wait any more because it was dropped is not found.
	s = newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Budget: availability.DefaultBudget})
	server.Freeze()
	for range 6 {
		get(s, object.NewKey("x"))
	}
	key := object.NewKey("dropped")
	s.Set(key, fresh(nil))
	if get(s, key) != nil || s.unwritten() != 0 {
		t.Error("a dropped response is kept")
	}
	server.Thaw()
}

func TestVariants(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	key := object.NewKey("k")
	ctx := context.Background()
	variant := func(name string) *object.Object {
		o := fresh([]byte(name))
		o.Vary, o.Variant = []string{"Accept-Encoding"}, name
		return o
	}
	for _, name := range []string{"gzip", "br", "zstd"} {
		put(t, s, key, variant(name))
	}
	put(t, s, key, fresh([]byte("plain")))
	put(t, s, key, variant("br"))

	names := func(e *object.Entry) string {
		var list []string
		if e != nil {
			for _, v := range e.Variants {
				list = append(list, string(v.Body))
			}
		}
		return strings.Join(list, " ")
	}
	if got := names(s.Get(ctx, key)); got != "br plain zstd gzip" {
		t.Errorf("all: %s", got)
	}
	for _, want := range []string{"gzip", "br", "none"} {
		got := names(s.Select(ctx, key, func(vary []string, v string) bool { return len(vary) == 1 && v == want }))
		if want == "none" {
			want = ""
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// More than the index may have: the oldest go.
	for i := range maxVariants + 10 {
		s.Set(key, variant(fmt.Sprint(i)))
	}
	testkit.Eventually(t, "writes", func() bool { return s.Stats().Writes == maxVariants+15 })
	if n := server.Client().HLen(ctx, s.key(key, "i")).Val(); n != maxVariants {
		t.Errorf("%d variants in the index", n)
	}
	if got := s.Select(ctx, key, func(_ []string, v string) bool { return v == "gzip" }); got != nil {
		t.Error("the oldest is still there")
	}
	if got := names(s.Get(ctx, key)); len(strings.Fields(got)) != maxFetched {
		t.Errorf("all: %s", got)
	}
}

func TestManyFields(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	key := object.NewKey("k")
	o := fresh(nil)
	o.Header = http.Header{}
	for i := range 500 {
		o.Header.Set(fmt.Sprintf("X-Field-%d", i), strings.Repeat("v", 100))
	}
	put(t, s, key, o)
	if got := get(s, key); got == nil || len(got.Header) != 500 || got.Header.Get("X-Field-499") != strings.Repeat("v", 100) {
		t.Errorf("got %+v", got)
	}
}
