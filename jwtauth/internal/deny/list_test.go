package deny

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func memory(entries int) (*Store, *time.Time) {
	now := epoch
	s := New(Options{Now: func() time.Time { return now }})
	s.Raise(entries, time.Hour)
	return s, &now
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		entry Entry
		ids   *IDs
		at    time.Time
		want  bool
	}{
		{"token", Entry{ID: Token(Scope{Provider: "p"}, "j")}, IDsOf("p", "i", "j", "s"), epoch, true},
		{"token of another provider", Entry{ID: Token(Scope{Provider: "p"}, "j")}, IDsOf("q", "i", "j", "s"), epoch, false},
		{"token by issuer", Entry{ID: Token(Scope{Issuer: "i"}, "j")}, IDsOf("q", "i", "j", "s"), epoch, true},
		{"an issuer named like a provider", Entry{ID: Token(Scope{Provider: "i"}, "j")}, IDsOf("q", "i", "j", "s"), epoch, false},
		{"a subject named like a token", Entry{ID: Token(Scope{Provider: "p"}, "s")}, IDsOf("p", "i", "j", "s"), epoch, false},
		{"issued before", Entry{ID: Subject(Scope{}, "s"), Before: epoch}, IDsOf("p", "i", "j", "s"), epoch.Add(-time.Second), true},
		{"issued at that moment", Entry{ID: Subject(Scope{}, "s"), Before: epoch}, IDsOf("p", "i", "j", "s"), epoch, false},
		{"no date of issue", Entry{ID: Subject(Scope{}, "s"), Before: epoch}, IDsOf("p", "i", "j", "s"), time.Time{}, true},
		{"subject of a provider", Entry{ID: Subject(Scope{Provider: "p"}, "s"), Before: epoch}, IDsOf("p", "", "", "s"), time.Time{}, true},
		{"subject of another provider", Entry{ID: Subject(Scope{Provider: "p"}, "s"), Before: epoch}, IDsOf("q", "", "", "s"), time.Time{}, false},
		{"neither", Entry{ID: Subject(Scope{}, ""), Before: epoch}, IDsOf("p", "i", "", ""), time.Time{}, false},
		{"lengths are part of it", Entry{ID: Token(Scope{Provider: "pj"}, "x")}, IDsOf("p", "", "jx", ""), epoch, false},
	} {
		s, now := memory(10)
		tc.entry.Expires = epoch.Add(time.Hour)
		if shared, err := s.Revoke(t.Context(), tc.entry); err != nil || shared != SharedNo {
			t.Fatal(shared, err)
		}
		if got := s.Revoked(tc.ids, tc.at, *now); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
		if s.Revoked(tc.ids, tc.at, tc.entry.Expires) {
			t.Errorf("%s: it holds when it has expired", tc.name)
		}
		if ok, err := s.Restore(t.Context(), tc.entry.ID); !ok || err != nil || s.Revoked(tc.ids, tc.at, *now) {
			t.Errorf("%s: not restored: %v %v", tc.name, ok, err)
		}
	}
}

func TestBoundsAndExpiry(t *testing.T) {
	s, now := memory(100)
	for i := range 100 {
		if _, err := s.Revoke(t.Context(), Entry{ID: Token(Scope{Provider: "p"}, strconv.Itoa(i)), Expires: epoch.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	one := Entry{ID: Token(Scope{Provider: "p"}, "more"), Expires: epoch.Add(time.Hour)}
	if _, err := s.Revoke(t.Context(), one); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	// One that is there can be made longer when the list is full.
	if _, err := s.Revoke(t.Context(), Entry{ID: Token(Scope{Provider: "p"}, "0"), Expires: epoch.Add(2 * time.Minute)}); err != nil {
		t.Error(err)
	}
	*now = now.Add(time.Minute)
	if _, err := s.Revoke(t.Context(), one); err != nil || s.Len() != 2 || s.Live() != 2 {
		t.Errorf("%v, %d entries", err, s.Len())
	}
	if got := s.Entries(*now, 1); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	// What says less changes nothing.
	if _, err := s.Revoke(t.Context(), Entry{ID: one.ID, Expires: epoch.Add(2 * time.Minute)}); err != nil {
		t.Error(err)
	}
	*now = epoch.Add(30 * time.Minute)
	if !s.Revoked(IDsOf("p", "", "more", ""), epoch, *now) {
		t.Error("a shorter revocation took the place of a longer one")
	}
}

// Changes that come in another order, or more than once, lead to the same list.
func TestAnyOrder(t *testing.T) {
	id, expires := ID{1}, epoch.Add(time.Hour).UnixMilli()
	changes := []mark{
		{before: 5, expires: expires, position: 1},
		{before: 9, expires: expires, position: 2},
		{expires: expires, position: 3, removed: true},
		{before: 4, expires: expires, position: 4},
		{before: 3, expires: expires - 1, position: 5},
	}
	for n := range changes {
		for seed := range uint64(50) {
			s, now := memory(10)
			r := rand.New(rand.NewPCG(seed, 1))
			for _, i := range append(r.Perm(n+1), r.Perm(n+1)...) {
				s.apply(id, changes[i])
			}
			entries := s.Entries(*now, -1)
			if n == 2 {
				if len(entries) != 0 || s.Len() != 0 {
					t.Fatalf("taken back, got %v", entries)
				}
				continue
			}
			if len(entries) != 1 || s.Len() != 1 || entries[0].Expires.UnixMilli() != expires {
				t.Fatalf("%d changes: got %v", n+1, entries)
			}
			// What is merged is never less than what was revoked last.
			if got, least := entries[0].Before.UnixMilli(), changes[n].before; got < least {
				t.Fatalf("%d changes: got %d, want at least %d", n+1, got, least)
			}
		}
	}
}

func TestIDText(t *testing.T) {
	id := Token(Scope{Issuer: "i"}, "j")
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "00", id.String() + "0", "zz" + id.String()[2:]} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	s, now := memory(10)
	_, _ = s.Revoke(t.Context(), Entry{ID: Token(Scope{Provider: "p"}, "x"), Expires: epoch.Add(time.Hour)})
	ids := IDsOf("p", "i", "j", "s")
	if n := testing.AllocsPerRun(100, func() { s.Revoked(ids, epoch, *now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRevoked(b *testing.B) {
	s, now := memory(100_000)
	for i := range 100_000 {
		_, _ = s.Revoke(b.Context(), Entry{ID: Token(Scope{Provider: "p"}, strconv.Itoa(i)), Expires: epoch.Add(time.Hour)})
	}
	ids := IDsOf("p", "i", "j", "s")
	b.ReportAllocs()
	for b.Loop() {
		s.Revoked(ids, epoch, *now)
	}
}
