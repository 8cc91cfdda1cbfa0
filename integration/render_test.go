package integration

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var updateManifests = flag.Bool("update-manifests", false, "write k8s/tentagate.yaml from k8s/base")

// rendered returns what `kubectl kustomize` makes of a folder of k8s/, with
// components.
func rendered(t *testing.T, folder string, components ...string) []byte {
	t.Helper()
	target := filepath.Join(repository(), "k8s", folder)
	if len(components) > 0 {
		parent := t.TempDir()
		text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: tentagate\nresources: [" + relative(t, parent, target) + "]\ncomponents:\n"
		for _, c := range components {
			text += "- " + relative(t, parent, filepath.Join(repository(), "k8s", "components", c)) + "\n"
		}
		if err := os.WriteFile(filepath.Join(parent, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		target = parent
	}
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), target)
	if err != nil {
		t.Fatal(err)
	}
	text, err := found.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func relative(t *testing.T, from, to string) string {
	t.Helper()
	path, err := filepath.Rel(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The kustomization of docs/aks.md leaves no placeholder, and its Caddyfile is used.
func TestRenderedAKS(t *testing.T) {
	_, text, _ := strings.Cut(repositoryFile(t, "docs", "aks.md"), "## Deploy")
	_, text, _ = strings.Cut(text, "```\n")
	text, _, _ = strings.Cut(text, "```")
	folder := t.TempDir()
	remote := "github.com/pythopus/tentagate//k8s/overlays/aks?ref=v0.1.0"
	if !strings.Contains(text, remote) {
		t.Fatalf("no %s in\n%s", remote, text)
	}
	text = strings.Replace(text, remote, relative(t, folder, filepath.Join(repository(), "k8s", "overlays", "aks")), 1)
	for name, content := range map[string]string{"kustomization.yaml": text, "Caddyfile": "# with entra\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	out, err := found.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	if left := regexp.MustCompile(`<[a-z-]+>`).FindAll(out, -1); len(left) > 0 || !bytes.Contains(out, []byte("# with entra")) {
		t.Errorf("%q is left, or the Caddyfile is not used:\n%s", left, out)
	}
	if n := bytes.Count(out, []byte("kind: ConfigMap")); n != 2 {
		t.Errorf("%d ConfigMaps, want those of the base", n)
	}
}

// What is applied without kustomize is what kustomize makes of the base.
func TestRenderedManifests(t *testing.T) {
	file := filepath.Join(repository(), "k8s", "tentagate.yaml")
	want := append([]byte("# Made from base/ by: go test ./integration -run TestRenderedManifests -update-manifests\n"), rendered(t, "base")...)
	if *updateManifests {
		if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // to be read by all
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("k8s/tentagate.yaml is not what k8s/base renders to: run this test with -update-manifests")
	}
}
