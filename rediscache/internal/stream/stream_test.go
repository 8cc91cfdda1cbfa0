package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// read returns how many bytes the reader gets, and with which error it ends.
func read(r *Reader) (n int, err error) {
	for {
		chunk, err := r.Next(nil)
		if err != nil {
			return n, err
		}
		n += len(chunk)
	}
}

// A reader of a response that is not kept is waited for while nobody else reads it, and
// as long as it is not much slower than others.
func TestSlowReaders(t *testing.T) {
	const size = 1000 * window
	for name, tc := range map[string]struct {
		slow, fast time.Duration // for a window, 0: nobody
		cut        bool
	}{
		"alone":                  {time.Hour, 0, false},
		"among its like":         {time.Hour, time.Hour, false},
		"a little slower":        {1900 * time.Millisecond, time.Second, false},
		"much slower":            {2100 * time.Millisecond, time.Second, true},
		"reads now and then":     {9 * time.Second, time.Millisecond, true},
		"reads nothing for long": {time.Hour, time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(1, -1, nil, nil)
				s.limit = window
				s.over = true
				got := make(chan error, 2)
				follow := func(pause time.Duration) {
					r, n := s.Follow(0), 0
					go func() {
						defer r.Close()
						for {
							chunk, err := r.Next(nil)
							if n += len(chunk); err != nil {
								if errors.Is(err, io.EOF) && n != size {
									err = io.ErrUnexpectedEOF
								}
								got <- err
								return
							}
							time.Sleep(pause * time.Duration(len(chunk)) / window)
						}
					}()
				}
				follow(tc.slow)
				readers := 1
				if tc.fast > 0 {
					readers++
					follow(tc.fast)
				}
				began := time.Now()
				for range size / (window / 8) {
					s.Write(make([]byte, window/8))
				}
				s.End(nil)
				took := time.Since(began)
				cut := 0
				for range readers {
					switch err := <-got; {
					case errors.Is(err, errTooSlow):
						cut++
					case !errors.Is(err, io.EOF):
						t.Error(err)
					}
				}
				if tc.cut != (cut == 1) || tc.cut != s.CutOff() {
					t.Errorf("%d were cut off", cut)
				}
				if alone := size / window * tc.fast; tc.cut && took > alone+time.Minute*4 {
					t.Errorf("took %v, and alone it takes %v", took, alone)
				}
			})
		})
	}
}

func TestBudget(t *testing.T) {
	b := &Budget{Limit: func() int64 { return minBudget }}
	const part = minBudget / 4
	content := bytes.Repeat([]byte("x"), part)
	whole, half := New(minBudget, 2*part, b, nil), New(minBudget, -1, b, nil)
	kept := half.Write(content)
	for range 2 {
		kept = whole.Write(content) && kept
	}
	if !kept || b.Used() != 3*part {
		t.Fatalf("what fits is not kept, %d bytes taken", b.Used())
	}
	// One that is announced, and one that is not, which do not fit: a follower gets
	// all of it.
	for _, expected := range []int64{2 * part, -1} {
		s := New(minBudget, expected, b, nil)
		follower := s.Follow(0)
		got := make(chan int)
		go func() {
			n, err := read(follower)
			if !errors.Is(err, io.EOF) {
				n = -1
			}
			got <- n
		}()
		first, second := s.Write(content), s.Write(content)
		if body, kept := s.End(nil); second || kept {
			t.Errorf("announced %d: kept %v %v %v, %d bytes", expected, first, second, kept, len(body))
		}
		if n := <-got; n != 2*part {
			t.Errorf("announced %d: a follower got %d bytes", expected, n)
		}
		if b.Used() != 3*part {
			t.Errorf("%d bytes taken afterwards", b.Used())
		}
	}
	// What has ended counts no more, whole or not.
	if _, kept := whole.End(nil); !kept || b.Used() != part {
		t.Errorf("kept %v, %d bytes taken", kept, b.Used())
	}
	half.End(ErrAborted)
	half.End(nil)
	if b.Used() != 0 {
		t.Errorf("%d bytes taken at the end", b.Used())
	}
}

// Readers begin where they want as long as that is there, and get the error of a
// response that broke off.
func TestFollow(t *testing.T) {
	idle := 0
	s := New(100, -1, nil, func() { idle++ })
	s.Write([]byte("first "))
	early, late := s.Follow(0), s.Follow(6)
	s.Write([]byte("second"))
	for r, want := range map[*Reader]string{early: "first second", late: "second"} {
		if chunk, err := r.Next(nil); string(chunk) != want || err != nil || !r.CaughtUp() {
			t.Errorf("got %q %v, want %q", chunk, err, want)
		}
	}
	if late.Close(); idle != 0 || !s.HasReaders() {
		t.Error("idle while somebody reads")
	}
	if early.Close(); idle != 1 || s.HasReaders() {
		t.Errorf("the last reader has gone: %d", idle)
	}
	gone := make(chan struct{})
	close(gone)
	waiting := s.Follow(12)
	if _, err := waiting.Next(gone); err == nil {
		t.Error("a client that is gone waits on")
	}
	s.End(ErrAborted)
	if _, err := waiting.Next(nil); !errors.Is(err, ErrAborted) {
		t.Errorf("a response that broke off ends with %v", err)
	}
	if waiting.Close(); idle != 1 {
		t.Error("idle after the end")
	}

	large := New(10, -1, nil, nil)
	if large.Write(make([]byte, 20)) || large.Follow(0) != nil {
		t.Error("what is no longer there is followed")
	}
	if _, kept := large.End(nil); kept {
		t.Error("more than the limit is kept")
	}
}
