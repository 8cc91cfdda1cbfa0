package integration

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func repositoryFile(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{repository()}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func expectPath(t *testing.T, where, path string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(repository(), path)); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

// What the workflows run exists, and others' actions cannot change under them.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository(), ".github", "workflows", "*.yaml"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d workflows: %v", len(files), err)
	}
	makefile := repositoryFile(t, "Makefile")
	for _, m := range regexp.MustCompile(`(?m)^\t(\.ci/\w+)`).FindAllStringSubmatch(makefile, -1) {
		expectPath(t, "Makefile", m[1])
	}
	pinned := regexp.MustCompile(`^[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	versions := map[string]string{}
	for _, file := range files {
		name := filepath.Base(file)
		text := repositoryFile(t, ".github", "workflows", name)
		var workflow struct {
			Permissions map[string]string `json:"permissions"`
			Jobs        map[string]struct {
				Uses           string           `json:"uses"`
				RunsOn         string           `json:"runs-on"`
				TimeoutMinutes int              `json:"timeout-minutes"`
				Steps          []map[string]any `json:"steps"`
			} `json:"jobs"`
		}
		if err := yaml.Unmarshal([]byte(text), &workflow); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(workflow.Permissions) != 1 || workflow.Permissions["contents"] != "read" {
			t.Errorf("%s: a job may write unless it says otherwise", name)
		}
		for id, job := range workflow.Jobs {
			switch {
			case job.Uses != "":
				expectPath(t, name, job.Uses)
			case job.RunsOn == "" || job.TimeoutMinutes == 0 || len(job.Steps) == 0:
				t.Errorf("%s: the job %s has no machine, no time limit or no steps", name, id)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)uses: +(\S.*)$`).FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "./") {
				continue
			}
			action, _, _ := strings.Cut(m[1], "@")
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned by a commit, with its version behind", name, m[1])
			}
			if versions[action] != "" && versions[action] != m[1] {
				t.Errorf("%s: two versions of %s", name, action)
			}
			versions[action] = m[1]
		}
		for _, m := range regexp.MustCompile(`\bmake (\w+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`targets: (\w+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(repositoryFile(t, "docker-bake.hcl"), `target "`+m[1]+`"`) {
				t.Errorf("%s: docker-bake.hcl has no target %s", name, m[1])
			}
		}
	}
}

// What a release is made of exists.
func TestReleaseConfiguration(t *testing.T) {
	var release struct {
		Version int `json:"version"`
		Builds  []struct {
			Main    string   `json:"main"`
			Ldflags []string `json:"ldflags"`
		} `json:"builds"`
		Archives []struct {
			Files []string `json:"files"`
		} `json:"archives"`
		Nfpms []struct {
			Bindir   string `json:"bindir"`
			Contents []struct {
				Src string `json:"src"`
				Dst string `json:"dst"`
			} `json:"contents"`
		} `json:"nfpms"`
	}
	if err := yaml.Unmarshal([]byte(repositoryFile(t, ".goreleaser.yaml")), &release); err != nil {
		t.Fatal(err)
	}
	build, deb := release.Builds[0], release.Nfpms[0]
	expectPath(t, "main", build.Main)
	version := repositoryFile(t, "internal", "version", "version.go")
	for _, m := range regexp.MustCompile(`internal/version\.(\w+)=`).FindAllStringSubmatch(strings.Join(build.Ldflags, "\n"), -1) {
		if !regexp.MustCompile(`(?m)^var .*\b` + m[1] + `\b.* string$`).MatchString(version) {
			t.Errorf("ldflags: internal/version has no variable %s", m[1])
		}
	}
	for _, file := range release.Archives[0].Files {
		expectPath(t, "archives", file)
	}
	installed := map[string]bool{deb.Bindir + "/tentagate": true}
	for _, c := range deb.Contents {
		expectPath(t, "nfpms", c.Src)
		installed[c.Dst] = true
	}
	unit := repositoryFile(t, "packaging", "tentagate.service")
	for _, path := range regexp.MustCompile(`/(?:usr/bin|etc)/[\w/.]+`).FindAllString(unit, -1) {
		if !installed[path] {
			t.Errorf("the unit names %s, which the package does not install", path)
		}
	}
	if socket := "unix/" + "/run/tentagate/"; !strings.Contains(repositoryFile(t, "packaging", "Caddyfile"), socket) || !strings.Contains(unit, "RuntimeDirectory=tentagate\n") {
		t.Error("the admin socket is not in the directory that the unit makes")
	}
	var dependabot struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal([]byte(repositoryFile(t, ".github", "dependabot.yml")), &dependabot); err != nil {
		t.Fatal(err)
	}
	of := map[string]string{"gomod": "go.mod", "docker": "Dockerfile", "docker-compose": "compose.yaml", "github-actions": ".github/workflows"}
	for _, u := range dependabot.Updates {
		for _, dir := range append(u.Directories, u.Directory) {
			if dir != "" {
				expectPath(t, "dependabot", filepath.Join(dir, of[u.Ecosystem]))
			}
		}
	}
}

