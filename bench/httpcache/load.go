package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// result is what one turn gave.
type result struct {
	cpu      float64 // microseconds per request
	rate     float64 // requests per second
	p50, p99 time.Duration
}

// client is one connection. It does as little as it can: it shares the processors
// with the server.
type client struct {
	conn   net.Conn
	r      *bufio.Reader
	buf    []byte
	expect []byte
	size   int
}

func (r *row) dial() (*client, error) {
	conn, err := net.Dial("tcp", r.server.addr)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, r: bufio.NewReaderSize(conn, 128<<10), expect: []byte(r.expect), size: r.size}, nil
}

// get asks for a path and reads the whole answer. hit reports whether its header
// has what is expected.
func (c *client) get(path string) (hit bool, err error) {
	c.buf = append(c.buf[:0], "GET "...)
	c.buf = append(c.buf, path...)
	c.buf = append(c.buf, " HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"...)
	if _, err := c.conn.Write(c.buf); err != nil {
		return false, err
	}
	length := -1
	hit = len(c.expect) == 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return false, fmt.Errorf("%s: %s", path, line)
		case len(line) == 0:
			if length != c.size {
				return false, fmt.Errorf("%s: a body of %d bytes, want %d", path, length, c.size)
			}
			_, err := c.r.Discard(length)
			return hit, err
		case len(line) > 16 && bytes.EqualFold(line[:16], []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(line[16:])); err != nil {
				return false, err
			}
		case !hit && bytes.Contains(line, c.expect):
			hit = true
		}
	}
}

// sure is how many paths there may be for each to be asked for until it is
// served from the cache. Of more it is seen afterwards that the origin is not
// asked again.
const sure = 10_000

// fill has the cache keep what each path gives.
func (r *row) fill() error {
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for g := range 16 {
		wg.Go(func() {
			c, err := r.dial()
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = c.conn.Close() }()
			for i := g; i < len(r.paths); i += 16 {
				for tries := 0; ; tries++ {
					hit, err := c.get(r.paths[i])
					if err != nil || tries > 500 {
						errs <- errors.Join(err, fmt.Errorf("%s does not become a hit", r.paths[i]))
						return
					}
					if hit && tries > 0 || len(r.paths) > sure {
						break
					}
					if tries > 2 {
						time.Sleep(10 * time.Millisecond) // it is written behind the request's back
					}
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// measure has all connections ask for one turn.
func (r *row) measure() (result, error) {
	type share struct {
		took []time.Duration
		err  error
	}
	shares := make([]share, *conns)
	var wg sync.WaitGroup
	stop := time.Now().Add(*turn)
	began, before, asked := time.Now(), r.server.cpuTime(), r.server.lab.asked.Load()
	for g := range shares {
		s := &shares[g]
		wg.Go(func() {
			c, err := r.dial()
			if err != nil {
				s.err = err
				return
			}
			defer func() { _ = c.conn.Close() }()
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				at := time.Now()
				if at.After(stop) {
					return
				}
				_, err := c.get(r.paths[random.IntN(len(r.paths))])
				if err != nil {
					if !errors.Is(err, io.EOF) || len(s.took) == 0 {
						s.err = err
						return
					}
					_ = c.conn.Close()
					if c, err = r.dial(); err != nil { // nginx ends a connection after some requests
						s.err = err
						return
					}
					continue
				}
				s.took = append(s.took, time.Since(at))
			}
		})
	}
	wg.Wait()
	used, wall := r.server.cpuTime()-before, time.Since(began)
	var all []time.Duration
	for _, s := range shares {
		if s.err != nil {
			return result{}, s.err
		}
		all = append(all, s.took...)
	}
	if n := r.server.lab.asked.Load() - asked; n*100 > int64(len(all)) {
		return result{}, fmt.Errorf("the origin was asked %d times for %d answers", n, len(all))
	}
	slices.Sort(all)
	n := float64(len(all))
	return result{
		cpu: float64(used.Microseconds()) / n, rate: n / wall.Seconds(),
		p50: all[len(all)/2], p99: all[len(all)*99/100],
	}, nil
}
