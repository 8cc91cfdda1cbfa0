// Command httpcache compares what a cached answer costs: TentaGate's memory and
// Redis tiers, Caddy's own static `respond` with the same body and fields, nginx
// and Varnish. All run on this machine, on loopback, one at a time, in turns.
//
//	go run ./bench/httpcache
//
// It needs redis-server, nginx and varnishd for their rows, and says which of
// them it has to leave out. What is compared is the time that the processor
// spends in the server (user and system, all its processes) for one request:
// unlike throughput it does not depend on how much the client takes.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	rounds  = flag.Int("rounds", 5, "how often each server has its turn")
	turn    = flag.Duration("turn", time.Second, "how long a turn is")
	conns   = flag.Int("conns", 16, "connections at once")
	only    = flag.String("only", "", "regular expression of the rows to measure, default all")
	objects = flag.String("objects", "1000,10000,100000", "numbers of objects to read from at random, separated by commas")
	bin     = flag.String("bin", "", "a TentaGate binary, default: built")
	profile = flag.String("profile", "", "write a processor profile of the memory tier's server to this file")
)

// row is one thing to measure.
type row struct {
	name   string
	server *server
	// paths are what is asked for, at random.
	paths []string
	size  int
	// baseline is the row to compare with.
	baseline string
	expect   string // in the header of each answer

	results []result
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "httpcache:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "tentagate-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *bin == "" {
		*bin = filepath.Join(dir, "tentagate")
		if out, err := exec.Command("go", "build", "-o", *bin, "./cmd/tentagate").CombinedOutput(); err != nil {
			return fmt.Errorf("building the server, from the root of the source tree: %w\n%s", err, out)
		}
	}
	l := &lab{dir: dir}
	defer l.stop()
	rows, err := plan(l)
	if err != nil {
		return err
	}
	if *only != "" {
		wanted, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r *row) bool { return !wanted.MatchString(r.name) && !isBaseline(rows, r, wanted) })
	}
	for _, r := range rows {
		if err := r.fill(); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	for i := range *rounds {
		for _, r := range rows {
			if *profile != "" && i == 0 && r.name == "memory, 1 KiB" {
				go l.profile(r.server, *profile)
			}
			one, err := r.measure()
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			r.results = append(r.results, one)
		}
	}
	report(rows)
	return nil
}

func isBaseline(rows []*row, r *row, wanted *regexp.Regexp) bool {
	return slices.ContainsFunc(rows, func(o *row) bool { return o.baseline == r.name && wanted.MatchString(o.name) })
}

// plan starts the servers and lists what to measure.
func plan(l *lab) ([]*row, error) {
	l.startOrigin()
	const kib, large = 1 << 10, 100 << 10
	respond, err := l.startCaddy("respond", respondConfig(kib, large), "")
	if err != nil {
		return nil, err
	}
	cached := func(options string) string {
		return "http_cache {\n memory 4GiB\n " + options + "\n}\nreverse_proxy " + l.origin + "\n"
	}
	tentagate, err := l.startCaddy("memory", cached(""), "")
	if err != nil {
		return nil, err
	}
	rows := []*row{
		{name: "respond, 1 KiB", server: respond, paths: []string{"/1024"}, size: kib},
		{name: "memory, 1 KiB", server: tentagate, paths: []string{"/1024"}, size: kib, baseline: "respond, 1 KiB", expect: "tentagate; hit"},
		{name: "respond, 100 KiB", server: respond, paths: []string{"/102400"}, size: large},
		{name: "memory, 100 KiB", server: tentagate, paths: []string{"/102400"}, size: large, baseline: "respond, 100 KiB", expect: "tentagate; hit"},
	}
	if address, ok := l.startRedis(); ok {
		second, err := l.startCaddy("redis", cached("store redis"), address)
		if err != nil {
			return nil, err
		}
		// Several objects: requests for one at the same time share a look-up.
		spread := func(size int) (paths []string) {
			for i := range 256 {
				paths = append(paths, fmt.Sprintf("/%d/%d", size, i))
			}
			return paths
		}
		rows = append(rows,
			&row{name: "redis, 1 KiB", server: second, paths: spread(kib), size: kib, baseline: "respond, 1 KiB", expect: "tentagate; hit"},
			&row{name: "redis, 100 KiB", server: second, paths: spread(large), size: large, baseline: "respond, 100 KiB", expect: "tentagate; hit"})
	}
	for _, peer := range []func() (*server, bool){l.startNginx, l.startVarnish} {
		if s, ok := peer(); ok {
			rows = append(rows,
				&row{name: s.name + ", 1 KiB", server: s, paths: []string{"/1024"}, size: kib, baseline: "respond, 1 KiB"},
				&row{name: s.name + ", 100 KiB", server: s, paths: []string{"/102400"}, size: large, baseline: "respond, 100 KiB"})
		}
	}
	first := ""
	for text := range strings.SplitSeq(*objects, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			continue
		}
		paths := make([]string, n)
		for i := range paths {
			paths[i] = "/1024/" + strconv.Itoa(n) + "/" + strconv.Itoa(i)
		}
		name := fmt.Sprintf("memory, %d objects of 1 KiB", n)
		rows = append(rows, &row{name: name, server: tentagate, paths: paths, size: kib, baseline: first, expect: "tentagate; hit"})
		if first == "" {
			first = name
		}
	}
	return rows, nil
}

// report prints the medians of all turns as a table.
func report(rows []*row) {
	median := func(r *row, f func(result) float64) float64 {
		var list []float64
		for _, one := range r.results {
			list = append(list, f(one))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	cpu := func(r *row) float64 { return median(r, func(o result) float64 { return o.cpu }) }
	fmt.Printf("\n%s, %d processors, %s; %d connections, %d turns of %v, medians\n\n", cpuName(), runtime.NumCPU(), runtime.Version(), *conns, *rounds, *turn)
	fmt.Println("| what | CPU per request | compared with | requests/s | p50 | p99 |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, r := range rows {
		compared := "–"
		for _, b := range rows {
			if b.name == r.baseline && b != r {
				// Of turns next to each other: the machine may have other things to do.
				var ratios []float64
				for i := range r.results {
					ratios = append(ratios, r.results[i].cpu/b.results[i].cpu)
				}
				slices.Sort(ratios)
				compared = fmt.Sprintf("%.2f × %s", ratios[len(ratios)/2], b.name)
			}
		}
		fmt.Printf("| %s | %.1f µs | %s | %.0f | %v | %v |\n", r.name, cpu(r), compared, median(r, func(o result) float64 { return o.rate }),
			time.Duration(median(r, func(o result) float64 { return float64(o.p50) })).Round(time.Microsecond),
			time.Duration(median(r, func(o result) float64 { return float64(o.p99) })).Round(time.Microsecond))
	}
}

func cpuName() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
