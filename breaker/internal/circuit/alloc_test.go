package circuit

import (
	"testing"
	"time"
)

// Neither what is let through nor what is refused allocates.
func TestAllocations(t *testing.T) {
	b, _ := newTest(t, Settings{Window: 10 * time.Second, Ratio: .5, MinRequests: 20, SlowRatio: .8, SlowOver: time.Second, OpenFor: time.Hour})
	if n := testing.AllocsPerRun(1000, func() { run(b, 1, Success) }); n != 0 {
		t.Errorf("a request that is let through allocates %v times", n)
	}
	b.Force(Open, time.Hour)
	if n := testing.AllocsPerRun(1000, func() { run(b, 1, Success) }); n != 0 {
		t.Errorf("a refusal allocates %v times", n)
	}
}
