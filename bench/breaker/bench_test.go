// Package breaker measures the engine of circuit_breaker beside other libraries.
// It is a module of its own, so that they do not become dependencies of the
// gateway, with a path below breaker, to which the engine is internal.
package breaker

import (
	"errors"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

var errBackend = errors.New("backend")

func ours(tb testing.TB) *circuit.Breaker {
	tb.Helper()
	b := circuit.New(circuit.Settings{
		Window: 10 * time.Second, Ratio: .5, MinRequests: 20, Consecutive: 5, OpenFor: time.Hour, OpenMax: time.Hour, Probes: 3,
	}, clock.New(), nil)
	tb.Cleanup(b.Close)
	return b
}

func sony() *gobreaker.TwoStepCircuitBreaker[any] {
	return gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: time.Hour,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= 5 || c.Requests >= 20 && 2*c.TotalFailures >= c.Requests
		},
	})
}

func failsafe() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(.5, 20, 10*time.Second).WithDelay(time.Hour).Build()
}

func BenchmarkAllowDone(b *testing.B) {
	b.Run("tentagate", func(b *testing.B) {
		breaker := ours(b)
		b.ReportAllocs()
		for b.Loop() {
			if p, _, ok := breaker.Allow(); ok {
				breaker.Done(p, circuit.Result{Outcome: circuit.Success, Latency: time.Millisecond})
			}
		}
	})
	b.Run("gobreaker", func(b *testing.B) {
		breaker := sony()
		b.ReportAllocs()
		for b.Loop() {
			if done, err := breaker.Allow(); err == nil {
				done(nil)
			}
		}
	})
	b.Run("failsafe", func(b *testing.B) {
		breaker := failsafe()
		b.ReportAllocs()
		for b.Loop() {
			if breaker.TryAcquirePermit() {
				breaker.RecordSuccess()
			}
		}
	})
}

func BenchmarkReject(b *testing.B) {
	b.Run("tentagate", func(b *testing.B) {
		breaker := ours(b)
		for range 5 {
			p, _, _ := breaker.Allow()
			breaker.Done(p, circuit.Result{Outcome: circuit.Failure})
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok := breaker.Allow(); ok {
				b.Fatal("it is not open")
			}
		}
	})
	b.Run("gobreaker", func(b *testing.B) {
		breaker := sony()
		for range 5 {
			if done, err := breaker.Allow(); err == nil {
				done(errBackend)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := breaker.Allow(); err == nil {
				b.Fatal("it is not open")
			}
		}
	})
	b.Run("failsafe", func(b *testing.B) {
		breaker := failsafe()
		breaker.Open()
		b.ReportAllocs()
		for b.Loop() {
			if breaker.TryAcquirePermit() {
				b.Fatal("it is not open")
			}
		}
	})
}
