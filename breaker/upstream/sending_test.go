package upstream

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pauses reads as much as wanted, after a pause each time.
type pauses time.Duration

func (p pauses) Read(b []byte) (int, error) { time.Sleep(time.Duration(p)); return len(b), nil }

func (pauses) Close() error { return nil }

// Once all of the body is read, the time for the answer is behind that for its last piece.
func TestSent(t *testing.T) {
	for left, end := range map[int64]error{-1: io.EOF, 10: nil} {
		for pause, want := range map[time.Duration]bool{119 * time.Second: false, 121 * time.Second: true} {
			synctest.Test(t, func(t *testing.T) {
				s := &sending{ReadCloser: io.NopCloser(strings.NewReader("0123456789")), limit: time.Minute, left: left, cancel: func() {}}
				buf := make([]byte, 20)
				_, err := s.Read(buf)
				if end != nil {
					_, err = s.Read(buf)
				}
				if !errors.Is(err, end) {
					t.Fatal(err)
				}
				time.Sleep(pause)
				if late := s.end(); late != want {
					t.Errorf("length %d, %s after the last piece: late %v", left, pause, late)
				}
			})
		}
	}
}

// The client may take its time, the upstream may not.
func TestSending(t *testing.T) {
	for name, tc := range map[string]struct {
		client, upstream time.Duration // pauses
		late             bool
	}{
		"a slow client":     {time.Hour, 59 * time.Second, false},
		"a slow upstream":   {0, 59 * time.Second, false},
		"a hung upstream":   {0, 61 * time.Second, true},
		"both are too slow": {time.Hour, 61 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				canceled := false
				s := &sending{ReadCloser: pauses(tc.client), limit: time.Minute, cancel: func() { canceled = true }}
				for range 3 {
					if _, err := io.ReadFull(s, make([]byte, 10)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(tc.upstream)
				}
				if late := s.end(); late != tc.late || canceled != tc.late {
					t.Errorf("late %v, canceled %v", late, canceled)
				}
				canceled = false
				_, _ = s.Read(make([]byte, 10)) // the upstream has answered, and reads on when it likes
				time.Sleep(time.Hour)
				if canceled {
					t.Error("canceled after the answer")
				}
			})
		})
	}
}
