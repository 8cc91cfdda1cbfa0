package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/yaml"
)

// objects are Kubernetes objects by kind.
type objects map[string][]any

// decode reads manifests as strictly as an API server that is asked for it.
func decode(t *testing.T, text []byte) objects {
	t.Helper()
	found := objects{}
	for i, document := range bytes.Split(text, []byte("\n---\n")) {
		var meta struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatalf("document %d: %v", i+1, err)
		}
		object := map[string]func() any{
			"Namespace":               func() any { return new(corev1.Namespace) },
			"ServiceAccount":          func() any { return new(corev1.ServiceAccount) },
			"PriorityClass":           func() any { return new(schedulingv1.PriorityClass) },
			"ConfigMap":               func() any { return new(corev1.ConfigMap) },
			"Secret":                  func() any { return new(corev1.Secret) },
			"Pod":                     func() any { return new(corev1.Pod) },
			"Deployment":              func() any { return new(appsv1.Deployment) },
			"Service":                 func() any { return new(corev1.Service) },
			"HorizontalPodAutoscaler": func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
			"PodDisruptionBudget":     func() any { return new(policyv1.PodDisruptionBudget) },
			"NetworkPolicy":           func() any { return new(networkingv1.NetworkPolicy) },
			"Ingress":                 func() any { return new(networkingv1.Ingress) },
			// Of others' definitions.
			"HTTPRoute":             func() any { return new(httpRoute) },
			"PodMonitor":            func() any { return new(podMonitor) },
			"SecretProviderClass":   func() any { return new(map[string]any) },
			"ScaledObject":          func() any { return new(map[string]any) },
			"Gateway":               func() any { return new(map[string]any) },
			"ClusterExternalDNS":    func() any { return new(map[string]any) },
			"TriggerAuthentication": func() any { return new(map[string]any) },
			"CiliumNetworkPolicy":   func() any { return new(map[string]any) },
		}[meta.Kind]
		if object == nil {
			t.Fatalf("document %d: unknown kind %q", i+1, meta.Kind)
		}
		o := object()
		if err := yaml.UnmarshalStrict(document, o); err != nil {
			t.Fatalf("document %d, %s: %v", i+1, meta.Kind, err)
		}
		found[meta.Kind] = append(found[meta.Kind], o)
	}
	return found
}

// configMap returns the ConfigMap of that name, which may end in a hash.
func configMap(t *testing.T, found objects, prefix string) *corev1.ConfigMap {
	t.Helper()
	for _, o := range found["ConfigMap"] {
		if c := o.(*corev1.ConfigMap); strings.HasPrefix(c.Name+"-", prefix+"-") {
			return c
		}
	}
	t.Fatalf("no ConfigMap %s-…", prefix)
	return nil
}

func only[T any](t *testing.T, found objects, kind string) T {
	t.Helper()
	if len(found[kind]) != 1 {
		t.Fatalf("%d documents of kind %s", len(found[kind]), kind)
	}
	return found[kind][0].(T)
}