// A release is made only of what passed the tests, and the weekly build waits for one.
func TestReleaseNeedsTests(t *testing.T) {
	type job struct {
		Needs string `json:"needs"`
		Uses  string `json:"uses"`
		If    string `json:"if"`
	}
	jobs := func(name string) map[string]job {
		var workflow struct {
			Jobs map[string]job `json:"jobs"`
		}
		if err := yaml.Unmarshal([]byte(repositoryFile(t, ".github", "workflows", name)), &workflow); err != nil {
			t.Fatal(err)
		}
		return workflow.Jobs
	}
	release := jobs("release.yaml")
	if release["test"].Uses != "./.github/workflows/test.yaml" || !strings.Contains(repositoryFile(t, ".github", "workflows", "test.yaml"), "\n  workflow_call:") {
		t.Error("release does not call the workflow test")
	}
	for name := range release {
		need := name
		for range release {
			need = cmp.Or(release[need].Needs, need)
		}
		if need != "test" {
			t.Errorf("the job %s of release does not need the tests", name)
		}
	}
	if jobs("base.yaml")["image"].If != "needs.latest.outputs.ref != ''" {
		t.Error("base builds an image before there is a release")
	}
}

// The recipe shows the unit of the package.
func TestPackagedUnitInDocs(t *testing.T) {
	if unit := repositoryFile(t, "packaging", "tentagate.service"); !strings.Contains(repositoryFile(t, "docs", "recipes.md"), "```ini\n"+unit+"```") {
		t.Error("docs/recipes.md does not show packaging/tentagate.service as it is")
	}
}

// The package's Caddyfile serves as the unit starts it, and reloads as it says.
func TestPackagedService(t *testing.T) {
	g := prepare(t)
	socket := filepath.Join(g.home, "admin.sock")
	file := filepath.Join(g.home, "Caddyfile")
	text := strings.ReplaceAll(repositoryFile(t, "packaging", "Caddyfile"), "/run/tentagate/admin.sock", socket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(directive string) []string {
		m := regexp.MustCompile(`(?m)^` + directive + `=/usr/bin/tentagate (.+)$`).FindStringSubmatch(repositoryFile(t, "packaging", "tentagate.service"))
		if m == nil {
			t.Fatalf("the unit has no %s", directive)
		}
		return strings.Fields(strings.ReplaceAll(m[1], "/etc/tentagate/Caddyfile", file))
	}
	env := []string{"SERVER_NAME=http://" + g.addr, `BACKEND_SERVICES={"users":"http://127.0.0.1:1"}`, "JWT_SECRET_KEY=" + podSecret}
	g.admin = g.addr // the admin API is a Unix socket
	g.run(env, command("ExecStart")...)
	g.waitReady()
	if a := g.get("/health"); a.status != 200 {
		t.Errorf("/health: %d", a.status)
	}
	if code, out := cli(t, env, command("ExecReload")...); code != 0 {
		t.Errorf("reload: %d %s", code, tail(out, 800))
	}
	if code, out := cli(t, nil, "limits", "--address", "unix/"+socket); code != 0 {
		t.Errorf("limits: %d %s", code, tail(out, 800))
	}
}
