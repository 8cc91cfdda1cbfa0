package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// documentedSeries is a row of docs/metrics.md.
type documentedSeries struct {
	name, kind string
	labels     map[string][]string // and their values, if they are fixed
	query      string
}

var (
	metricsRow = regexp.MustCompile("(?m)^\\| `(tentagate_[a-z_]+)` \\| ([a-z]+) \\| (.*?) \\| .* \\| `(.*)` \\|$")
	labelEntry = regexp.MustCompile("^`([a-z_]+)`(?:: (.*))?$")
)

// documented reads docs/metrics.md.
func documented(t *testing.T) map[string]documentedSeries {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository(), "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]documentedSeries{}
	for _, m := range metricsRow.FindAllStringSubmatch(string(page), -1) {
		s := documentedSeries{name: m[1], kind: m[2], labels: map[string][]string{}, query: strings.ReplaceAll(m[4], `\|`, "|")}
		if _, twice := found[s.name]; twice {
			t.Errorf("%s has two rows", s.name)
		}
		if m[3] != "–" {
			for entry := range strings.SplitSeq(m[3], "; ") {
				l := labelEntry.FindStringSubmatch(entry)
				if l == nil {
					t.Fatalf("%s: %q is not a label with its values", s.name, entry)
				}
				s.labels[l[1]] = nil
				if l[2] != "" {
					s.labels[l[1]] = strings.Split(l[2], ", ")
				}
			}
		}
		found[s.name] = s
	}
	if rows := strings.Count(string(page), "\n| `tentagate_"); rows != len(found) {
		t.Errorf("%d of %d rows are in the form that the test reads", len(found), rows)
	}
	return found
}

// TestMetricsPage compares docs/metrics.md with what a gateway exports when every
// feature has been used.
func TestMetricsPage(t *testing.T) {
	exported, _ := scraped(t)
	pages := documented(t)
	for name, family := range exported {
		if !strings.HasPrefix(name, "tentagate_") {
			continue
		}
		row, ok := pages[name]
		if !ok {
			t.Errorf("docs/metrics.md does not have %s", name)
			continue
		}
		if kind := strings.ToLower(family.GetType().String()); kind != row.kind {
			t.Errorf("%s is a %s, but documented as a %s", name, kind, row.kind)
		}
		for _, m := range family.GetMetric() {
			row.check(t, m)
		}
	}
	for name, row := range pages {
		if exported[name] == nil {
			t.Errorf("docs/metrics.md has %s, which the gateway does not export", name)
		}
		if !strings.Contains(row.query, name) {
			t.Errorf("%s: the query %q is for something else", name, row.query)
		}
	}
}

// check compares the labels of a series with the documented ones.
func (s documentedSeries) check(t *testing.T, m *dto.Metric) {
	t.Helper()
	for _, l := range m.GetLabel() {
		values, ok := s.labels[l.GetName()]
		if !ok {
			t.Errorf("docs/metrics.md does not have the label %s of %s", l.GetName(), s.name)
		} else if values != nil && !slices.Contains(values, l.GetValue()) {
			t.Errorf("docs/metrics.md does not have the value %q of the label %s of %s", l.GetValue(), l.GetName(), s.name)
		}
	}
	if len(m.GetLabel()) != len(s.labels) {
		t.Errorf("%s has the labels %v, documented are %v", s.name, m.GetLabel(), s.labels)
	}
}

// TestPromlint checks our series against the conventions of Prometheus.
func TestPromlint(t *testing.T) {
	_, text := scraped(t)
	var ours strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "tentagate_") {
			ours.WriteString(line)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// promtool runs Prometheus' tool, which Debian has in the package prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on the PATH")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// checkQueries has promtool parse queries.
func checkQueries(t *testing.T, queries []string) {
	t.Helper()
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: queries\n    rules:\n")
	for _, query := range queries {
		rules.WriteString("      - record: a:query\n        expr: |-\n          " + strings.ReplaceAll(query, "\n", "\n          ") + "\n        labels:\n          n: \"" + strings.Repeat("x", strings.Count(rules.String(), "record")) + "\"\n")
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// TestMetricsPageQueries has Prometheus parse the queries of the page, and checks that
// what they ask for exists.
func TestMetricsPageQueries(t *testing.T) {
	exported, _ := scraped(t)
	var queries []string
	for _, row := range documented(t) {
		queries = append(queries, row.query)
		checkSeries(t, "docs/metrics.md", row.query, exported)
	}
	checkQueries(t, queries)
}

var (
	selector = regexp.MustCompile(`\b((?:tentagate|caddy|go|process)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)
	suffixes = []string{"_bucket", "_sum", "_count"}
)

// checkSeries checks that the series of a query, the labels by which it selects and those
// by which it groups are exported.
func checkSeries(t *testing.T, where, query string, exported map[string]*dto.MetricFamily) {
	t.Helper()
	any := map[string]bool{"le": true}
	plain := grouping.ReplaceAllString(query, "")
	found := selector.FindAllStringSubmatch(plain, -1)
	if len(found) == 0 {
		t.Errorf("%s: %s: it asks for no series", where, query)
	}
	for _, m := range found {
		family := exported[m[1]]
		for _, suffix := range suffixes {
			if base, ok := strings.CutSuffix(m[1], suffix); ok && family == nil {
				family = exported[base]
			}
		}
		if family == nil {
			t.Errorf("%s: %s: the gateway does not export %s", where, query, m[1])
			continue
		}
		labels := map[string]bool{}
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels[l.GetName()], any[l.GetName()] = true, true
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !labels[l[1]] && !ofTarget(l[1]) {
				t.Errorf("%s: %s: %s has no label %s", where, query, m[1], l[1])
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if label = strings.TrimSpace(label); !any[label] && !ofTarget(label) {
				t.Errorf("%s: %s: no series has the label %s", where, query, label)
			}
		}
	}
}

// ofTarget reports whether Prometheus adds the label to all series of a target.
func ofTarget(label string) bool {
	return slices.Contains([]string{"job", "instance", "namespace", "pod", "cluster"}, label)
}
