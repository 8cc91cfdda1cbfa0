package store

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/pythopus/tentagate/certstore/internal/seal"
)

// Bounds of a key, in bytes and components.
const (
	maxKey   = 1024
	maxDepth = 32
)

// checkKey reports what is wrong with a key of certmagic: components separated
// by single slashes, none of them `.` or `..`.
func checkKey(key string) error {
	problem := ""
	switch {
	case key == "":
		problem = "it is empty"
	case len(key) > maxKey:
		problem = fmt.Sprintf("it is longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		problem = "it is not UTF-8"
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		problem = "it has a control character"
	case strings.Contains(key, `\`):
		problem = "it has a backslash"
	case strings.Count(key, "/") >= maxDepth:
		problem = fmt.Sprintf("it has more than %d components", maxDepth)
	}
	if problem == "" {
		for component := range strings.SplitSeq(key, "/") {
			switch component {
			case "":
				problem = "it has an empty component: it begins or ends with a slash, or has two in a row"
			case ".", "..":
				problem = "it has the component " + component
			}
		}
	}
	if problem == "" {
		return nil
	}
	if len(key) > 100 {
		key = key[:100] + "…"
	}
	return fmt.Errorf("storage key %q: %s: %w", key, problem, fs.ErrInvalid)
}

// Kinds of names.
const (
	kindEntry     = "v"
	kindDirectory = "d"
	kindLock      = "l"
)

// name is what a key is called in Redis, without the base.
func name(k *seal.Key, kind, key string) string {
	return kind + ":" + k.Name(kind, key)
}

// fieldOf is the field of a child in the hash of its directory.
func fieldOf(k *seal.Key, child string, isDirectory bool) string {
	if isDirectory {
		return k.Name(kindDirectory, child) + "/"
	}
	return k.Name(kindEntry, child)
}

// names returns what a key is called for each encryption key.
func (s *Store) names(kind, key string) []string {
	list := make([]string, len(s.o.Keys))
	for i, k := range s.o.Keys {
		list[i] = name(k, kind, key)
	}
	return list
}

// parents returns the directories from the root to the key: of a/b/c the root, a
// and a/b.
func parents(key string) []string {
	list := []string{""}
	for i := range len(key) {
		if key[i] == '/' {
			list = append(list, key[:i])
		}
	}
	return list
}

// base returns the last component of a key.
func base(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// join is the inverse of parents and base.
func join(directory, child string) string {
	if directory == "" {
		return child
	}
	return directory + "/" + child
}
