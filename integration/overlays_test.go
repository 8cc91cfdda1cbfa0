package integration

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// httpRoute is what the manifests have of gateway.networking.k8s.io/v1.
type httpRoute struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		ParentRefs []map[string]string `json:"parentRefs"`
		Hostnames  []string            `json:"hostnames"`
		Rules      []struct {
			Matches     []map[string]any `json:"matches"`
			BackendRefs []struct {
				Name string `json:"name"`
				Port int32  `json:"port"`
			} `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

// podMonitor is what the manifests have of the operators' PodMonitor.
type podMonitor struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		PodMetricsEndpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

func folders(t *testing.T, of string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(repository(), "k8s", of))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		t.Fatalf("k8s/%s is empty", of)
	}
	return names
}

// Each component on the base, and each overlay, is what an API server takes, and
// its objects find one another.
func TestOverlays(t *testing.T) {
	for _, name := range folders(t, "components") {
		t.Run(name, func(t *testing.T) { expectCoherent(t, decode(t, rendered(t, "base", name))) })
	}
	for _, name := range folders(t, "overlays") {
		t.Run("overlays/"+name, func(t *testing.T) { expectCoherent(t, decode(t, rendered(t, filepath.Join("overlays", name)))) })
	}
}

func expectCoherent(t *testing.T, found objects) {
	t.Helper()
	pods := map[string]corev1.PodTemplateSpec{}
	for _, o := range found["Deployment"] {
		d := o.(*appsv1.Deployment)
		pods[d.Name] = d.Spec.Template
	}
	gateway := pods["tentagate"]
	ports := map[string]bool{}
	for _, p := range gateway.Spec.Containers[0].Ports {
		ports[p.Name] = true
	}
	selects := func(labels map[string]string) bool {
		for name, value := range labels {
			if gateway.Labels[name] != value {
				return false
			}
		}
		return len(labels) > 0
	}
	served := map[string]map[int32]string{}
	for _, o := range found["Service"] {
		s := o.(*corev1.Service)
		served[s.Name] = map[int32]string{}
		for _, p := range s.Spec.Ports {
			served[s.Name][p.Port] = p.Name
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(pods)), func(p corev1.PodTemplateSpec) bool {
			for name, value := range s.Spec.Selector {
				if p.Labels[name] != value {
					return false
				}
			}
			return true
		}) {
			t.Errorf("the Service %s selects no pod", s.Name)
		}
	}
	if s := served["tentagate"]; len(s) == 0 {
		t.Error("there is no Service for the gateway")
	}
	for _, o := range found["HTTPRoute"] {
		for _, rule := range o.(*httpRoute).Spec.Rules {
			for _, b := range rule.BackendRefs {
				if served[b.Name][b.Port] == "" {
					t.Errorf("the HTTPRoute leads to %s:%d, which is none", b.Name, b.Port)
				}
			}
		}
	}
	for _, o := range found["Ingress"] {
		for _, rule := range o.(*networkingv1.Ingress).Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				if b := p.Backend.Service; !slices.Contains(slices.Collect(maps.Values(served[b.Name])), b.Port.Name) {
					t.Errorf("the Ingress leads to %s:%s, which is none", b.Name, b.Port.Name)
				}
			}
		}
	}
	for _, o := range found["PodMonitor"] {
		m := o.(*podMonitor)
		if !selects(m.Spec.Selector.MatchLabels) {
			t.Errorf("the PodMonitor selects %v, the pods have %v", m.Spec.Selector.MatchLabels, gateway.Labels)
		}
		for _, e := range m.Spec.PodMetricsEndpoints {
			if !ports[e.Port] || e.Path != "/metrics" {
				t.Errorf("the PodMonitor scrapes %s%s", e.Port, e.Path)
			}
		}
	}
	if gateway.Spec.Containers[0].Lifecycle == nil {
		delay, err := time.ParseDuration(configMap(t, found, "tentagate-env").Data["SHUTDOWN_DELAY"])
		if grace := time.Duration(*gateway.Spec.TerminationGracePeriodSeconds) * time.Second; err != nil || delay < 15*time.Second || delay+45*time.Second >= grace {
			t.Errorf("without a preStop hook: SHUTDOWN_DELAY is %s of %s (%v)", delay, grace, err)
		}
	}
	configs := map[string]bool{}
	for _, o := range found["ConfigMap"] {
		configs[o.(*corev1.ConfigMap).Name] = true
	}
	for _, v := range gateway.Spec.Volumes {
		switch {
		case v.ConfigMap != nil && !configs[v.ConfigMap.Name]:
			t.Errorf("the volume %s has the ConfigMap %s, which is none", v.Name, v.ConfigMap.Name)
		case v.CSI != nil:
			if v.Secret != nil || len(found["SecretProviderClass"]) != 1 {
				t.Errorf("the volume %s: two sources, or a SecretProviderClass that is none", v.Name)
			}
		}
	}
	expectSecrets(t, found, gateway.Spec)
	// AKS Automatic sets a CPU limit where there is none: that of the request.
	if r := gateway.Spec.Containers[0].Resources; strings.HasSuffix(t.Name(), "/aks-automatic") && r.Limits.Cpu().Cmp(*r.Requests.Cpu()) <= 0 {
		t.Error("a CPU limit that is not above the request")
	}
	if len(found["HorizontalPodAutoscaler"])+len(found["ScaledObject"]) != 1 {
		t.Error("not exactly one object scales the pods")
	}
	if len(found["Secret"]) > 0 {
		t.Error("a published Secret")
	}
}

// expectSecrets checks that each file of a secret that the pod's variables and its
// Caddyfile name is in the volume, from a Secret or from Key Vault.
func expectSecrets(t *testing.T, found objects, pod corev1.PodSpec) {
	t.Helper()
	has := map[string]bool{}
	for _, v := range pod.Volumes {
		if v.Name == "secrets" && v.Secret != nil {
			for _, item := range v.Secret.Items {
				has[item.Path] = true
			}
		}
	}
	for _, o := range found["SecretProviderClass"] {
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`objectAlias: (\w+)`).FindAllSubmatch(text, -1) {
			has[string(m[1])] = true
		}
	}
	named := configMap(t, found, "tentagate-config").Data["Caddyfile"]
	for _, v := range pod.Containers[0].Env {
		named += "\n" + v.Value
	}
	files := regexp.MustCompile(`/run/secrets/tentagate/(\w+)`).FindAllStringSubmatch(named, -1)
	for _, m := range files {
		if !has[m[1]] {
			t.Errorf("the pod reads %s, which its volume has not: %v", m[0], has)
		}
	}
	if len(files) == 0 {
		t.Error("the pod reads no secret")
	}
}

// The Caddyfiles for other places are that of the base with these changes, and differ
// in nothing else.
func TestCaddyfilesAreTheBase(t *testing.T) {
	for file, changes := range map[string][][2]string{
		"k8s/components/loadbalancer-tls/Caddyfile": {
			{"\tservers {\n", "\t# Of the account at the certificate authority.\n\temail {$ACME_EMAIL}\n\t# Certificates and keys, for all pods.\n\tstorage tentagate {\n" +
				"\t\tredis {file./run/secrets/tentagate/CERTIFICATES_REDIS_URL}\n\t\tkey {file./run/secrets/tentagate/CERTIFICATE_KEY}\n\t}\n\tservers {\n"},
			{"protocols h1 h2 h2c\n", "protocols h1 h2 h3\n"},
			{"\n:8000 {\n", "\n{$SERVER_NAME} {\n"},
		},
		"packaging/Caddyfile": {
			{
				"\t# For `tentagate purge`, `limits` and the other commands inside the pod.\n\tadmin unix//tmp/admin.sock|0600\n",
				"\t# For `systemctl reload tentagate`, and for `tentagate limits` and the like with\n" +
					"\t# `--address unix//run/tentagate/admin.sock`.\n\tadmin unix//run/tentagate/admin.sock|0600\n",
			},
			{"\t# For pods without a preStop hook: 503 for probes, and requests as before.\n\tshutdown_delay {$SHUTDOWN_DELAY:0s}\n\tgrace_period 45s\n", "\tgrace_period 30s\n"},
			{"protocols h1 h2 h2c\n", "protocols h1 h2 h2c h3\n"},
			{"\n:8000 {\n", "\n{$SERVER_NAME::8000} {\n"},
			{
				"\ttentagate {\n\t\tmetrics off\n\t}\n}\n\n# Probes and metrics, for the cluster alone.\nhttp://:9090 {\n\thealth\n" +
					"\thandle /metrics {\n\t\tmetrics\n\t}\n\thandle {\n\t\trespond 404\n\t}\n}\n",
				"\ttentagate\n}\n",
			},
		},
	} {
		want := repositoryFile(t, "k8s", "base", "Caddyfile")
		for _, c := range changes {
			if strings.Count(want, c[0]) != 1 {
				t.Errorf("%s: k8s/base/Caddyfile does not have %q once", file, c[0])
			}
			want = strings.Replace(want, c[0], c[1], 1)
		}
		if got := repositoryFile(t, file); got != want {
			t.Errorf("%s is not k8s/base/Caddyfile with its changes: %s", file, firstDifference(want, got))
		}
	}
}
