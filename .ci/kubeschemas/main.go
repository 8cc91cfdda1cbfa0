// Command kubeschemas writes JSON schemas for kubeconform: one file for each kind, named
// kind_group_version.json, from the OpenAPI document of Kubernetes (swagger.json) and
// from the YAML of custom resource definitions.
//
//	kubeschemas DIRECTORY FILE...
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: kubeschemas DIRECTORY FILE...")
		os.Exit(2)
	}
	for _, file := range os.Args[2:] {
		if err := convert(os.Args[1], file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func convert(dir, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	if definitions := object(doc, "definitions"); definitions != nil {
		return builtIn(dir, definitions)
	}
	if doc["kind"] == "CustomResourceDefinition" {
		return custom(dir, object(doc, "spec"))
	}
	return errors.New("neither an OpenAPI document of Kubernetes nor a CustomResourceDefinition")
}

// builtIn writes each kind of Kubernetes with the definitions that it refers to.
func builtIn(dir string, definitions map[string]any) error {
	for name, text := range map[string]string{
		"io.k8s.apimachinery.pkg.util.intstr.IntOrString": `{"type": ["string", "integer"]}`,
		"io.k8s.apimachinery.pkg.api.resource.Quantity":   `{"type": ["string", "number"]}`,
	} {
		var s map[string]any
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		definitions[name] = s
	}
	for _, s := range definitions {
		strict(s)
	}
	for name, s := range definitions {
		kinds, _ := s.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		// Options of requests have a kind in every group, and stand in no manifest.
		if len(kinds) != 1 {
			continue
		}
		kind := kinds[0].(map[string]any)
		used := map[string]any{}
		collect(used, definitions, name)
		schema := map[string]any{"$ref": "#/definitions/" + name, "definitions": used}
		if err := write(dir, kind["kind"], kind["group"], kind["version"], schema); err != nil {
			return err
		}
	}
	return nil
}

// collect adds the named definition to used, and all that it refers to.
func collect(used, definitions map[string]any, name string) {
	if used[name] != nil {
		return
	}
	used[name] = definitions[name]
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				collect(used, definitions, strings.TrimPrefix(ref, "#/definitions/"))
			}
			for _, member := range v {
				walk(member)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	walk(definitions[name])
}

// custom writes each version of a custom resource.
func custom(dir string, spec map[string]any) error {
	versions, _ := spec["versions"].([]any)
	if len(versions) == 0 {
		return errors.New("no versions")
	}
	for _, v := range versions {
		version := v.(map[string]any)
		schema := object(object(version, "schema"), "openAPIV3Schema")
		if schema == nil {
			return fmt.Errorf("version %v has no schema", version["name"])
		}
		// The API server checks these three itself.
		properties := object(schema, "properties")
		for _, name := range []string{"apiVersion", "kind"} {
			properties[name] = map[string]any{"type": "string"}
		}
		properties["metadata"] = map[string]any{"type": "object"}
		strict(schema)
		if err := write(dir, object(spec, "names")["kind"], spec["group"], version["name"], schema); err != nil {
			return err
		}
	}
	return nil
}

// strict refuses members that a schema does not name, and translates what Kubernetes
// adds to JSON Schema.
func strict(v any) {
	s, ok := v.(map[string]any)
	if !ok {
		return
	}
	if s["x-kubernetes-int-or-string"] == true {
		delete(s, "anyOf")
		s["type"] = []any{"string", "integer"}
	}
	if s["nullable"] == true {
		if t, ok := s["type"].(string); ok {
			s["type"] = []any{t, "null"}
		}
	}
	for _, name := range []string{"properties", "patternProperties"} {
		for _, member := range object(s, name) {
			strict(member)
		}
	}
	for _, name := range []string{"items", "additionalProperties"} {
		strict(s[name])
	}
	if object(s, "properties") != nil && s["additionalProperties"] == nil && s["x-kubernetes-preserve-unknown-fields"] != true {
		s["additionalProperties"] = false
	}
}

func object(m map[string]any, name string) map[string]any {
	v, _ := m[name].(map[string]any)
	return v
}

func write(dir string, kind, group, version any, schema map[string]any) error {
	if group == "" { // kubeconform's name of the core group
		group = version
	}
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	name := strings.ToLower(fmt.Sprintf("%v_%v_%v.json", kind, group, version))
	return os.WriteFile(filepath.Join(dir, name), text, 0o644)
}
