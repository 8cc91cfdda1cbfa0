package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
)

// The public suite of tests for HTTP caches, and what of it counts.
const (
	suiteName    = "http-cache-tests"
	suiteVersion = "0.4.5"

	// What must pass of 136 and 93. The required test that cannot pass has the
	// service send a transfer coding that does not exist, which Go's client
	// refuses. Two of the optimal ones want an Expires without a comma to be
	// understood, which a required one forbids; the third wants a 304 to an
	// If-Modified-Since that is older than the response (RFC 9111 §4.3.2).
	wantRequired = 135
	wantOptimal  = 90
)

// corrections say which tests of the release to trust.
type corrections struct {
	Drop   []string          `json:"drop"`
	Invert []string          `json:"invert"`
	Kind   map[string]string `json:"kind"`
}

// suite is the installed suite.
type suite struct {
	dir   string              // of the package
	kinds map[string]string   // of each test that counts, by its id
	needs map[string][]string // the tests without which it says nothing
	fix   corrections
}

var installSuite = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = scratch
	}
	parent := filepath.Join(cache, "tentagate-tools")
	home := filepath.Join(parent, suiteName+"-"+suiteVersion)
	dir := filepath.Join(home, "node_modules", suiteName)
	if _, err := os.Stat(filepath.Join(dir, "cli.mjs")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	// It appears under its name when it is whole.
	fresh, err := os.MkdirTemp(parent, "new")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", fresh, "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", suiteName+"@"+suiteVersion)
	cmd.Dir = fresh
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install %s@%s: %w\n%s", suiteName, suiteVersion, err, out)
	}
	if err := os.Rename(fresh, home); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		}
	}
	return dir, nil
})

// loadSuite installs the suite; it skips the test where that is not possible.
func loadSuite(t *testing.T) *suite {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not on PATH", tool)
		}
	}
	file := filepath.Join(repository(), "..", "shared", "vectors", suiteName, "superseded.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("the corrections to the suite are not beside the repository: %v", err)
	}
	s := &suite{kinds: map[string]string{}, needs: map[string][]string{}}
	if err := json.Unmarshal(text, &s.fix); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if s.dir, err = installSuite(); err != nil {
		t.Fatal(err)
	}
	const list = `import(process.argv[1]).then(m => console.log(JSON.stringify(m.default.flatMap(s => s.tests.map(
		t => ({ID: t.id, Kind: t.kind || 'required', Browser: !!t.browser_only, Needs: t.depends_on || []}))))))`
	out, err := exec.Command("node", "--no-warnings", "-e", list, filepath.Join(s.dir, "tests", "index.mjs")).Output()
	if err != nil {
		t.Fatalf("reading the list of tests: %v", err)
	}
	var tests []struct {
		ID, Kind string
		Browser  bool
		Needs    []string
	}
	if err := json.Unmarshal(out, &tests); err != nil {
		t.Fatal(err)
	}
	for _, one := range tests {
		if one.Browser || slices.Contains(s.fix.Drop, one.ID) {
			continue
		}
		s.kinds[one.ID] = one.Kind
		s.needs[one.ID] = one.Needs
		if kind, ok := s.fix.Kind[one.ID]; ok {
			s.kinds[one.ID] = kind
		}
	}
	return s
}

// pin makes the suite's server listen on loopback alone; it listens on all
// addresses by itself.
const pin = `import net from 'node:net'
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function () { return listen.call(this, 0, '127.0.0.1') }
`

var listens = regexp.MustCompile(`Listening on http://(127\.0\.0\.1:\d+)/`)

