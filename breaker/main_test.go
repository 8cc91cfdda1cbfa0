package breaker

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/pythopus/tentagate/breaker/internal/registry"
)

// testClock is the time of all circuits in these tests.
var testClock = &countedClock{Mock: clock.NewMock()}

// countedClock counts how often it was read.
type countedClock struct {
	*clock.Mock
	asked atomic.Int64
}

func (c *countedClock) Now() time.Time {
	now := c.Mock.Now()
	c.asked.Add(1)
	return now
}

func (c *countedClock) Since(t time.Time) time.Duration {
	d := c.Mock.Since(t)
	c.asked.Add(1)
	return d
}

func TestMain(m *testing.M) {
	testClock.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	registry.SetClock(testClock)
	os.Exit(m.Run())
}
