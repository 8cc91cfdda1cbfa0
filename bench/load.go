package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is what the client asks for.
type load struct {
	// path is what is asked for. With `%d` it is a number below paths, at random, or,
	// if paths is 0, one that was not asked for before.
	path  string
	paths int
	// keys is how many values the field X-Key has, at random; 0: there is none.
	keys int
	// token is the algorithm of the bearer token; empty: there is none.
	token string
	// body is the size of the content of a POST; 0: the requests are GET.
	body int
	// http2 asks by h2load over HTTP/2 with TLS.
	http2 bool
	// conns is the number of connections; 0 is 32.
	conns int
	// refused: the responses are refusals.
	refused bool
	// rate is how many requests are sent a second; 0: as many as are answered.
	rate float64
	// warm asks for each path, or with each key, once before it is measured.
	warm bool
}

// run asks for the duration, and returns what the client measured.
func (c *load) run(ctx context.Context, l *lab, s *server, d time.Duration) (sample, int64, error) {
	if c.http2 {
		return c.h2load(ctx, l, s, d)
	}
	if c.rate > 0 {
		return c.paced(ctx, l, s, d)
	}
	return c.wrk(ctx, l, s, d, c.script(l.started))
}

// fill asks for each path, or with each key, once.
func (c *load) fill(ctx context.Context, l *lab, s *server) error {
	n := max(c.paths, c.keys)
	if !c.warm || n == 0 {
		return nil
	}
	for from := 0; from < n; {
		progress("filling: %d of %d", from, n)
		script := fmt.Sprintf("local i = %d\nlocal function pick() i = (i + 1) %% %d return i end\n", from, n) + c.requests()
		_, requests, err := c.wrk(ctx, l, s, 3*time.Second, script)
		if err != nil {
			return err
		}
		from += int(requests)
	}
	return nil
}

// script is the Lua script of wrk.
func (c *load) script(seed int) string {
	pick := fmt.Sprintf("math.randomseed(%d)\nlocal function pick() return math.random(%d) - 1 end\n", seed, max(c.paths, c.keys, 1))
	if strings.Contains(c.path, "%d") && c.paths == 0 {
		pick = fmt.Sprintf("local i = %d\nlocal function pick() i = i + 1 return i end\n", time.Now().UnixNano()%1e9*1000)
	}
	return pick + c.requests()
}

// requests is the part of the script that makes the requests and prints the result.
func (c *load) requests() string {
	var b strings.Builder
	if c.body > 0 {
		fmt.Fprintf(&b, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", c.body)
	}
	switch {
	case c.keys > 0:
		fmt.Fprintf(&b, "function request() return wrk.format(nil, %q, {[\"X-Key\"] = \"client-\" .. pick(), [\"Authorization\"] = wrk.headers[\"Authorization\"]}) end\n", c.path)
	case strings.Contains(c.path, "%d"):
		before, after, _ := strings.Cut(c.path, "%d")
		fmt.Fprintf(&b, "function request() return wrk.format(nil, %q .. string.format(\"%%d\", pick()) .. %q) end\n", before, after)
	}
	b.WriteString(`function done(summary, latency)
	local e = summary.errors
	print(string.format("RESULT %d %d %d %d %d %d %d", summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
		latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`)
	return b.String()
}

var wrkResult = regexp.MustCompile(`RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)`)

func (c *load) wrk(ctx context.Context, l *lab, s *server, d time.Duration, script string) (sample, int64, error) {
	file, err := l.file("wrk.lua", script)
	if err != nil {
		return sample{}, 0, err
	}
	defer func() { _ = os.Remove(file) }()
	args := []string{"-t1", "-c" + strconv.Itoa(c.connections()), fmt.Sprintf("-d%ds", max(1, int(d.Seconds()))), "-s", file}
	if c.token != "" {
		token, err := l.token(c.token)
		if err != nil {
			return sample{}, 0, err
		}
		args = append(args, "-H", "Authorization: Bearer "+token)
	}
	scheme := "http"
	if s.tls {
		scheme = "https"
	}
	path := c.path
	if strings.Contains(path, "%d") {
		path = "/"
	}
	out, err := pinned(otherCPU, "wrk", append(args, scheme+"://"+s.addr+path)...).CombinedOutput()
	if err != nil {
		return sample{}, 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	m := wrkResult.FindSubmatch(out)
	if m == nil {
		return sample{}, 0, fmt.Errorf("wrk: no result in %q", out)
	}
	var v [8]int64
	for i := 1; i < len(v); i++ {
		v[i], _ = strconv.ParseInt(string(m[i]), 10, 64)
	}
	if v[1] == 0 {
		return sample{}, 0, fmt.Errorf("no response: %s\n%s", out, s.output)
	}
	if v[4] > 0 {
		return sample{}, 0, fmt.Errorf("%d connections failed or timed out", v[4])
	}
	return sample{
		Rate: float64(v[1]) / (float64(v[2]) / 1e6), BadStatus: v[3],
		P50: time.Duration(v[5]) * time.Microsecond, P99: time.Duration(v[6]) * time.Microsecond, P999: time.Duration(v[7]) * time.Microsecond,
	}, v[1], ctx.Err()
}

func (c *load) connections() int {
	return cmp.Or(c.conns, 32)
}

// h2load asks over HTTP/2. Its log has the status and the time of each request.
func (c *load) h2load(ctx context.Context, l *lab, s *server, d time.Duration) (sample, int64, error) {
	log := filepath.Join(l.dir, "h2load.log")
	defer func() { _ = os.Remove(log) }()
	args := []string{"-t1", "-c" + strconv.Itoa(c.connections()), "-m1", "-D", strconv.Itoa(max(1, int(d.Seconds()))), "--log-file=" + log}
	if c.token != "" {
		token, err := l.token(c.token)
		if err != nil {
			return sample{}, 0, err
		}
		args = append(args, "-H", "Authorization: Bearer "+token)
	}
	out, err := pinned(otherCPU, "h2load", append(args, "https://"+s.addr+c.path)...).CombinedOutput()
	if err != nil {
		return sample{}, 0, fmt.Errorf("h2load: %w: %s", err, out)
	}
	file, err := os.Open(log)
	if err != nil {
		return sample{}, 0, err
	}
	defer func() { _ = file.Close() }()
	var times []time.Duration
	bad := int64(0)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text()) // start, status, microseconds
		if len(f) < 3 {
			continue
		}
		if status, _ := strconv.Atoi(f[1]); status < 200 || status > 399 {
			bad++
		}
		took, _ := strconv.ParseInt(f[2], 10, 64)
		times = append(times, time.Duration(took)*time.Microsecond)
	}
	if len(times) == 0 {
		return sample{}, 0, errors.New("h2load: no response: " + string(out))
	}
	slices.Sort(times)
	n := len(times)
	return sample{Rate: float64(n) / d.Seconds(), BadStatus: bad, P50: times[n/2], P99: times[n*99/100], P999: times[n*999/1000]}, int64(n), ctx.Err()
}
