package epoch

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func stored(t *Table, path string, tags ...string) *object.Object {
	return &object.Object{Epoch: t.Now(), Scheme: "https", Host: "Example.com", Path: path, Tags: tags, Groups: []string{"g1"}}
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		scope object.Scope
		hit   bool
	}{
		{object.Scope{URL: "https://example.com/a/b?x=1"}, true},
		{object.Scope{URL: "http://example.com/a/b?x=1"}, true}, // the scheme is that of the proxy in front
		{object.Scope{URL: "https://EXAMPLE.com:443/a/b?x=1#top"}, true},
		{object.Scope{URL: "https://example.com/a/b"}, false},
		{object.Scope{URL: "https://example.com/a/b?x=2"}, false},
		{object.Scope{URL: "https://example.com:8443/a/b?x=1"}, false},
		{object.Scope{URL: "https://example.org/a/b?x=1"}, false},
		{object.Scope{Prefix: "https://example.com/a/"}, true},
		{object.Scope{Prefix: "https://example.com/a/b?x="}, true},
		{object.Scope{Prefix: "https://example.com/a/b?x=1"}, true},
		{object.Scope{Prefix: "https://example.com"}, true},
		{object.Scope{Prefix: "https://example.com/a/b?x=12"}, false},
		{object.Scope{Prefix: "https://example.com/A/"}, false},
		{object.Scope{Prefix: "https://example.co"}, false},
		{object.Scope{Host: "EXAMPLE.COM."}, true},
		{object.Scope{Host: "ample.com"}, false},
		{object.Scope{Tag: "one"}, true},
		{object.Scope{Tag: "two"}, true},
		{object.Scope{Tag: "One"}, false},
		{object.Scope{Tag: "on"}, false},
		{object.Scope{Group: "g1", Origin: "https://example.com"}, true},
		{object.Scope{Group: "g1", Origin: "https://example.org"}, false},
		{object.Scope{Group: "g2", Origin: "https://example.com"}, false},
		{object.Scope{All: true}, true},
	} {
		for _, soft := range []bool{false, true} {
			tc.scope.Soft = soft
			t.Run(fmt.Sprintf("%+v", tc.scope), func(t *testing.T) {
				table := New()
				before := stored(table, "/a/b?x=1", "one", "two")
				other := &object.Object{Host: "elsewhere.test", Path: "/", Epoch: table.Now()}
				check(t, table, before, object.Valid)
				table.Invalidate(tc.scope)
				want := object.Valid
				switch {
				case tc.hit && soft:
					want = object.Soft
				case tc.hit:
					want = object.Hard
				}
				check(t, table, before, want)
				check(t, table, before, want) // from the memo
				if !tc.scope.All {
					check(t, table, other, object.Valid)
				}
				check(t, table, stored(table, "/a/b?x=1", "one", "two"), object.Valid)
			})
		}
	}
}

func urlOf(o *object.Object) string { return o.Scheme + "://" + o.Host + o.Path }

func check(t *testing.T, table *Table, o *object.Object, want object.Freshness) {
	t.Helper()
	if got := table.Check(o); got != want {
		t.Errorf("%s: got %d, want %d", urlOf(o), got, want)
	}
}

// A response to several queries is hit by an invalidation of any of them; others
// are not.
func TestAnyQuery(t *testing.T) {
	for _, tc := range []struct {
		stored, purged string
		hit            bool
	}{
		{"/a?x=1", "/a?x=1", true},
		{"/a?x=1", "/a?x=2", true},
		{"/a?x=1", "/a", true},
		{"/a?x=1", "/a?", true},
		{"/a", "/a?x=2", true},
		{"/a", "/a", true},
		{"/a?x=1", "/a/b?x=1", false},
		{"/a?x=1", "/b?x=1", false},
		{"/a/b", "/a", false},
	} {
		for _, soft := range []bool{false, true} {
			table := New()
			any, one := stored(table, tc.stored), stored(table, tc.stored)
			any.AnyQuery = true
			table.Invalidate(object.Scope{URL: "https://example.com" + tc.purged, Soft: soft})
			want := object.Valid
			switch {
			case tc.hit && soft:
				want = object.Soft
			case tc.hit:
				want = object.Hard
			}
			check(t, table, any, want)
			if tc.stored != tc.purged {
				want = object.Valid
			}
			check(t, table, one, want)
			check(t, table, stored(table, tc.stored), object.Valid)
		}
	}
}

// Spellings that RFC 3986 §6.2.2 calls equivalent are one name; others are not.
func TestSpelling(t *testing.T) {
	for _, tc := range []struct {
		stored, purged string
		hit            bool
	}{
		{"/%7euser/a%2fb?q=%c3%a9", "/~user/a%2Fb?q=%C3%A9", true},
		{"/%41", "/A", true},
		{"/a%2Fb", "/a/b", false},
		{"/%", "/%", true},
		{"/%4", "/%4", true},
		{"/%zz", "/%zz", true},
		{"/%25%34%31", "/%2541", true},
		{"/%2541", "/A", false},
	} {
		table := New()
		o := stored(table, tc.stored)
		table.Invalidate(object.Scope{URL: "https://example.com" + tc.purged})
		want := object.Valid
		if tc.hit {
			want = object.Hard
		}
		check(t, table, o, want)
	}
}

func TestHardBeatsSoft(t *testing.T) {
	table := New()
	o := stored(table, "/x", "one")
	table.Invalidate(object.Scope{Tag: "one", Soft: true})
	check(t, table, o, object.Soft)
	table.Invalidate(object.Scope{URL: "https://example.com/x"})
	check(t, table, o, object.Hard)
	table.Invalidate(object.Scope{All: true, Soft: true})
	check(t, table, o, object.Hard)
}

