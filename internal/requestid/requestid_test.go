package requestid

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestGenerate(t *testing.T) {
	now := time.UnixMilli(1_764_374_400_123)
	seen := map[string]bool{}
	for range 1000 {
		text := generate(now)
		id, err := uuid.Parse(text)
		if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 || len(text) != 36 {
			t.Fatalf("%s is not a UUIDv7: %v", text, err)
		}
		if ms, _ := id.Time().UnixTime(); ms != now.Unix() {
			t.Fatalf("%s has the time %d, want %d", text, ms, now.Unix())
		}
		if seen[text] {
			t.Fatalf("%s twice", text)
		}
		seen[text] = true
	}
	if a, b := generate(now), generate(now.Add(time.Millisecond)); a >= b {
		t.Errorf("%s does not sort before %s", a, b)
	}
}

func TestAllocations(t *testing.T) {
	h := http.Header{}
	if n := testing.AllocsPerRun(100, func() { Of(h) }); n > 1 {
		t.Errorf("a new id makes %v allocations", n)
	}
	h[Header] = []string{"a-b_c.1"}
	if n := testing.AllocsPerRun(100, func() { Of(h) }); n > 0 {
		t.Errorf("a given id makes %v allocations", n)
	}
}
