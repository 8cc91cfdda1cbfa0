package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// paced sends a number of requests a second, whether or not the responses come, for
// the duration. The time of a response is counted from when its request was due, so
// that waiting behind a slow one is seen.
func (c *load) paced(ctx context.Context, l *lab, s *server, d time.Duration) (sample, int64, error) {
	text, err := c.text(l, s)
	if err != nil {
		return sample{}, 0, err
	}
	between := time.Duration(float64(time.Second) / c.rate)
	total := int64(d / between)
	var next, bad atomic.Int64
	var all struct {
		sync.Mutex
		times []time.Duration
		errs  []error
	}
	began := time.Now()
	var workers sync.WaitGroup
	for range c.connections() {
		workers.Go(func() {
			var times []time.Duration
			err := eachOfConn(ctx, s.addr, func(conn net.Conn, in *bufio.Reader) (bool, error) {
				n := next.Add(1) - 1
				if n >= total {
					return false, nil
				}
				due := began.Add(time.Duration(n) * between)
				time.Sleep(time.Until(due))
				status, last, err := ask(conn, in, text)
				if err != nil {
					return false, err
				}
				if status != http.StatusOK {
					bad.Add(1)
				}
				times = append(times, time.Since(due))
				return !last, nil
			})
			all.Lock()
			defer all.Unlock()
			all.times, all.errs = append(all.times, times...), append(all.errs, err)
		})
	}
	workers.Wait()
	if err := errors.Join(all.errs...); err != nil {
		return sample{}, 0, err
	}
	n := len(all.times)
	if n == 0 {
		return sample{}, 0, fmt.Errorf("no request was sent in %s", d)
	}
	slices.Sort(all.times)
	return sample{
		Rate: float64(n) / time.Since(began).Seconds(), BadStatus: bad.Load(),
		P50: all.times[n/2], P99: all.times[n*99/100], P999: all.times[n*999/1000],
	}, int64(n), ctx.Err()
}

// eachOfConn connects, and calls f until it is done.
func eachOfConn(ctx context.Context, addr string, f func(net.Conn, *bufio.Reader) (bool, error)) error {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if more, err := f(conn, in); err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}