// The same bytes must be found however they are written in a request target
// that Go's server lets through.
func TestUnusualTargets(t *testing.T) {
	for _, path := range []string{"/ä", "/a b", `/a?q="x"<y>`, "/a?x#y", "/%2Fb", "/a?é", "/" + strings.Repeat("x", 3*MaxPrefix)} {
		table := New()
		o := stored(table, path)
		table.Invalidate(object.Scope{URL: urlOf(o)})
		check(t, table, o, object.Hard)
	}
}

func TestDuringFill(t *testing.T) {
	table := New()
	stamp := table.Now() // the request goes out
	table.Invalidate(object.Scope{Tag: "a"})
	o := &object.Object{Epoch: stamp, Host: "h", Path: "/", Tags: []string{"a"}}
	check(t, table, o, object.Hard)
}

// An invalidation that arrives late must cover all that was stored before it
// arrived, even if this process is ahead.
func TestLearn(t *testing.T) {
	table := New()
	marks, err := Marks(object.Scope{Tag: "a"})
	if err != nil {
		t.Fatal(err)
	}
	table.Advance(1000)
	o := stored(table, "/", "a")
	table.Learn(marks, 500)
	check(t, table, o, object.Hard)
	table.Learn(marks, 5000)
	if table.Now() != 5000 {
		t.Errorf("clock: got %d, want 5000", table.Now())
	}
	after := stored(table, "/", "a")
	table.Confirm(marks, 5000)
	check(t, table, after, object.Valid)
	table.Raise(6000)
	check(t, table, after, object.Hard)
}

func TestClone(t *testing.T) {
	table := New()
	o := stored(table, "/", "a")
	table.Invalidate(object.Scope{Tag: "a"})
	check(t, table, o, object.Hard)
	c := o.Clone()
	c.Epoch = table.Now()
	check(t, table, c, object.Valid)
}

func TestErrors(t *testing.T) {
	for _, s := range []object.Scope{
		{},
		{URL: "https://a/", Tag: "b"},
		{All: true, Host: "a"},
		{URL: "/path"},
		{URL: "ftp://a/"},
		{URL: "https:///path"},
		{URL: "https://a b/"},
		{Prefix: "example.com/"},
		{Prefix: "https://a/" + strings.Repeat("x", MaxPrefix)},
		{Host: "a/b"},
		{Group: "g"},
		{Origin: "https://a"},
		{Group: "g", Origin: "a"},
	} {
		if marks, err := Marks(s); err == nil {
			t.Errorf("%+v: got %v, want an error", s, marks)
		}
	}
}

func TestMarkText(t *testing.T) {
	for _, m := range []Mark{0, 1, 2, mark(allIndex, true), mark(lenIndex+MaxPrefix, true)} {
		got, ok := ParseMark(m.String())
		if !ok || got != m {
			t.Errorf("%s: got %d %v, want %d", m, got, ok, m)
		}
	}
	for _, s := range []string{"", "h", "x1", "h-1", "h999999999", "h264194", "h1x"} {
		if m, ok := ParseMark(s); ok {
			t.Errorf("%q: got %d, want none", s, m)
		}
	}
}

func TestOnAll(t *testing.T) {
	table := New()
	n := 0
	table.OnAll(func() { n++ })
	table.Invalidate(object.Scope{All: true, Soft: true})
	table.Invalidate(object.Scope{Tag: "a"})
	table.Invalidate(object.Scope{All: true})
	if n != 1 {
		t.Errorf("called %d times, want 1", n)
	}
}

// After many invalidations few responses that none of them was about are hit.
func TestCollisions(t *testing.T) {
	table := New()
	objects := make([]*object.Object, 2000)
	for i := range objects {
		objects[i] = stored(table, fmt.Sprintf("/object/%d", i), fmt.Sprintf("tag-%d", i))
	}
	for i := range 10_000 {
		table.Invalidate(object.Scope{Tag: fmt.Sprintf("other-%d", i)})
	}
	wrong := 0
	for _, o := range objects {
		if table.Check(o) != object.Valid {
			wrong++
		}
	}
	t.Logf("%d of %d", wrong, len(objects))
	if wrong > len(objects)/20 {
		t.Errorf("%d of %d hit without need", wrong, len(objects))
	}
}

func TestConcurrent(t *testing.T) {
	table := New()
	o := stored(table, "/x", "hot")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 500 {
				table.Check(o)
				fill := stored(table, "/x", "hot")
				table.Invalidate(object.Scope{Tag: "hot", Soft: i%2 == 0})
				if table.Check(fill) == object.Valid {
					t.Error("a response asked for before the invalidation is valid after it")
				}
			}
		})
	}
	wg.Wait()
	check(t, table, o, object.Hard)
}

func FuzzScopeURL(f *testing.F) {
	f.Add("example.com", "/a?b")
	f.Add("Example.com:80", "//%2f?#x")
	f.Fuzz(func(t *testing.T, host, path string) {
		table := New()
		if strings.ContainsAny(host, "/?#") || path == "" || path[0] != '/' {
			t.Skip()
		}
		o := &object.Object{Scheme: "http", Host: host, Path: path}
		s := object.Scope{URL: urlOf(o)}
		if _, err := Marks(s); err != nil {
			t.Skip()
		}
		table.Invalidate(s)
		check(t, table, o, object.Hard)
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, purges := range []string{"none", "memo", "always"} {
		b.Run(purges, func(b *testing.B) {
			table := New()
			o := stored(table, "/a/b/c?d=e", "one", "two", "three")
			b.ReportAllocs()
			if purges == "memo" {
				table.Invalidate(object.Scope{Tag: "x"})
			}
			for b.Loop() {
				if purges == "always" {
					table.version.Add(1)
					table.last.Store(9)
				}
				table.Check(o)
			}
		})
	}
}
