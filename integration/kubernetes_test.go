package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

const podSecret = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa"

// TestKubernetes runs the server as a pod of the manifests does: with the
// Caddyfile and the variables of its ConfigMaps and a Secret, on other ports.
func TestKubernetes(t *testing.T) {
	t.Run("base", func(t *testing.T) { runPod(t, decode(t, rendered(t, "base")), true) })
	t.Run("loadbalancer", func(t *testing.T) { runPod(t, decode(t, rendered(t, "base", "loadbalancer")), false) })
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) {
			runPod(t, decode(t, rendered(t, filepath.Join("overlays", name))), name != "aks-edge-tls")
		})
	}
}

// runPod runs the server as a pod of the Deployment, behind a proxy that says who
// the client is, or not.
func runPod(t *testing.T, found objects, behindProxy bool) {
	t.Helper()
	caddyfile, variables := configMap(t, found, "tentagate-config").Data["Caddyfile"], configMap(t, found, "tentagate-env").Data
	var spec corev1.PodSpec
	for _, o := range found["Deployment"] {
		if d := o.(*appsv1.Deployment); d.Name == "tentagate" {
			spec = d.Spec.Template.Spec
		}
	}
	pod := spec.Containers[0]
	ports := map[string]int32{}
	for _, p := range pod.Ports {
		ports[p.Name] = p.ContainerPort
	}
	service := new(slowService)
	service.arrived, service.release = make(chan struct{}, 1), make(chan struct{})
	service.Server = httptest.NewServer(service)
	t.Cleanup(service.Close)

	g := prepare(t)
	internal := freeport.Addr(t)
	g.admin = internal // also waited for: the pods' admin API is a Unix socket
	variables["BACKEND_SERVICES"] = `{"users":"` + service.URL + `"}`
	secret := filepath.Join(g.home, "JWT_SECRET_KEY")
	if err := os.WriteFile(secret, []byte(podSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	draining := variables["SHUTDOWN_DELAY"] != ""
	if draining {
		variables["SHUTDOWN_DELAY"] = "3s"
	}
	env := []string{"KUBERNETES_SERVICE_HOST=10.0.0.1"} // as every pod has it
	for name, value := range variables {
		env = append(env, name+"="+value)
	}
	redisNote := true
	for _, v := range pod.Env {
		switch v.Name {
		case "JWT_SECRET_KEY_FILE":
			if path.Base(v.Value) != "JWT_SECRET_KEY" || !mounts(pod, v.Value) {
				t.Errorf("%s is %s", v.Name, v.Value)
			}
			env = append(env, v.Name+"="+secret)
		case "REDIS_URL_FILE":
			if path.Base(v.Value) != "REDIS_URL" || !mounts(pod, v.Value) {
				t.Errorf("%s is %s", v.Name, v.Value)
			}
			url := filepath.Join(g.home, "REDIS_URL")
			redis := redistest.Start(t, "--requirepass", podSecret).Addr()
			if err := os.WriteFile(url, []byte("redis://:"+podSecret+"@"+redis+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			env, redisNote = append(env, v.Name+"="+url), false
		case "REDIS_URL": // of a Redis in the cluster, which is not here
			env = append(env, v.Name+"=")
		default:
			t.Errorf("unknown variable %s", v.Name)
		}
	}
	socket := filepath.Join(g.home, "admin.sock")
	file := filepath.Join(g.home, "Caddyfile")
	tls := strings.Contains(caddyfile, "storage tentagate")
	secure := *g
	site := fmt.Sprintf("\n:%d {", ports["http"])
	if tls {
		secure.addr = freeport.Addr(t)
		caddyfile = edgeOfPod(t, g, caddyfile, secure.addr)
		site = "\nhttp://" + g.addr
		if ports["http"] != 80 || ports["https"] != 443 || ports["http3"] != 443 {
			t.Errorf("the ports of a site with a host name are 80 and 443, those of the pod %v", ports)
		}
	}
	scraped := fmt.Sprintf("http://:%d {", ports["metrics"])
	for _, listener := range []string{site, scraped, "unix//tmp/admin.sock"} {
		if strings.Count(caddyfile, listener) != 1 {
			t.Fatalf("the pod has the ports %v, its Caddyfile has no %q:\n%s", ports, listener, caddyfile)
		}
	}
	text := strings.NewReplacer(fmt.Sprintf("\n:%d {", ports["http"]), "\nhttp://"+g.addr+" {", scraped, "http://"+internal+" {", "unix//tmp/admin.sock", "unix/"+socket).Replace(caddyfile)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// What was published in an example once is no secret.
	if code, out := cli(t, []string{"JWT_SECRET_KEY=replace-this-by-at-least-32-random-bytes", "BACKEND_SERVICES=" + variables["BACKEND_SERVICES"], "SERVER_NAME=" + variables["SERVER_NAME"], "ACME_EMAIL=" + variables["ACME_EMAIL"]}, "validate", "--config", file, "--adapter", "caddyfile"); code == 0 || !strings.Contains(out, "secret") {
		t.Errorf("with a published secret: exit code %d, want an error about the secret\n%s", code, tail(out, 1000))
	}
	mounted := "/etc/tentagate/Caddyfile"
	args := slices.Clone(pod.Args)
	if i := slices.Index(args, mounted); i < 0 || !mounts(pod, mounted) {
		t.Fatalf("the pod runs %v, its Caddyfile is elsewhere", args)
	} else {
		args[i] = file
	}
	g.run(env, args...)
	g.waitReady()
	if tls {
		secure.cmd = g.cmd
		certificateOf(t, &secure, "gateway.example.com")
	}

	probe := func(path string) answer {
		t.Helper()
		own := *g
		own.addr = internal
		return own.get(path)
	}
	for _, p := range []*corev1.Probe{pod.StartupProbe, pod.LivenessProbe, pod.ReadinessProbe} {
		if a := probe(p.HTTPGet.Path); a.status != http.StatusOK || p.HTTPGet.Port.StrVal != "metrics" {
			t.Errorf("the probe of %s at the port %s: %d", p.HTTPGet.Path, p.HTTPGet.Port.StrVal, a.status)
		}
	}
	if a := probe("/health?verbose"); strings.Contains(a.body, "no Redis in Kubernetes") != redisNote {
		t.Errorf("whether Redis is missing (%v) is not in the details: %s", redisNote, a.body)
	}
	if n := strings.Count(g.log.String(), "no Redis in Kubernetes"); (n == 1) != redisNote || n > 1 {
		t.Errorf("Redis is missing (%v), and %d warnings say so", redisNote, n)
	}
	if a := g.get("/api/users/x"); a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without a token: %d %v", a.status, a.header)
	}
	code, minted := cli(t, env, "token", "--sub", "ann")
	if code != 0 {
		t.Fatalf("token: %d %s", code, minted)
	}
	if a := g.get("/api/users/x", "Authorization", "Bearer "+strings.TrimSpace(minted)); a.status != http.StatusOK || a.header.Get("X-Path") != "/x" {
		t.Errorf("with a token: %d %v", a.status, a.header)
	}
	if code, out := cli(t, env, "limits", "--config", file, "--adapter", "caddyfile"); code != 0 {
		t.Errorf("tentagate limits, over the Unix socket of the pod: %d %s", code, out)
	}
	if info, err := os.Stat(socket); err != nil {
		t.Error(err)
	} else if info.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket has the mode %v", info.Mode())
	}
	// Made-up addresses count as one client, unless a proxy vouches for them.
	limited, sent, began := 0, 0, time.Now()
	for ; sent < 150 || !behindProxy && limited == 0 && sent < 1000; sent++ { // units come back meanwhile
		if a := g.get("/api/users/x", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", sent%200)); a.status == http.StatusTooManyRequests {
			limited++
		}
	}
	if (limited == 0) != behindProxy {
		t.Errorf("%d of %d requests with made-up addresses were limited", limited, sent)
	}
	if most := 101 + int(time.Since(began).Minutes()*100); !behindProxy && sent-limited > most {
		t.Errorf("%d requests with made-up addresses were admitted, at most %d may be", sent-limited, most)
	}
	for _, o := range found["Service"] {
		if path := o.(*corev1.Service).Annotations["service.beta.kubernetes.io/azure-load-balancer-health-probe-request-path"]; path != "" && g.get(path).status != http.StatusOK {
			t.Errorf("the load balancer's probe of %s: %d", path, g.get(path).status)
		}
	}
	if a := g.get("/metrics"); a.status != http.StatusNotFound {
		t.Errorf("/metrics on the public port: %d, want 404", a.status)
	}
	scrapes := []string{"/metrics"}
	for _, o := range found["PodMonitor"] {
		for _, e := range o.(*podMonitor).Spec.PodMetricsEndpoints {
			if e.Port != "metrics" {
				t.Errorf("the PodMonitor scrapes the port %s", e.Port)
			}
			scrapes = append(scrapes, e.Path)
		}
	}
	for _, path := range scrapes {
		if a := probe(path); a.status != http.StatusOK || !strings.Contains(a.body, "tentagate_") {
			t.Errorf("%s on the internal port: %d, want the series of TentaGate", path, a.status)
		}
	}
	if draining {
		expectDraining(t, g, probe, strings.TrimSpace(minted))
	} else {
		expectDrained(t, g, service, strings.TrimSpace(minted), time.Duration(*spec.TerminationGracePeriodSeconds-pod.Lifecycle.PreStop.Sleep.Seconds)*time.Second)
	}
	if log := g.log.String(); strings.Contains(log, strings.TrimSpace(minted)) || strings.Contains(log, podSecret) {
		t.Error("the log has a token or the secret in it")
	}
}

// mounts reports whether a volume is mounted at the directory of the file.
func mounts(pod corev1.Container, file string) bool {
	return slices.ContainsFunc(pod.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == path.Dir(file) })
}

// slowService tells the path that it was asked for. It does not answer /slow before it
// may.
type slowService struct {
	*httptest.Server
	arrived, release chan struct{}
}

func (s *slowService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Path", r.URL.Path)
	if r.URL.Path == "/slow" {
		select {
		case s.arrived <- struct{}{}:
		default: // a retry
		}
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
	}
}

// expectDrained checks that a pod whose hook has run ends in time, and answers the
// requests under way before.
func expectDrained(t *testing.T, g *gateway, service *slowService, token string, grace time.Duration) {
	t.Helper()
	answered := make(chan string, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url("/api/users/slow"), nil)
			if err != nil {
				answered <- err.Error()
				return
			}
			r.Header.Set("Authorization", "Bearer "+token)
			response, err := client.Do(r)
			if err != nil {
				answered <- err.Error()
				return
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusTooManyRequests { // because of those before
				answered <- response.Status
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	select {
	case <-service.arrived:
	case status := <-answered:
		t.Fatalf("the request that takes long: %s", status)
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "no new connections", func() bool { return !g.owns(g.addr) })
	close(service.release)
	if status := <-answered; status != "200 OK" {
		t.Errorf("the request that was under way: %s", status)
	}
	select {
	case err := <-g.ended:
		g.ended = nil
		if err != nil {
			t.Errorf("exit: %v", err)
		}
	case <-time.After(grace):
		t.Errorf("the pod is killed: it did not end within %s", grace)
	}
}

// expectDraining checks that a pod which is asked to end says so to its probes, and
// still serves requests.
func expectDraining(t *testing.T, g *gateway, probe func(string) answer, token string) {
	t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for probe("/readyz").status == http.StatusOK { // a probe that is refused ends the test
		time.Sleep(10 * time.Millisecond)
	}
	if a := g.get("/api/users/x", "Authorization", "Bearer "+token, "X-Forwarded-For", "203.0.113.201"); a.status != http.StatusOK {
		t.Errorf("while it drains: %d", a.status)
	}
	if a := probe("/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz while it drains: %d, want 503", a.status)
	}
}

// edgeOfPod returns the Caddyfile of pods that end TLS, with a Redis, a key and an
// authority of the test, and what is served there without TLS too.
func edgeOfPod(t *testing.T, g *gateway, caddyfile, addr string) string {
	t.Helper()
	redis := redistest.Start(t, "--requirepass", podSecret).Addr()
	for name, value := range map[string]string{"CERTIFICATES_REDIS_URL": "redis://:" + podSecret + "@" + redis, "CERTIFICATE_KEY": certificateKey} {
		if err := os.WriteFile(filepath.Join(g.home, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("/run/secrets/tentagate/", g.home+"/",
		"email {$ACME_EMAIL}", "email {$ACME_EMAIL}\nlocal_certs\nskip_install_trust\nauto_https disable_redirects",
		"\n{$SERVER_NAME} {", "\nhttp://"+g.addr+", https://{$SERVER_NAME}:"+addr[strings.LastIndexByte(addr, ':')+1:]+" {").Replace(caddyfile)
}