func TestManifests(t *testing.T) {
	found := decode(t, rendered(t, "base"))
	deployment := only[*appsv1.Deployment](t, found, "Deployment")
	pod := deployment.Spec.Template.Spec
	c := pod.Containers[0]
	labels := deployment.Spec.Template.Labels

	t.Run("selectors", func(t *testing.T) {
		selectors := map[string]map[string]string{
			"Deployment":          deployment.Spec.Selector.MatchLabels,
			"Service":             only[*corev1.Service](t, found, "Service").Spec.Selector,
			"PodDisruptionBudget": only[*policyv1.PodDisruptionBudget](t, found, "PodDisruptionBudget").Spec.Selector.MatchLabels,
		}
		for kind, selector := range selectors {
			if selector["app.kubernetes.io/instance"] == "" {
				t.Errorf("%s selects the pods of another gateway in the namespace", kind)
			}
			for name, value := range selector {
				if labels[name] != value {
					t.Errorf("%s selects %s=%s, which the pods have not", kind, name, value)
				}
			}
		}
		if ref := only[*autoscalingv2.HorizontalPodAutoscaler](t, found, "HorizontalPodAutoscaler").Spec.ScaleTargetRef; ref.Name != deployment.Name || deployment.Spec.Replicas != nil {
			t.Error("the autoscaler does not own the replicas")
		}
	})
	t.Run("restricted", func(t *testing.T) {
		p, s := pod.SecurityContext, c.SecurityContext
		if !*p.RunAsNonRoot || *p.RunAsUser != 65532 || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			*s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") || *pod.AutomountServiceAccountToken {
			t.Error("the pod may do more than it needs")
		}
		mounted := map[string]bool{}
		for _, m := range c.VolumeMounts {
			mounted[m.MountPath] = true
		}
		for _, path := range []string{"/data", "/config", "/tmp"} {
			if !mounted[path] {
				t.Errorf("%s is not writable", path)
			}
		}
	})
	t.Run("probes and ports", func(t *testing.T) {
		ports := map[string]int32{}
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			if ports[probe.HTTPGet.Port.StrVal] == 0 {
				t.Errorf("%s probe: no port %q", name, probe.HTTPGet.Port.StrVal)
			}
		}
		for _, p := range only[*corev1.Service](t, found, "Service").Spec.Ports {
			if ports[p.TargetPort.StrVal] == 0 {
				t.Errorf("the service's target %q is no port", p.TargetPort.StrVal)
			}
		}
		for _, policy := range found["NetworkPolicy"] {
			for _, rule := range policy.(*networkingv1.NetworkPolicy).Spec.Ingress {
				for _, p := range rule.Ports {
					if ports[p.Port.StrVal] == 0 {
						t.Errorf("a policy names the port %q, which is none", p.Port.StrVal)
					}
				}
			}
		}
	})
	t.Run("draining", func(t *testing.T) {
		caddyfile := configMap(t, found, "tentagate-config").Data["Caddyfile"]
		_, rest, ok := strings.Cut(caddyfile, "grace_period ")
		if !ok {
			t.Fatal("no grace_period: Caddy's own is eternal")
		}
		grace, err := time.ParseDuration(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		need := c.Lifecycle.PreStop.Sleep.Seconds + int64(grace.Seconds())
		if have := *pod.TerminationGracePeriodSeconds; have <= need {
			t.Errorf("the pod is killed after %ds, and needs %ds to drain", have, need)
		}
		if probes := c.ReadinessProbe.PeriodSeconds * c.ReadinessProbe.FailureThreshold; c.Lifecycle.PreStop.Sleep.Seconds < 15 || c.Lifecycle.PreStop.Sleep.Seconds <= int64(probes) {
			t.Errorf("preStop sleeps %ds, load balancers take 10s to see that a pod leaves", c.Lifecycle.PreStop.Sleep.Seconds)
		}
		if u := deployment.Spec.Strategy.RollingUpdate.MaxUnavailable; u.IntValue() != 0 {
			t.Error("a rollout takes pods away before there are new ones")
		}
	})
	t.Run("egress", func(t *testing.T) {
		rules := only[*networkingv1.NetworkPolicy](t, found, "NetworkPolicy").Spec.Egress
		open := func(port int32) (anywhere, outside bool) {
			for _, rule := range rules {
				for _, p := range rule.Ports {
					if p.Port.IntVal == port || p.EndPort != nil && p.Port.IntVal <= port && port <= *p.EndPort {
						anywhere = anywhere || len(rule.To) == 0
						for _, to := range rule.To {
							outside = outside || to.IPBlock != nil && to.IPBlock.CIDR == "::/0"
						}
					}
				}
			}
			return anywhere, outside
		}
		if anywhere, _ := open(53); !anywhere {
			t.Error("names are only asked for at pods: with LocalDNS the node answers")
		}
		for _, port := range []int32{443, 6379, 6380, 10000, 8500, 8599} {
			if _, outside := open(port); !outside {
				t.Errorf("port %d is shut, over IPv6 at least", port)
			}
		}
	})
	t.Run("in production", func(t *testing.T) {
		if p := c.LivenessProbe; p.PeriodSeconds*p.FailureThreshold < 60 {
			t.Error("a pod that has much to do is restarted for it")
		}
		if o := pod.DNSConfig.Options[0]; o.Name != "ndots" || *o.Value != "2" {
			t.Error("a name with dots is looked up in every search domain first")
		}
		if d := only[*policyv1.PodDisruptionBudget](t, found, "PodDisruptionBudget").Spec; d.MaxUnavailable.StrVal != "25%" || deployment.Spec.Strategy.RollingUpdate.MaxSurge.StrVal != "25%" {
			t.Error("a drain or a rollout of many pods takes one at a time")
		}
		if only[*schedulingv1.PriorityClass](t, found, "PriorityClass").Name != pod.PriorityClassName {
			t.Errorf("there is no PriorityClass %s", pod.PriorityClassName)
		}
		for _, mode := range []string{"enforce", "warn", "audit"} {
			if only[*corev1.Namespace](t, found, "Namespace").Labels["pod-security.kubernetes.io/"+mode] != "restricted" {
				t.Errorf("the namespace does not %s the restricted standard", mode)
			}
		}
		protocols := map[string]bool{}
		for _, p := range only[*corev1.Service](t, found, "Service").Spec.Ports {
			protocols[*p.AppProtocol] = true
		}
		if !protocols["kubernetes.io/h2c"] || !protocols["http"] {
			t.Errorf("the Service's ports are for %v: gRPC needs one of its own", protocols)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		if !slices.Contains(c.Args, "/etc/tentagate/Caddyfile") {
			t.Error("the Caddyfile of the ConfigMap is not used")
		}
		if len(found["Secret"]) > 0 {
			t.Error("a published Secret: applied again it would replace the real one")
		}
		names := map[string]bool{}
		for _, o := range found["ConfigMap"] {
			names[o.(*corev1.ConfigMap).Name] = true
		}
		if !names[c.EnvFrom[0].ConfigMapRef.Name] || !names[pod.Volumes[0].ConfigMap.Name] || c.EnvFrom[0].ConfigMapRef.Name == pod.Volumes[0].ConfigMap.Name {
			t.Error("the pod's variables and its Caddyfile are not in a ConfigMap each")
		}
		if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
			t.Error("the image has no tag of its own")
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Error("resources are missing")
		}
	})
}

