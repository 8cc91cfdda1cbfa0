package cache

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Unix(1_800_000_000, 0)

func TestWholeTokenAndProvider(t *testing.T) {
	c := New[int](1000, 1<<20)
	long := strings.Repeat("a", 10_000)
	a, b, other := KeyOf(1, long+"x"), KeyOf(1, long+"y"), KeyOf(2, long+"x")
	c.Put(&a, 1, 10, now.Add(time.Minute))
	for _, key := range []*Key{&b, &other} {
		if _, ok := c.Get(key, now); ok {
			t.Error("another token, or another provider, was found")
		}
	}
	if v, ok := c.Get(&a, now); !ok || v != 1 {
		t.Error("the token was not found")
	}
	c.Put(&a, 2, 10, now.Add(time.Minute))
	if v, _ := c.Get(&a, now); v != 2 {
		t.Error("the newer value was not found")
	}
	if _, ok := c.Get(&a, now.Add(time.Minute)); ok {
		t.Error("found after its end")
	}
	c.Delete(&a)
	if n, bytes, _ := c.Stats(); n != 0 || bytes != 0 {
		t.Errorf("%d entries, %d bytes are left", n, bytes)
	}
}

func TestBounds(t *testing.T) {
	for _, tc := range []struct {
		name            string
		entries         int
		bytes, size     int64
		atMost, atLeast int
	}{
		{"entries", 320, 1 << 30, 10, 320, 300},
		{"bytes", 1 << 20, 100 * 32 * (Overhead + 1000), 1000, 3200, 3000},
		{"values that are too large", 320, 32 * 1000, 1000, 0, 0},
	} {
		c := New[int](tc.entries, tc.bytes)
		for i := range 20_000 {
			key := KeyOf(1, fmt.Sprint(i))
			c.Put(&key, i, tc.size, now.Add(time.Hour))
		}
		n, bytes, evicted := c.Stats()
		if n > tc.atMost || n < tc.atLeast || bytes > tc.bytes {
			t.Errorf("%s: %d entries, %d bytes", tc.name, n, bytes)
		}
		if tc.atMost > 0 && int(evicted)+n != 20_000 {
			t.Errorf("%s: %d evicted, %d left", tc.name, evicted, n)
		}
	}
}

// What is in use stays, however many tokens come once.
func TestFloodOfOthers(t *testing.T) {
	c := New[int](320, 1<<30)
	var mine []Key
	for i := range 64 {
		key := KeyOf(1, fmt.Sprint("mine", i))
		mine = append(mine, key)
		c.Put(&key, i, 10, now.Add(time.Hour))
	}
	lost := 0
	for i := range 50_000 {
		if i%50 == 0 {
			for k := range mine {
				if _, ok := c.Get(&mine[k], now); !ok {
					lost++
					c.Put(&mine[k], k, 10, now.Add(time.Hour))
				}
			}
		}
		key := KeyOf(1, fmt.Sprint("flood", i))
		c.Put(&key, i, 10, now.Add(time.Hour))
	}
	if lost > 64 {
		t.Errorf("%d entries in use were lost", lost)
	}
}

// The lists stay whole under concurrent use: run with -race.
func TestConcurrent(t *testing.T) {
	c := New[int](64, 1<<20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				key := KeyOf(1, fmt.Sprint((i*7+g)%200))
				switch i % 5 {
				case 0:
					c.Put(&key, i, 10, now.Add(time.Hour))
				case 1:
					c.Delete(&key)
				default:
					c.Get(&key, now)
				}
			}
		})
	}
	wg.Wait()
	n, bytes, _ := c.Stats()
	if n > 64 || bytes != int64(n)*(10+Overhead) {
		t.Errorf("%d entries, %d bytes", n, bytes)
	}
	for i := range c.shards {
		s := &c.shards[i]
		forth, back := 0, 0
		for e := s.tail; e != nil; e = e.newer {
			forth++
		}
		for e := s.head; e != nil; e = e.older {
			back++
		}
		if forth != len(s.entries) || back != forth {
			t.Errorf("part %d: %d entries, %d forth, %d back", i, len(s.entries), forth, back)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	c := New[int](100_000, 1<<30)
	tokens := make([]string, 10_000)
	for i := range tokens {
		tokens[i] = strings.Repeat("x", 880) + fmt.Sprint(i)
		key := KeyOf(1, tokens[i])
		c.Put(&key, i, 100, now.Add(time.Hour))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		key := KeyOf(1, tokens[i%len(tokens)])
		if _, ok := c.Get(&key, now); !ok {
			b.Fatal("not found")
		}
		i++
	}
}
