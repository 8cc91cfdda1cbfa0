package pool_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/internal/pool"
)

type thing struct{ name string }

func TestPool(t *testing.T) {
	var destroyed []string
	p := pool.New(func(v *thing) error {
		destroyed = append(destroyed, v.name)
		return nil
	})
	acquire := func(key, name string) *pool.Ref[*thing] {
		t.Helper()
		ref, err := p.Acquire(key, func() (*thing, error) { return &thing{name}, nil })
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	first := acquire("a", "first")
	second := acquire("a", "second")
	if first.Loaded || !second.Loaded || first.Value != second.Value {
		t.Errorf("got %+v and %+v", first, second)
	}
	other := acquire("b", "other")
	if names := namesOf(p); !slices.Equal(names, []string{"first", "other"}) {
		t.Errorf("got %v", names)
	}

	// Who releases twice takes nothing from another.
	for range 3 {
		if err := first.Release(); err != nil {
			t.Error(err)
		}
	}
	if again := acquire("a", "third"); again.Value != second.Value || !again.Loaded {
		t.Errorf("got %+v", again)
	} else if err := errors.Join(second.Release(), other.Release()); err != nil || !slices.Equal(destroyed, []string{"other"}) {
		t.Errorf("got %v and %v", err, destroyed)
	} else if err := again.Release(); err != nil || !slices.Equal(destroyed, []string{"other", "first"}) {
		t.Errorf("got %v and %v", err, destroyed)
	}
	if ref := acquire("a", "new"); ref.Loaded || ref.Value.name != "new" {
		t.Errorf("got %+v", ref)
	}
	if err := (*pool.Ref[*thing])(nil).Release(); err != nil {
		t.Error(err)
	}
}

func namesOf(p *pool.Pool[*thing]) (names []string) {
	for _, v := range p.Values() {
		names = append(names, v.name)
	}
	slices.Sort(names)
	return names
}

// A value that could not be made leaves nothing behind; the error of the end of
// one is returned.
func TestErrors(t *testing.T) {
	failed := errors.New("failed")
	p := pool.New(func(int) error { return failed })
	if ref, err := p.Acquire("a", func() (int, error) { return 0, failed }); ref != nil || !errors.Is(err, failed) {
		t.Errorf("got %v and %v", ref, err)
	}
	if len(p.Values()) > 0 {
		t.Error("there is a value")
	}
	ref, err := p.Acquire("a", func() (int, error) { return 1, nil })
	if err != nil || ref.Loaded {
		t.Fatalf("got %+v and %v", ref, err)
	}
	if err := ref.Release(); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if ref, err := pool.New[int](nil).Acquire("a", func() (int, error) { return 1, nil }); err != nil || ref.Release() != nil {
		t.Errorf("without an end: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	var mu sync.Mutex
	made, destroyed := 0, 0
	p := pool.New(func(int) error {
		mu.Lock()
		defer mu.Unlock()
		destroyed++
		return nil
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				ref, err := p.Acquire("a", func() (int, error) {
					mu.Lock()
					defer mu.Unlock()
					made++
					return made, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				if err := ref.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if made == 0 || made != destroyed || len(p.Values()) > 0 {
		t.Errorf("made %d, destroyed %d, left %d", made, destroyed, len(p.Values()))
	}
}
