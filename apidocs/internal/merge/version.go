package merge

import (
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// VersionOf returns the version of OpenAPI that a document is written in, such as
// 3.1.0, or nothing if it does not say.
func VersionOf(root tree.Value) string {
	v := root.Get("openapi")
	if v.Is(tree.Number) { // of YAML, without quotes
		return string(v.Raw())
	}
	return v.Text()
}

// Supported reports whether a version can be merged.
func Supported(version string) bool { return minor(version) != "" }

// minor returns the minor version, or nothing if it is not supported.
func minor(version string) string {
	for _, m := range []string{"3.0", "3.1", "3.2"} {
		if version == m || strings.HasPrefix(version, m+".") {
			return m
		}
	}
	return ""
}

// Highest returns the version of a document that is merged of documents of these
// versions.
func Highest(versions ...string) string {
	highest := "3.0"
	for _, v := range versions {
		highest = max(highest, minor(v))
	}
	switch highest {
	case "3.0":
		return "3.0.4"
	case "3.1":
		return "3.1.2"
	}
	return highest + ".0"
}
