package integration

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var updateManifests = flag.Bool("update-manifests", false, "write k8s/tentagate.yaml from k8s/base")

// rendered returns what `kubectl kustomize` makes of a folder of k8s/.
func rendered(t *testing.T, folder string) []byte {
	t.Helper()
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(repository(), "k8s", folder))
	if err != nil {
		t.Fatal(err)
	}
	text, err := objects.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
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
