package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the result of a run, as it is written to results.json.
type report struct {
	Date      string            `json:"date"`
	Machine   string            `json:"machine"`
	Command   string            `json:"command"`
	Versions  map[string]string `json:"versions"`
	Rounds    int               `json:"rounds"`
	Turn      string            `json:"turn"`
	Missing   []string          `json:"not_installed,omitempty"`
	Groups    []*groupResult    `json:"groups"`
	Idle      []idleRow         `json:"idle,omitempty"`
	measuring *lab
}

func newReport(l *lab, o *options) *report {
	return &report{
		Date: time.Now().UTC().Format(time.DateOnly), Machine: machine(), Command: "go run ./bench " + strings.Join(os.Args[1:], " "),
		Versions: versions(l), Rounds: o.rounds, Turn: o.turn.String(), measuring: l,
	}
}

func (r *report) add(g *groupResult) { r.Groups = append(r.Groups, g) }

// markdown is the report as tables.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, %s; %d rounds of %s, one processor for each server, medians\n", r.Machine, r.Date, r.Rounds, r.Turn)
	for _, name := range []string{"tentagate", "caddy", "go", "nginx", "wrk"} {
		if v := r.Versions[name]; v != "" {
			fmt.Fprintf(&b, "%s %s; ", name, v)
		}
	}
	b.WriteString("\n")
	for _, g := range r.Groups {
		if len(g.Rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s\n\n| | CPU per request | ratio (least to greatest) | to reach | requests/s | p50 | p99 | p99.9 | memory | allocations |\n|---|---|---|---|---|---|---|---|---|---|\n", g.Name, g.What)
		for i, row := range g.Rows {
			fmt.Fprintf(&b, "| %s | %.1f µs | %s | %s | %.0f | %s | %s | %s | %.0f MiB | %s |\n", row.Name, row.median(func(s sample) float64 { return s.CPU }),
				ratioText(g, i), goalText(g, i), row.median(func(s sample) float64 { return s.Rate }),
				row.duration(func(s sample) time.Duration { return s.P50 }), row.duration(func(s sample) time.Duration { return s.P99 }),
				row.duration(func(s sample) time.Duration { return s.P999 }),
				row.median(func(s sample) float64 { return float64(s.Resident) })/(1<<20), mallocsText(row))
		}
	}
	if len(r.Idle) > 0 {
		b.WriteString(idleTable(r.Idle))
	}
	if r.Missing = r.measuring.missing; len(r.Missing) > 0 {
		fmt.Fprintf(&b, "\nNot installed, and left out: %s.\n", strings.Join(r.Missing, ", "))
	}
	return b.String()
}

func (r *row) duration(f func(sample) time.Duration) time.Duration {
	return time.Duration(r.median(func(s sample) float64 { return float64(f(s)) })).Round(10 * time.Microsecond)
}

func ratioText(g *groupResult, i int) string {
	if i == 0 {
		return "1"
	}
	list := g.Rows[i].ratios(g.Rows[0])
	return fmt.Sprintf("**%.2f** (%.2f to %.2f)", list[len(list)/2], list[0], list[len(list)-1])
}

// goalText says whether a ratio is reached.
func goalText(g *groupResult, i int) string {
	r := g.Rows[i]
	if r.Bar == 0 || i == 0 {
		return ""
	}
	ratio := r.ratio(g.Rows[0])
	text := fmt.Sprintf("≤ %.2f", r.Bar)
	met := ratio <= r.Bar
	if i := slices.IndexFunc(g.Rows, func(other *row) bool { return other.Name == r.Below }); i >= 0 {
		text += ", < " + r.Below
		met = met && ratio < g.Rows[i].ratio(g.Rows[0])
	}
	if met {
		return text + ": yes"
	}
	return text + ": no"
}

func mallocsText(r *row) string {
	if n := r.median(func(s sample) float64 { return s.Mallocs }); n > 0 {
		return fmt.Sprintf("%.0f", n)
	}
	return "–"
}

// write writes results.json and a chart for each group.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	for _, g := range r.Groups {
		if len(g.Rows) == 0 {
			continue
		}
		name := strings.NewReplacer(" ", "-", "/", "").Replace(strings.ToLower(g.Name)) + ".svg"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(chart(g, r)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// machine is the processor and how many there are.
func machine() string {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "model name"); ok {
				name = strings.Trim(value, " \t:\n")
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d processors", name, runtime.NumCPU())
}

// versions are those of what is measured and what measures.
func versions(l *lab) map[string]string {
	first := func(command string, args ...string) string {
		out, _ := exec.Command(command, args...).CombinedOutput() // some exit with 1
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	list := map[string]string{"go": runtime.Version(), "tentagate": first(l.bin, "version"), "caddy": first(l.stock, "version")}
	for command, arg := range map[string]string{"nginx": "-v", "wrk": "-v", "varnishd": "-V", "haproxy": "-v", "redis-server": "-v", "h2load": "--version", "traefik": "version", "krakend": "version"} {
		if _, err := exec.LookPath(command); err == nil {
			list[command] = first(command, arg)
		}
	}
	return list
}
