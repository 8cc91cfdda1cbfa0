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

// kustomizationOfPage renders a kustomization that a page shows, with this repository in
// place of the address that it names.
func kustomizationOfPage(t *testing.T, b block) []byte {
	t.Helper()
	folder := t.TempDir()
	text := regexp.MustCompile(`github\.com/pythopus/tentagate//(k8s/[a-z/-]+)\?ref=v\d+\.\d+\.\d+`).ReplaceAllStringFunc(b.text, func(remote string) string {
		path, _, _ := strings.Cut(strings.TrimPrefix(remote, "github.com/pythopus/tentagate//"), "?")
		return relative(t, folder, filepath.Join(repository(), path))
	})
	for name, content := range map[string]string{"kustomization.yaml": text, "Caddyfile": "# of the page\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
	out, err := found.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Kustomizations and objects that pages show are what an API server takes. The whole one
// for AKS leaves no placeholder, and its Caddyfile is used.
func TestDocsManifests(t *testing.T) {
	kustomizations, manifests, whole := 0, 0, 0
	for _, b := range blocks(t) {
		switch {
		case strings.Contains(b.text, "github.com/pythopus/tentagate//k8s/"):
			kustomizations++
			out := kustomizationOfPage(t, b)
			found := decode(t, out)
			if !strings.Contains(b.text, "files: [Caddyfile]") {
				continue
			}
			whole++
			if left := regexp.MustCompile(`<[a-z-]+>`).FindAll(out, -1); len(left) > 0 || configMap(t, found, "tentagate-config").Data["Caddyfile"] != "# of the page\n" {
				t.Errorf("%s:%d: %q is left, or the Caddyfile is not used:\n%s", b.page, b.line, left, out)
			}
			if n := len(found["ConfigMap"]); n != 2 {
				t.Errorf("%s:%d: %d ConfigMaps, want those of the base", b.page, b.line, n)
			}
		case strings.HasPrefix(b.text, "apiVersion: "):
			manifests++
			decode(t, []byte(b.text))
		}
	}
	if kustomizations < 4 || manifests < 3 || whole != 1 {
		t.Errorf("%d kustomizations and %d manifests, %d of them whole", kustomizations, manifests, whole)
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
