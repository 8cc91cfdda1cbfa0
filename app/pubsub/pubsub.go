// Package pubsub receives what is published in Redis. It is used in place of the
// channels of go-redis, whose goroutine nobody can guard: it panics, and ends the
// process, when a server answers a subscription with another type than expected.
package pubsub

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// checkEvery is how often a subscription without messages is checked.
	checkEvery = 3 * time.Second
	// checkTimeout bounds one check.
	checkTimeout = 5 * time.Second
	// retryAfter is the wait between a failure and the next subscription.
	retryAfter = 100 * time.Millisecond
)

// Listen subscribes to a channel and calls receive with each message, in the order in
// which they arrive, until the context ends. After a failure it subscribes again;
// messages that are published meanwhile are lost.
func Listen(ctx context.Context, client redis.UniversalClient, channel string, receive func(payload string)) {
	for {
		subscribe(ctx, client, channel, receive)
		timer := time.NewTimer(retryAfter)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// subscribe listens until the first failure.
func subscribe(ctx context.Context, client redis.UniversalClient, channel string, receive func(payload string)) {
	sub := client.Subscribe(ctx, channel)
	var watch sync.WaitGroup
	defer watch.Wait()
	watched, end := context.WithCancel(ctx)
	defer end()
	// Closing the subscription is what ends a read that has no deadline.
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer func() {
		stop()
		_ = sub.Close()
	}()
	heard := make(chan struct{}, 1)
	watch.Go(func() { check(watched, sub, heard) })
	for {
		message, err := next(ctx, sub)
		if err != nil {
			return
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if m, ok := message.(*redis.Message); ok {
			receive(m.Payload)
		}
	}
}

// next waits for a message or another reply. It returns an error where go-redis
// panics.
func next(ctx context.Context, sub *redis.PubSub) (message any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("redis: unexpected reply to a subscription: %v", p)
		}
	}()
	return sub.Receive(ctx)
}

// check closes a subscription whose server does not answer any more: nothing else
// shows that a connection is gone without a word.
func check(ctx context.Context, sub *redis.PubSub, heard <-chan struct{}) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for asked := false; ; {
		select {
		case <-heard:
			asked = false
			continue
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		if asked || sub.Ping(limited) != nil {
			cancel()
			_ = sub.Close()
			return
		}
		cancel()
		asked = true
	}
}
