package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// grafanaFile reads a file of grafana/.
func grafanaFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository(), "grafana", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dashboard is what is checked of the dashboard.
type dashboard struct {
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct {
			H, W, X, Y int
		} `json:"gridPos"`
		Targets []struct {
			Expr   string `json:"expr"`
			Legend string `json:"legendFormat"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
}

// variables are the dashboard's variables in a query, as Grafana fills them in.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$service", ".*", "$route", ".*", "$instance", ".*")

// Every query of the dashboard is valid, and asks for series and labels that a gateway
// exports.
func TestDashboard(t *testing.T) {
	exported, _ := scraped(t)
	var d dashboard
	if err := json.Unmarshal(grafanaFile(t, "tentagate.json"), &d); err != nil {
		t.Fatal(err)
	}
	var queries []string
	check := func(where, query string) {
		query = variables.Replace(query)
		if strings.Contains(query, "$") {
			t.Errorf("%s: %s: there is no such variable", where, query)
		}
		checkSeries(t, where, query, exported)
		queries = append(queries, query)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: position %+v", p.Title, p.GridPos)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s has no query", p.Title)
		}
		for _, target := range p.Targets {
			check("panel "+p.Title, target.Expr)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.Legend, -1) {
				if !strings.Contains(target.Expr, m[1]) {
					t.Errorf("panel %s: %s has no label %s", p.Title, target.Expr, m[1])
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		check("annotation", a.Expr)
	}
	for _, v := range d.Templating.List {
		if fields, ok := v.Query.(map[string]any); ok {
			text, _ := strings.CutPrefix(fmt.Sprint(fields["query"]), "label_values(")
			series, label, _ := strings.Cut(strings.TrimSuffix(text, ")"), ", ")
			checkSeries(t, "variable "+v.Name, "sum by ("+label+") ("+variables.Replace(series)+")", exported)
		}
	}
	if len(queries) < 40 {
		t.Errorf("only %d queries were found", len(queries))
	}
	checkQueries(t, queries)
}

// ruleFile is a file of rules.
type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Record      string            `json:"record"`
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

func rules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	if err := yaml.Unmarshal(grafanaFile(t, "rules.yaml"), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// The rules are valid, ask for what a gateway exports, and fire when they should.
func TestRules(t *testing.T) {
	exported, _ := scraped(t)
	recorded := map[string]bool{}
	used := regexp.MustCompile(`\btentagate:[a-z0-9_:]+`)
	for _, group := range rules(t).Groups {
		for _, rule := range group.Rules {
			recorded[rule.Record] = true
			names := used.FindAllString(rule.Expr, -1)
			for _, name := range names {
				if !recorded[name] {
					t.Errorf("%s: %s is not recorded before", rule.Alert, name)
				}
			}
			if len(names) == 0 {
				checkSeries(t, rule.Record+rule.Alert, rule.Expr, exported)
			}
			if rule.Alert != "" && (rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.Labels["severity"] == "") {
				t.Errorf("%s has no summary, description or severity", rule.Alert)
			}
		}
	}
	directory := filepath.Join(repository(), "grafana")
	promtool(t, "check", "rules", filepath.Join(directory, "rules.yaml"))
	promtool(t, "test", "rules", filepath.Join(directory, "rules_test.yaml"))
}

// azureGroups returns the rules as resources Microsoft.AlertsManagement/prometheusRuleGroups.
func azureGroups(t *testing.T) []map[string]any {
	t.Helper()
	var groups []map[string]any
	for _, group := range rules(t).Groups {
		if len(group.Rules) > 20 {
			t.Errorf("%s has %d rules; Azure accepts 20 in a group", group.Name, len(group.Rules))
		}
		var list []any
		for _, rule := range group.Rules {
			r := map[string]any{"enabled": true, "expression": rule.Expr}
			if rule.Record != "" {
				r["record"] = rule.Record
			} else {
				r["alert"], r["labels"], r["annotations"] = rule.Alert, rule.Labels, rule.Annotations
				r["severity"] = map[string]int{"critical": 1, "warning": 2}[rule.Labels["severity"]]
				wait := time.Duration(0)
				if rule.For != "" {
					var err error
					if wait, err = time.ParseDuration(rule.For); err != nil {
						t.Fatal(err)
					}
				}
				r["for"] = fmt.Sprintf("PT%dM", int(wait.Minutes()))
			}
			list = append(list, r)
		}
		groups = append(groups, map[string]any{
			"type": "Microsoft.AlertsManagement/prometheusRuleGroups", "apiVersion": "2023-03-01",
			"name": group.Name, "location": "[parameters('location')]",
			"properties": map[string]any{
				"enabled": true, "interval": "PT1M", "clusterName": "[parameters('clusterName')]",
				"scopes": []any{"[parameters('workspace')]", "[parameters('cluster')]"}, "rules": list,
			},
		})
	}
	return groups
}

// The template for Azure managed Prometheus has the rules of grafana/rules.yaml. With
// -update it is written.
func TestAzureRules(t *testing.T) {
	parameter := func(description string) map[string]any {
		return map[string]any{"type": "string", "metadata": map[string]any{"description": description}}
	}
	location := parameter("Location of the rule groups, that of the workspace")
	location["defaultValue"] = "[resourceGroup().location]"
	want := map[string]any{
		"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
		"parameters": map[string]any{
			"location": location, "workspace": parameter("Resource id of the Azure Monitor workspace"),
			"cluster": parameter("Resource id of the AKS cluster"), "clusterName": parameter("Name of the AKS cluster"),
		},
		"resources": azureGroups(t),
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(want); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(repository(), "k8s", "azure", "prometheus-rules.json")
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var have, expected any
	if json.Unmarshal(got, &have) != nil || json.Unmarshal(text.Bytes(), &expected) != nil || !reflect.DeepEqual(have, expected) {
		t.Error("k8s/azure/prometheus-rules.json is not grafana/rules.yaml: run go test ./integration -run TestAzureRules -update")
	}
	if slices.Contains(strings.Fields(string(got)), "null") {
		t.Error("a rule has no value")
	}
}
