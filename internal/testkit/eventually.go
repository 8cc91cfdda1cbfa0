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
// brings about. It fails the test if that does not happen.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(timeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %s", what, timeout)
		}
	}
}
