// Package pubsub receives what is published in Redis. It is used in place of the
// channels of go-redis, whose goroutine nobody can guard: it panics, and ends the
// process, when a server answers a subscription with another type than expected. What
// Sentinels publish is read by go-redis itself.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// checkEvery is how long a subscription is without a message before it is checked.
	checkEvery = 3 * time.Second
	// checkTimeout bounds one check.
	checkTimeout = 5 * time.Second
	// retryAfter is the wait between a failure and the next subscription. It doubles up to
	// maxRetry while the server refuses, as for a user without the permission.
	retryAfter = 100 * time.Millisecond
	maxRetry   = 10 * time.Second
)

// Listen subscribes to a channel and calls receive with each message, in the order in
// which they arrive, until the context ends. After a failure it subscribes again;
// messages that are published meanwhile are lost.
func Listen(ctx context.Context, client redis.UniversalClient, channel string, receive func(payload string)) {
	for wait := retryAfter; ; {
		err := subscribe(ctx, client, channel, receive)
		timer := time.NewTimer(wait)
		if _, refused := errors.AsType[redis.Error](err); refused {
			wait = min(2*wait, maxRetry)
		} else {
			wait = retryAfter
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// subscribe listens until a failure. One of the connection is left to go-redis, which
// subscribes again.
func subscribe(ctx context.Context, client redis.UniversalClient, channel string, receive func(payload string)) error {
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
	for failed := false; ; {
		message, err := next(ctx, sub)
		if err != nil {
			if _, refused := errors.AsType[redis.Error](err); failed || refused {
				return err
			}
			failed = true
			continue
		}
		failed = false
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
			_ = sub.Close()
			err = fmt.Errorf("redis: unexpected reply to a subscription: %v", p)
		}
	}()
	return sub.Receive(ctx)
}

// check closes a subscription whose server does not answer any more: nothing else
// shows that a connection is gone without a word.
func check(ctx context.Context, sub *redis.PubSub, heard <-chan struct{}) {
	timer := time.NewTimer(checkEvery)
	defer timer.Stop()
	for asked := false; ; timer.Reset(checkEvery) {
		select {
		case <-heard:
			asked = false
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-heard: // at the same time
			asked = false
			continue
		default:
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
