// Package testkit is what tests have in common that needs nothing of Caddy. Those
// that run a Caddyfile use servertest, those with a Redis redistest.
package testkit

import (
	"testing"
	"time"
)

// timeout bounds a test that fails, not the code: machines may be busy.
const timeout = time.Minute

// Eventually waits until ok reports true, for what another goroutine or process
// brings about, and returns how long that took. It fails the test after a minute.
func Eventually(tb testing.TB, what string, ok func() bool) time.Duration {
	tb.Helper()
	begin := time.Now()
	for ; !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > timeout {
			tb.Fatalf("%s: not within %s", what, timeout)
		}
	}
	return time.Since(begin)
}
