package snapshot

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func newTestHub() (h *Hub, made, begun *int) {
	made, begun = new(int), new(int)
	return &Hub{Limit: 2, Interval: time.Second, Begin: func() { *begun++ }, Make: func(time.Time) []byte {
		*made++
		return []byte(strconv.Itoa(*made))
	}}, made, begun
}

// Events are made while somebody watches, and only then.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, made, begun := newTestHub()
		time.Sleep(time.Minute)
		if *made != 0 {
			t.Errorf("%d events for nobody", *made)
		}
		a, ok := h.Watch("")
		if !ok {
			t.Fatal("no stream")
		}
		if got := string(<-a.Events()); got != "1" {
			t.Errorf("event %s at once", got)
		}
		b, _ := h.Watch("")
		if got := string(<-b.Events()); got != "1" {
			t.Errorf("event %s for a second stream, want the latest", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if x, y := string(<-a.Events()), string(<-b.Events()); x != "2" || y != "2" {
			t.Errorf("events %s and %s", x, y)
		}
		if _, ok := h.Watch(""); ok {
			t.Error("a stream beyond the limit")
		}
		a.Close()
		a.Close()
		c, ok := h.Watch("")
		if !ok {
			t.Error("a stream that was closed counts")
		}
		c.Close()
		b.Close()
		synctest.Wait() // the goroutine ends: the test would not otherwise
		*made = 0
		time.Sleep(time.Minute)
		if *made != 0 || *begun != 1 {
			t.Errorf("%d events when nobody watches any more, begun %d times", *made, *begun)
		}
		d, _ := h.Watch("")
		<-d.Events()
		if *begun != 2 {
			t.Errorf("begun %d times", *begun)
		}
		d.Close()
	})
}

// Who is slow holds nobody up, and gets the latest event.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, made, _ := newTestHub()
		slow, _ := h.Watch("")
		fast, _ := h.Watch("")
		for i := range 10 {
			if got := string(<-fast.Events()); got != strconv.Itoa(i+1) {
				t.Fatalf("event %s, want %d", got, i+1)
			}
		}
		synctest.Wait()
		if got := string(<-slow.Events()); got != strconv.Itoa(*made) {
			t.Errorf("event %s, want the latest, %d", got, *made)
		}
		slow.Close()
		fast.Close()
	})
}

// Clients leave some streams to the operator, and one client some to the others.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _ := newTestHub()
		h.Limit, h.ClientLimit, h.PerClient = 4, 3, 2
		for i, want := range []struct {
			client string
			ok     bool
		}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}, {"", true}, {"", false}} {
			stream, ok := h.Watch(want.client)
			if ok != want.ok {
				t.Errorf("stream %d, of %q: %v", i, want.client, ok)
			}
			if ok {
				defer stream.Close()
			}
		}
	})
}

// An event that could not be made takes the place of none.
func TestNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, made, _ := newTestHub()
		h.Make = func(time.Time) []byte {
			if *made++; *made > 1 {
				return nil
			}
			return []byte("first")
		}
		a, _ := h.Watch("")
		defer a.Close()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b, _ := h.Watch("")
		defer b.Close()
		if x, y := string(<-a.Events()), string(<-b.Events()); x != "first" || y != "first" {
			t.Errorf("events %q and %q", x, y)
		}
		if event := <-a.Events(); event != nil { // wakes who reads
			t.Errorf("event %s", event)
		}
	})
}
