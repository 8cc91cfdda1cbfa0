package rediscache

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
)

func TestRoom(t *testing.T) {
	r := &room{most: func() int64 { return leastRoom }}
	const part = leastRoom / 4
	content := bytes.Repeat([]byte("x"), part)
	whole, half := newStream(leastRoom, 2*part, r.share()), newStream(leastRoom, -1, r.share())
	kept := half.write(content)
	for range 2 {
		kept = whole.write(content) && kept
	}
	if !kept || r.used.Load() != 3*part {
		t.Fatalf("what there is room for is not kept, %d taken", r.used.Load())
	}
	// One that is announced, and one that is not, for which there is no room: who
	// follows gets all of it.
	for _, expected := range []int64{2 * part, -1} {
		s := newStream(leastRoom, expected, r.share())
		follower := s.follow(0)
		got := make(chan int)
		go func() {
			n := 0
			for {
				chunk, err := follower.next(nil)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						n = -1
					}
					got <- n
					return
				}
				n += len(chunk)
			}
		}()
		first, second := s.write(content), s.write(content)
		if body, kept := s.end(nil); second || kept {
			t.Errorf("announced %d: kept %v %v %v, %d bytes", expected, first, second, kept, len(body))
		}
		if n := <-got; n != 2*part {
			t.Errorf("announced %d: a follower got %d bytes", expected, n)
		}
		if r.used.Load() != 3*part {
			t.Errorf("%d taken afterwards", r.used.Load())
		}
	}
	// What has ended counts no more, whole or not.
	if _, kept := whole.end(nil); !kept || r.used.Load() != part {
		t.Errorf("kept %v, %d taken", kept, r.used.Load())
	}
	half.end(errAborted)
	if r.used.Load() != 0 {
		t.Errorf("%d taken at the end", r.used.Load())
	}
}

// What is forgotten without an end is given back all the same.
func TestRoomIsNotLost(t *testing.T) {
	r := &room{most: func() int64 { return leastRoom }}
	func() { newStream(leastRoom, -1, r.share()).write(make([]byte, 1000)) }()
	within(t, "the room", func() bool { runtime.GC(); return r.used.Load() == 0 })
}
