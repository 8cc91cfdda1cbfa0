// Package stage measures how long a request spends at each stage of the gateway.
package stage

import "time"

// Stage is a part of the way of a request.
type Stage uint8

// The stages, in the order in which a request passes them.
const (
	Other    Stage = iota // what belongs to none of the others
	Guard                 // guard and cors
	Auth                  // authentication
	Limit                 // rate limits
	Cache                 // look-ups in the cache, and waiting for another request of the same key
	Upstream              // the circuit breaker and the service, until the response header
	Response              // sending the response, from its header on

	Count = iota
)

var names = [Count]string{"other", "guard", "auth", "limit", "cache", "upstream", "response"}

// String returns the name of the stage in metrics and logs.
func (s Stage) String() string { return names[s] }

// Clock adds up the time of each stage of one request. Its zero value is stopped. It
// is for the goroutine of the request alone.
type Clock struct {
	began   time.Time
	last    time.Duration // since began, when the current stage was entered
	spent   [Count]time.Duration
	entered [Count]bool
	current Stage
	running bool
}

// Start starts the clock.
func (c *Clock) Start(now time.Time) {
	*c = Clock{began: now, running: true}
}

// Enter ends the current stage and begins another, or goes on with it. Once the
// response is being sent it stays at that.
func (c *Clock) Enter(s Stage) {
	if !c.running || c.current == s || c.current == Response {
		return
	}
	c.add(time.Since(c.began))
	c.current, c.entered[s] = s, true
}

func (c *Clock) add(now time.Duration) {
	c.spent[c.current] += now - c.last
	c.last = now
}

// Began returns when the clock was started.
func (c *Clock) Began() time.Time { return c.began }

// Stop ends the current stage and returns the time since Start.
func (c *Clock) Stop() time.Duration {
	if c.running {
		c.add(time.Since(c.began))
		c.running = false
	}
	return c.last
}

// Spent returns the time at a stage, and false if the request did not reach it.
func (c *Clock) Spent(s Stage) (time.Duration, bool) {
	return c.spent[s], c.entered[s]
}