// origin starts the suite's server and returns its address.
func (s *suite) origin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	preload := filepath.Join(dir, "pin.mjs")
	if err := os.WriteFile(preload, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--no-warnings", "--import", preload, "server/server.mjs")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "npm_config_protocol=http", "npm_config_port=0", "npm_config_pidfile="+filepath.Join(dir, "pid"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := make(chan string, 1)
	go func() {
		defer close(address)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	select {
	case addr, ok := <-address:
		if !ok {
			t.Fatal("the suite's server has ended")
		}
		return addr
	case <-time.After(30 * time.Second):
		t.Fatal("the suite's server does not listen")
	}
	return ""
}

// run runs the suite against the gateway at the address. It returns for each
// test that counts whether it passed, or why not.
func (s *suite) run(t *testing.T, addr string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "cli.mjs")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "npm_config_base=http://"+addr, "npm_config_id=", "npm_package_config_id=")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the suite: %v\n%s", err, tail(stderr.String(), 2000))
	}
	var results map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil {
		t.Fatalf("the suite's output: %v\n%s", err, tail(stdout.String(), 2000))
	}
	failed := map[string]string{}
	for id := range s.kinds {
		result, ran := results[id]
		if !ran {
			delete(s.kinds, id)
			continue
		}
		why := ""
		if passed, _ := result.(bool); !passed {
			why = fmt.Sprint(result)
		}
		// A test whose set-up failed says nothing, either way round.
		if slices.Contains(s.fix.Invert, id) && !strings.HasPrefix(why, "[Setup") {
			if why == "" {
				why = "it passed, but the release expects the opposite of the RFC"
			} else {
				why = ""
			}
		}
		failed[id] = why
	}
	for id, why := range failed {
		if need := s.unmet(id, failed); why == "" && need != "" {
			failed[id] = "it says nothing, for it depends on " + need
		}
	}
	return failed
}

// unmet returns a test that failed and that the test depends on.
func (s *suite) unmet(id string, failed map[string]string) string {
	for _, need := range s.needs[id] {
		if failed[need] != "" {
			return need
		}
		if further := s.unmet(need, failed); further != "" {
			return further
		}
	}
	return ""
}

// TestConformance runs the suite against the built binary three times: with
// the memory alone, with both tiers, and with Redis alone.
func TestConformance(t *testing.T) {
	s := loadSuite(t)
	for _, store := range []string{"memory", "both", "redis"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			s := &suite{dir: s.dir, kinds: cloned(s.kinds), needs: s.needs, fix: s.fix}
			redis := ""
			if store != "memory" {
				redis = "redis " + redistest.Start(t).URL() + " {\nbudget 5s\ntimeout 5s\ndial_timeout 5s\n}"
			}
			g := start(t, `{
				admin $ADMIN
				auto_https off
				tentagate {
					`+redis+`
				}
			}
			http://:$PORT {
				bind 127.0.0.1
				http_cache {
					profile rfc9111
					store `+store+`
				}
				reverse_proxy `+s.origin(t)+`
			}`)
			t.Cleanup(func() {
				if !t.Failed() {
					return
				}
				if resp, err := http.Get("http://" + g.admin + "/tentagate/cache/stats"); err == nil {
					defer resp.Body.Close()
					stats, _ := io.ReadAll(resp.Body)
					t.Logf("the tiers: %s", stats)
				}
			})
			var first map[string]string
			for n := range 3 {
				failed := s.run(t, g.addr)
				passed, counted := map[string]int{}, map[string]int{}
				var report []string
				for id, why := range failed {
					kind := s.kinds[id]
					counted[kind]++
					if why == "" {
						passed[kind]++
					} else if kind != "check" {
						report = append(report, kind+" "+id+": "+why)
					}
					if first != nil && (first[id] == "") != (why == "") {
						t.Errorf("%s %s is not stable: %q, then %q", kind, id, first[id], why)
					}
				}
				slices.Sort(report)
				t.Logf("run %d: required %d/%d, optimal %d/%d, check %d/%d\n%s", n+1, passed["required"], counted["required"],
					passed["optimal"], counted["optimal"], passed["check"], counted["check"], strings.Join(report, "\n"))
				if counted["required"] != 136 || counted["optimal"] != 93 {
					t.Errorf("%d required and %d optimal tests count, want 136 and 93", counted["required"], counted["optimal"])
				}
				if passed["required"] < wantRequired || passed["optimal"] < wantOptimal {
					t.Errorf("it passes %d required and %d optimal tests, want %d and %d", passed["required"], passed["optimal"], wantRequired, wantOptimal)
				}
				if first == nil {
					first = failed
				}
			}
		})
	}
}

func cloned(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	maps.Copy(c, m)
	return c
}
