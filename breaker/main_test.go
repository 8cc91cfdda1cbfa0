package breaker

import (
	"os"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/pythopus/tentagate/breaker/registry"
)

// testClock is the time of all circuits in these tests.
var testClock = clock.NewMock()

func TestMain(m *testing.M) {
	testClock.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	registry.Clock = testClock
	os.Exit(m.Run())
}
