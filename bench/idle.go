package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// idleRow is what a server uses with so many clients that are connected and silent.
type idleRow struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
	// Used is the memory in use, after a collection, beyond that without connections.
	Used     float64 `json:"used_bytes"`
	Resident int64   `json:"resident_bytes"`
}

// idleSizes are how many connections there are.
var idleSizes = []int{1, 100, 10_000}

// measureIdle measures what idle client connections cost: each has had one request.
func measureIdle(ctx context.Context, l *lab) ([]idleRow, error) {
	var rows []idleRow
	for _, w := range []workload{
		{name: "stock Caddy, reverse_proxy alone", start: caddy(bare, stock), load: load{path: "/x"}},
		{name: "chain", start: caddy(chain, metrics), load: load{path: "/x", token: hs256Name}},
		{name: "the tentagate directive as shipped", start: caddy(directive(1)), load: load{path: "/api/s0/x", token: hs256Name}},
	} {
		progress("idle: %s", w.name)
		s, err := w.start(l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		list, err := w.idle(ctx, l, s)
		l.stopServers()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, list...)
	}
	return rows, nil
}

// idle opens more and more connections, and measures.
func (w *workload) idle(ctx context.Context, l *lab, s *server) ([]idleRow, error) {
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	text, err := w.load.text(l, s)
	if err != nil {
		return nil, err
	}
	before, err := s.used(ctx)
	if err != nil {
		return nil, err
	}
	var rows []idleRow
	for _, n := range idleSizes {
		for len(conns) < n && ctx.Err() == nil {
			conn, err := dialOnce(ctx, s.addr, text)
			if err != nil {
				return nil, fmt.Errorf("connection %d: %w", len(conns)+1, err)
			}
			conns = append(conns, conn)
		}
		used, err := s.used(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, idleRow{Name: w.name, Connections: n, Used: used - before, Resident: s.resident()})
	}
	return rows, ctx.Err()
}

// text is the request as it is sent.
func (c *load) text(l *lab, s *server) (string, error) {
	fields := ""
	if c.token != "" {
		token, err := l.token(c.token)
		if err != nil {
			return "", err
		}
		fields = "Authorization: Bearer " + token + "\r\n"
	}
	return "GET " + c.path + " HTTP/1.1\r\nHost: " + s.addr + "\r\n" + fields + "\r\n", nil
}

// dialOnce connects and has one request answered.
func dialOnce(ctx context.Context, addr, text string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, _, err := ask(conn, bufio.NewReader(conn), text); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ask sends a request, reads the response to its end, and returns its status and
// whether the connection ends with it.
func ask(conn net.Conn, in *bufio.Reader, text string) (status int, last bool, err error) {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, text); err != nil {
		return 0, true, err
	}
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return 0, true, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, err
}

// used is the memory in use, heap and stacks, after collections of the garbage: each
// halves a stack that has become too large.
func (s *server) used(ctx context.Context) (float64, error) {
	for range 6 {
		if err := s.collect(ctx); err != nil {
			return 0, err
		}
	}
	return s.metric(ctx, "go_memstats_heap_inuse_bytes") + s.metric(ctx, "go_memstats_stack_inuse_bytes"), nil
}

// collect has the server collect its garbage.
func (s *server) collect(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.metrics, "/metrics")+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", r.URL, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// idleTable is the result as a table.
func idleTable(rows []idleRow) string {
	var b strings.Builder
	b.WriteString("\nidle: client connections that had one request and are silent since\n\n| | connections | memory for each | resident memory |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %.1f KiB | %d MiB |\n", r.Name, r.Connections, r.Used/float64(r.Connections)/1024, r.Resident>>20)
	}
	return b.String()
}
