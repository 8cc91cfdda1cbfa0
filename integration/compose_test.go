package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
)

// composition reads compose.yaml as `docker compose` does, which checks it by its
// schema.
func composition(t *testing.T) *types.Project {
	t.Helper()
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  repository(),
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(repository(), "compose.yaml")}},
		Environment: types.Mapping{"JWT_SECRET_KEY": podSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeIsSafe(t *testing.T) {
	if _, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  repository(),
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(repository(), "compose.yaml")}},
		Environment: types.Mapping{"JWT_SECRET_KEY": ""},
	}); err == nil || !strings.Contains(err.Error(), "random bytes") {
		t.Errorf("without a secret: %v", err)
	}
	project := composition(t)
	for name, s := range project.Services {
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on every interface", name, p.Published)
			}
		}
		if s.Build == nil && (!strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest")) {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	var prometheus struct {
		ScrapeConfigs []struct {
			StaticConfigs []struct {
				Targets []string `json:"targets"`
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	text, err := os.ReadFile(filepath.Join(repository(), "compose", "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &prometheus); err != nil {
		t.Fatal(err)
	}
	for _, target := range prometheus.ScrapeConfigs[0].StaticConfigs[0].Targets {
		name, port, _ := strings.Cut(target, ":")
		if listen := project.Services[name].Environment["METRICS_LISTEN"]; listen == nil || *listen != ":"+port {
			t.Errorf("Prometheus scrapes %s, which is none", target)
		}
	}
}

// TestCompose starts the services of compose.yaml that are TentaGate's image, with
// their commands and variables, on other addresses.
func TestCompose(t *testing.T) {
	project := composition(t)
	addresses := []string{"redis:6379", redistest.Start(t).Addr()}
	for _, name := range []string{"users", "orders"} {
		addr := freeport.Addr(t)
		command := slices.Clone(project.Services[name].Command)
		i := slices.Index(command, "--listen")
		if i < 0 {
			t.Fatalf("%s does not say where it listens: %v", name, command)
		}
		addresses = append(addresses, name+command[i+1], addr)
		command[i+1] = addr
		service := prepare(t)
		service.addr, service.admin = addr, addr // `respond` has no admin API
		service.run(nil, command...)
		service.waitReady()
	}
	elsewhere := strings.NewReplacer(addresses...)
	var gateways []*gateway
	var env []string
	for _, name := range []string{"gateway-a", "gateway-b"} {
		s := project.Services[name]
		g := prepare(t)
		internal := freeport.Addr(t)
		g.admin = internal
		env = []string{"SERVER_NAME=http://" + g.addr}
		for variable, value := range s.Environment {
			if variable == "METRICS_LISTEN" {
				*value = internal
			}
			env = append(env, variable+"="+elsewhere.Replace(*value))
		}
		command := []string(s.Command)
		if len(command) == 0 {
			command = []string{"gateway"} // the image's
		}
		g.run(env, command...)
		g.waitReady()
		gateways = append(gateways, g)
	}
	code, token := cli(t, env, "token", "--sub", "ann")
	if code != 0 {
		t.Fatal(token)
	}
	authorization := "Bearer " + strings.TrimSpace(token)
	for _, name := range []string{"users", "orders"} {
		if a := gateways[0].get("/api/"+name+"/", "Authorization", authorization); a.status != http.StatusOK || a.body != `{"service":"`+name+`"}` {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	remaining := func(a answer) int {
		_, rest, _ := strings.Cut(a.header.Get("RateLimit"), "r=")
		digits, _, _ := strings.Cut(rest, ";")
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatalf("RateLimit: %q", a.header.Get("RateLimit"))
		}
		return n
	}
	a := gateways[0].get("/api/users/", "Authorization", authorization)
	b := gateways[1].get("/api/users/", "Authorization", authorization)
	if remaining(b) >= remaining(a) {
		t.Errorf("the gateways count each on its own: %q, then %q", a.header.Get("RateLimit"), b.header.Get("RateLimit"))
	}
	// The lines that the page and the file show.
	all := sessions(t, "deployment.md")
	if len(all) != 1 {
		t.Fatalf("docs/deployment.md: %d sessions", len(all))
	}
	shownInFile := repositoryFile(t, "compose.yaml")
	all[0].run(t, func(line string) string {
		if !strings.Contains(shownInFile, "\n#   "+line+"\n") {
			t.Errorf("compose.yaml does not show: %s", line)
		}
		if strings.HasPrefix(line, "export ") || strings.HasPrefix(line, "docker compose up ") {
			return ":" // as above
		}
		return strings.NewReplacer("docker compose exec gateway-a ", "", "http://localhost:8000", "http://"+gateways[0].addr, "curl ", "curl --silent --show-error ").Replace(line)
	}, env...)
	own := *gateways[1]
	own.addr = gateways[1].admin
	if m := own.get("/metrics"); m.status != http.StatusOK || !strings.Contains(m.body, "tentagate_") {
		t.Errorf("metrics: %d", m.status)
	}
}
