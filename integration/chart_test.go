package integration

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// helmEnv names the helm binary that .ci/chart builds. Without it the tests that
// render the chart are skipped.
const helmEnv = "HELM_BIN"

func chartFile(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{repository(), "k8s"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What can be compared without helm: the Caddyfile, the version, and the values
// with their schema and the templates.
func TestChart(t *testing.T) {
	if !bytes.Equal(chartFile(t, "chart", "Caddyfile"), chartFile(t, "base", "Caddyfile")) {
		t.Error("k8s/chart/Caddyfile is not k8s/base/Caddyfile: copy it")
	}
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(chartFile(t, "chart", "Chart.yaml"), &chart); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(chartFile(t, "base", "kustomization.yaml")), "newTag: "+chart.AppVersion+"\n") {
		t.Errorf("the base does not have the chart's appVersion %s as newTag", chart.AppVersion)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(chartFile(t, "chart", "values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(chartFile(t, "chart", "values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	templates, err := filepath.Glob(filepath.Join(repository(), "k8s", "chart", "templates", "*"))
	if err != nil || len(templates) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	used := map[string]bool{}
	for _, file := range append(templates, filepath.Join(repository(), "k8s", "chart", "templates", "tests", "health.yaml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a folder
		}
		for _, m := range regexp.MustCompile(`\.Values\.([A-Za-z.]+)`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	var known []string
	for name, value := range values {
		property, ok := schema["properties"].(map[string]any)[name].(map[string]any)
		if !ok {
			t.Errorf("the schema does not know %s", name)
			continue
		}
		fields, closed := property["properties"].(map[string]any)
		if !closed {
			known = append(known, name)
			continue
		}
		group, _ := value.(map[string]any)
		if have, want := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(group)); !slices.Equal(have, want) {
			t.Errorf("%s: the schema has %v, values.yaml %v", name, have, want)
		}
		for field := range group {
			known = append(known, name+"."+field)
		}
	}
	slices.Sort(known)
	if have := slices.Sorted(maps.Keys(used)); !slices.Equal(have, known) {
		t.Errorf("the templates use %v\nvalues.yaml has %v", have, known)
	}
	if len(schema["properties"].(map[string]any)) != len(values)+1 { // global is Helm's
		t.Error("the schema has values that values.yaml has not")
	}
}

// The pods run `tentagate run`, so the variables of `tentagate gateway` that no Caddyfile
// of k8s names would have no effect; in a ConfigMap, secrets would be seen.
func TestChartRefusesVariables(t *testing.T) {
	var schema struct {
		Properties struct {
			Env struct {
				Names struct {
					Not struct {
						AnyOf []struct {
							Enum    []string `json:"enum"`
							Pattern string   `json:"pattern"`
						} `json:"anyOf"`
					} `json:"not"`
				} `json:"propertyNames"`
			} `json:"env"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(chartFile(t, "chart", "values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	refused := func(name string) bool {
		for _, rule := range schema.Properties.Env.Names.Not.AnyOf {
			if slices.Contains(rule.Enum, name) || rule.Pattern != "" && regexp.MustCompile(rule.Pattern).MatchString(name) {
				return true
			}
		}
		return false
	}
	_, page, _ := strings.Cut(repositoryFile(t, "docs", "gateway.md"), "### `tentagate gateway`")
	page, _, _ = strings.Cut(page, "**The access log**")
	named := string(chartFile(t, "base", "Caddyfile")) + string(chartFile(t, "components", "loadbalancer-tls", "Caddyfile"))
	variables := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(page, -1)
	for _, m := range variables {
		if !refused(m[1]) && !strings.Contains(named, "{$"+m[1]) {
			t.Errorf("env: %s has no effect in a pod, and is not refused", m[1])
		}
	}
	if len(variables) < 10 {
		t.Errorf("docs/gateway.md has %d variables of tentagate gateway", len(variables))
	}
	for name, want := range map[string]bool{
		"JWT_SECRET_KEY": true, "REDIS_URL": true, "CERTIFICATES_REDIS_URL": true, "REDIS_PASSWORD": true, "CERTIFICATE_KEY": true, "OTEL_EXPORTER_OTLP_HEADERS": true,
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS": true, "API_TOKEN": true, "CLIENT_SECRET": true, "TLS_PRIVATE_KEY": true, "BACKEND_SERVICES": true,
		"CACHE_TTL": false, "SERVER_NAME": false, "SHUTDOWN_DELAY": false, "JWT_SECRET_KEY_FILE": false, "OTEL_EXPORTER_OTLP_ENDPOINT": false,
	} {
		if refused(name) != want {
			t.Errorf("env: %s: refused is %v", name, !want)
		}
	}
}

func needHelm(t *testing.T) {
	t.Helper()
	if os.Getenv(helmEnv) == "" {
		t.Skip(helmEnv + " names no helm; .ci/chart builds one and runs this test")
	}
}

// helm renders the chart as the release tentagate.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	all := append([]string{"template", "tentagate", filepath.Join(repository(), "k8s", "chart"), "--namespace", "tentagate", "--kube-version", "1.36.0"}, args...)
	cmd := exec.CommandContext(t.Context(), os.Getenv(helmEnv), all...) //nolint:gosec // the binary of .ci/chart
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return problems.String(), err
	}
	return out.String(), nil
}

func helmObjects(t *testing.T, args ...string) objects {
	t.Helper()
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm: %v\n%s", err, out)
	}
	return decode(t, []byte(out))
}

// plainObjects returns objects as JSON by kind and name, without what differs
// between Helm and kustomize by their nature.
func plainObjects(t *testing.T, found objects) map[string]string {
	t.Helper()
	hash := regexp.MustCompile(`(tentagate-(?:config|env))-[a-z0-9]{10}"`)
	all := map[string]string{}
	for kind, list := range found {
		if kind == "Namespace" || kind == "Pod" { // --create-namespace, helm test
			continue
		}
		for _, o := range list {
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var object map[string]any
			if err := json.Unmarshal(hash.ReplaceAll(text, []byte(`$1"`)), &object); err != nil {
				t.Fatal(err)
			}
			metadata := object["metadata"].(map[string]any)
			if labels, ok := metadata["labels"].(map[string]any); ok {
				for _, name := range []string{"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
					delete(labels, name)
				}
			}
			if spec, ok := object["spec"].(map[string]any); ok && kind == "Deployment" {
				delete(spec["template"].(map[string]any)["metadata"].(map[string]any), "annotations") // the checksum
			}
			text, err = json.MarshalIndent(object, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			all[kind+"/"+metadata["name"].(string)] = string(text)
		}
	}
	return all
}

// The chart with its default values is what kustomize makes of the base, and its
// pod starts.
func TestChartIsTheBase(t *testing.T) {
	needHelm(t)
	found := helmObjects(t)
	have, want := plainObjects(t, found), plainObjects(t, decode(t, rendered(t, "base")))
	for name, text := range want {
		if have[name] != text {
			t.Errorf("%s is not that of the base\nthe chart's:\n%s\nthe base's:\n%s", name, have[name], text)
		}
	}
	if len(have) != len(want) {
		t.Errorf("the chart has %v", slices.Sorted(maps.Keys(have)))
	}
	t.Run("coherent", func(t *testing.T) { expectCoherent(t, found) })
	t.Run("runs", func(t *testing.T) { runPod(t, found, true) })
	t.Run("helm test", func(t *testing.T) {
		pod := only[*corev1.Pod](t, found, "Pod")
		args := slices.Clone(pod.Spec.Containers[0].Args)
		if pod.Annotations["helm.sh/hook"] != "test" || len(args) != 3 || args[2] != "http://tentagate/health" {
			t.Fatalf("the pod of helm test runs %v", args)
		}
		server := httptest.NewServer(nil)
		defer server.Close()
		args[2] = server.URL
		if code, out := cli(t, nil, args...); code != 1 || !strings.Contains(out, "404") {
			t.Errorf("tentagate %v against a server that has no such path: %d %s", args, code, out)
		}
	})
}

func TestChartValues(t *testing.T) {
	needHelm(t)
	all := filepath.Join(repository(), "k8s", "chart", "ci", "all-values.yaml")
	t.Run("all", func(t *testing.T) {
		out, err := helm(t, "--values", all)
		if err != nil {
			t.Fatal(out)
		}
		for _, want := range []string{
			"image: registry.example.com/tentagate@sha256:aaaa", "imagePullPolicy: Always", "replicas: 1\n", "priorityClassName: system-cluster-critical",
			"terminationGracePeriodSeconds: 120", "secretProviderClass: 'tentagate'\n", "externalTrafficPolicy: Local", "azmonitoring.coreos.com/v1", "name: OTEL_SERVICE_NAME",
			`TRUSTED_PROXIES: ""`, `CACHE_TTL: "30s"`, "containerPort: 8443", "release: prometheus", `values: ["observability"]`, "ALLOWED_ORIGINS: \"https://app.example.com\"",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing", want)
			}
		}
		for _, bad := range []string{"kind: HorizontalPodAutoscaler", "kind: PriorityClass", "REDIS_URL", "secretName: tentagate\n"} {
			if strings.Contains(out, bad) {
				t.Errorf("%q should not be there", bad)
			}
		}
		found := decode(t, []byte(out))
		found["HorizontalPodAutoscaler"] = append(found["HorizontalPodAutoscaler"], nil) // off, which expectCoherent does not expect
		expectCoherent(t, found)
	})
	for name, bad := range map[string][2]string{
		"an unknown value":           {"imagee.tag=1", "imagee"},
		"a digest without its kind":  {"image.digest=abc", "digest"},
		"the tag latest":             {"image.tag=latest", "tag"},
		"a secret in a ConfigMap":    {"env.JWT_SECRET_KEY=x", "JWT_SECRET_KEY"},
		"another secret":             {"env.API_TOKEN=x", "API_TOKEN"},
		"a variable of the gateway":  {"env.TENTAGATE_OPTIONS=x", "TENTAGATE_OPTIONS"},
		"a password in a variable":   {"env.ORDERS=http://ann:pw@orders:8000", "ORDERS"},
		"a password in a service":    {"services.users=http://ann:pw@users:8000", "services"},
		"a service without a scheme": {"services.users=users:8000", "services"},
		"a pod killed as it drains":  {"preStopSeconds=60", "terminationGracePeriodSeconds must be more"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := helm(t, "--set", bad[0])
			if err == nil || !strings.Contains(out, bad[1]) {
				t.Errorf("--set %s: %v, want an error about %s\n%s", bad[0], err, bad[1], tail(out, 800))
			}
		})
	}
}