// The Dockerfile keeps to what the classic builder understands.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(repository(), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "\\\n", " ")
	stage := ""
	seen := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		if word == "FROM" {
			stage = rest
		}
		for _, bad := range []string{"--mount", "--chmod", "--link", "--platform", "<<", "--network", "--security"} {
			if strings.Contains(rest, bad) {
				t.Errorf("%s: the classic builder does not know %s", line, bad)
			}
		}
		if !slices.Contains([]string{"ARG", "LABEL", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}, word) {
			t.Errorf("unknown instruction %s", word)
		}
		seen[word] = rest
	}
	if stage != "scratch" || seen["USER"] != "65532:65532" {
		t.Errorf("the last stage is %q, the user %q", stage, seen["USER"])
	}
	if !regexp.MustCompile(`(?m)^FROM golang:1\.26\.\d+-\w+@sha256:[0-9a-f]{64} AS golang$`).MatchString(text) {
		t.Error("the base image is not pinned by a version and a digest in FROM, where Dependabot reads it")
	}
	if first, _, _ := strings.Cut(text, "\nFROM "); !strings.Contains(first, "\nARG GO=golang\n") || !strings.Contains(text, "\nFROM ${GO:-golang} AS build\n") {
		t.Error("the build argument GO does not replace the base image")
	}
	for _, variable := range []string{"linked=${VERSION}", "revision=${REVISION}"} {
		if !strings.Contains(text, "-X github.com/pythopus/tentagate/internal/version."+variable) {
			t.Errorf("the linker does not set %s", variable)
		}
	}
	for _, port := range []string{"8000", "8443", "9090"} {
		if !strings.Contains(seen["EXPOSE"], port) {
			t.Errorf("port %s is not exposed", port)
		}
	}
}
