package exchange

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/pythopus/tentagate/breaker/internal/registry"
)

// A client is to blame only if the exchange waited for it long, and most of the
// time.
func TestDelayedByClient(t *testing.T) {
	for _, tc := range []struct {
		client, total time.Duration
		want          bool
	}{
		{0, 0, false},
		{0, time.Hour, false},
		{999 * time.Millisecond, time.Second, false},
		{time.Second, time.Second, true},
		{time.Second, 2 * time.Second, false},
		{30 * time.Second, 59 * time.Second, true},
		{30 * time.Second, 61 * time.Second, false},
	} {
		if got := delayedByClient(tc.client, tc.total); got != tc.want {
			t.Errorf("%s of %s: %v", tc.client, tc.total, got)
		}
	}
}

// onRead is a body that does something when it is read.
type onRead func()

func (f onRead) Read([]byte) (int, error) { f(); return 0, io.EOF }
func (onRead) Close() error               { return nil }

// The time of reads counts, that of the one under way too, and no other.
func TestWaited(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	registry.SetClock(mock)
	var b Body
	b.ReadCloser = onRead(func() {
		mock.Add(3 * time.Second)
		if got := b.Waited(); got != 3*time.Second {
			t.Errorf("within the read: %s", got)
		}
	})
	_, _ = b.Read(nil)
	mock.Add(time.Minute)
	if got := b.Waited(); got != 3*time.Second || b.Failed() {
		t.Errorf("%s, failed %v", got, b.Failed())
	}
	b.ReadCloser = io.NopCloser(io.MultiReader(strings.NewReader("x"), broken{}))
	_, _ = io.ReadAll(&b)
	if !b.Failed() {
		t.Error("an error of the client is not noted")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
