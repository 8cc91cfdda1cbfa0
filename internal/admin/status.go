package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/healthcheck"
	"github.com/pythopus/tentagate/internal/version"
)

// statusURI is the endpoint of the status.
const statusURI = "/tentagate/status"

// part is what a feature says about itself.
type part struct {
	// status returns what is encoded as JSON.
	status func() any
	// show prints that JSON as a table.
	show func(w io.Writer, status json.RawMessage) error
	// example is of the type that status returns.
	example any
}

var (
	partsMu sync.Mutex
	parts   = map[string]part{} // guarded by partsMu
)

// RegisterStatus adds a part to the status of the gateway, under a name that is
// unique among the features. status must not wait; it may be called at any time, and
// by several goroutines. show prints the part for `tentagate status`, as a table
// whose columns end with tabs. It is called from init.
func RegisterStatus[T any](name string, status func() T, show func(w io.Writer, status T) error) {
	partsMu.Lock()
	defer partsMu.Unlock()
	if _, taken := parts[name]; taken {
		panic("admin: a status " + name + " is registered already")
	}
	var example T
	parts[name] = part{
		status:  func() any { return status() },
		example: example,
		show: func(w io.Writer, text json.RawMessage) error {
			var v T
			if err := json.Unmarshal(text, &v); err != nil {
				return fmt.Errorf("reading the gateway's answer: %s: %w", name, err)
			}
			return show(w, v)
		},
	}
}

// started is when this process began.
var started = time.Now()

// process is what the status says about the process.
type process struct {
	Version string    `json:"version"`
	Caddy   string    `json:"caddy"`
	Started time.Time `json:"started"`
	// Uptime is in seconds.
	Uptime float64 `json:"uptime_seconds"`
}

func init() {
	RegisterAPI("status", Endpoint{Pattern: statusURI, Serve: serveStatus, Operations: []Operation{
		{Method: http.MethodGet, Summary: "The status of the gateway and of each feature", Answer: statusExample{}},
	}})
	RegisterStatus("process", func() process {
		caddyVersion, _ := caddy.Version()
		return process{cmp.Or(version.Of(), "devel"), caddyVersion, started.UTC(), time.Since(started).Round(time.Millisecond).Seconds()}
	}, func(w io.Writer, p process) error {
		_, err := fmt.Fprintf(w, "VERSION\tCADDY\tUPTIME\n%s\t%s\t%s\n", p.Version, p.Caddy, Seconds(p.Uptime))
		return err
	})
	RegisterStatus("checks", healthcheck.All, printChecks)
	Register(Command{
		Name:  "status",
		Usage: "[--watch[=<interval>]]",
		Short: "Shows the status of a running gateway",
		Long: `
Shows the state of the gateway: version and uptime, configuration, services and the
health of their upstreams, circuit breakers, limits, the cache, keys of identity
providers, revocations, API documents, and Redis.

--watch repeats it every 2 seconds, or at another interval, until it is interrupted. A
gateway that does not answer meanwhile is reported.`,
		Examples: []string{"status", "status --json", "status --watch=5s"},
		Args:     cobra.NoArgs,
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().Duration("watch", 0, "Show the status again at this interval (default with the flag alone: 2s)")
			cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
		},
		Run: runStatus,
	})
}

func printChecks(w io.Writer, all map[string][]healthcheck.Check) error {
	fmt.Fprintln(w, "CHECK\tSTATUS\tOUTPUT")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, c := range all[name] {
			fmt.Fprintf(w, "%s\t%s\t%s\n", name, c.Status, cmp.Or(c.Output, "-"))
		}
	}
	return nil
}

// Seconds writes a number of seconds as a duration that is short to read.
func Seconds(n float64) string {
	d := time.Duration(n * float64(time.Second))
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	return d.Round(time.Millisecond).String()
}

func registered() map[string]part {
	partsMu.Lock()
	defer partsMu.Unlock()
	return maps.Clone(parts)
}

// Status returns the parts of the status with these names, as JSON. Parts that are not
// registered are left out.
func Status(names ...string) map[string]json.RawMessage {
	all, status := registered(), make(map[string]json.RawMessage, len(names))
	for _, name := range names {
		if p, ok := all[name]; ok {
			if text, err := json.Marshal(p.status()); err == nil {
				status[name] = text
			}
		}
	}
	return status
}

func serveStatus(w http.ResponseWriter, _ *http.Request) error {
	status := map[string]any{}
	for name, p := range registered() {
		status[name] = p.status()
	}
	return JSON(w, status)
}

// leastWatch is the shortest interval of --watch.
const leastWatch = 100 * time.Millisecond

func runStatus(cmd *cobra.Command, _ []string) error {
	show := func() error { return Do(cmd, http.MethodGet, statusURI, nil, printStatus) }
	interval, _ := cmd.Flags().GetDuration("watch")
	if !cmd.Flags().Changed("watch") {
		return show()
	}
	if interval < leastWatch {
		return fmt.Errorf("--watch: %s is not an interval of at least %s", interval, leastWatch)
	}
	// The configuration is read once.
	at, err := address(cmd.Flags())
	if err != nil {
		return err
	}
	if err := cmd.Flags().Set("address", at); err != nil {
		return err
	}
	if err := show(); err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-interrupted:
			return nil
		case <-cmd.Context().Done():
			return nil
		case now := <-tick.C:
			if raw, _ := cmd.Flags().GetBool("json"); !raw {
				clearScreen(cmd.OutOrStdout(), now)
			}
			if err := show(); err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "Error:", err)
			}
		}
	}
}

// clearScreen makes room for the next status on a terminal, and elsewhere sets it
// apart by the time.
func clearScreen(w io.Writer, now time.Time) {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(w, "\x1b[H\x1b[2J")
			return
		}
	}
	fmt.Fprintf(w, "\n%s\n\n", now.Format(time.RFC3339))
}

// printStatus prints each part that this program knows.
func printStatus(w io.Writer, status map[string]json.RawMessage) error {
	known := registered()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(status)), func(name string) bool { return name == "process" || known[name].show == nil })
	for i, name := range slices.Insert(names, 0, "process") {
		text, ok := status[name]
		if !ok || slices.Contains([]string{"null", "[]", "{}"}, string(text)) && name != "redis" {
			continue // there is nothing of it
		}
		if i > 0 {
			// A line without tabs ends the columns of the part before.
			fmt.Fprintf(w, "\n%s\n", name)
		}
		if err := known[name].show(w, text); err != nil {
			return err
		}
	}
	return nil
}

// statusExample stands for the status, whose members are the parts, in the OpenAPI
// document.
type statusExample struct{}

func statusSchema() object {
	properties := object{}
	for name, p := range registered() {
		properties[name] = schema(reflect.TypeOf(p.example))
	}
	return object{"type": "object", "properties": properties}
}
