package store

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/certstore/internal/seal"
)

// child is what a directory holds.
type child struct {
	key         string
	isDirectory bool
}

func (s *Store) list(ctx context.Context, waits bool, key string, recursive bool) ([]string, error) {
	if key != "" {
		if err := checkKey(key); err != nil {
			return nil, err
		}
	}
	found, err := s.walk(ctx, waits, key, recursive)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(found))
	for i, c := range found {
		keys[i] = c.key
	}
	slices.Sort(keys)
	// What is an entry and a directory at once is listed once.
	return slices.Compact(keys), nil
}

// walk returns what is in a directory, and with recursive below it. An entry that
// is not a directory has nothing in it. The root always exists.
func (s *Store) walk(ctx context.Context, waits bool, key string, recursive bool) ([]child, error) {
	all, err := s.children(ctx, waits, key)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && key != "" {
		there, err := s.exists(ctx, waits, key)
		if err == nil && !there {
			err = &fs.PathError{Op: "list", Path: key, Err: fs.ErrNotExist}
		}
		return nil, err
	}
	for i := 0; recursive && i < len(all); i++ {
		if !all[i].isDirectory {
			continue
		}
		below, err := s.children(ctx, waits, all[i].key)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// children reads one directory.
func (s *Store) children(ctx context.Context, waits bool, key string) (all []child, err error) {
	err = s.do(ctx, waits, "list", func(ctx context.Context) error {
		all = nil
		reply, err := s.run(ctx, listScript, s.names(kindDirectory, key)).Slice()
		if err != nil {
			return err
		}
		if len(reply) != len(s.o.Keys) {
			return errReply
		}
		for i, k := range s.o.Keys {
			if all, err = appendChildren(all, k, key, reply[i]); err != nil {
				return err
			}
		}
		if len(reply) > 1 { // an entry may be under two keys while it is encrypted again
			slices.SortFunc(all, compareChildren)
			all = slices.Compact(all)
		}
		return nil
	})
	return all, err
}

func compareChildren(a, b child) int {
	if c := strings.Compare(a.key, b.key); c != 0 || a.isDirectory == b.isDirectory {
		return c
	}
	if a.isDirectory {
		return 1
	}
	return -1
}

// appendChildren adds what the hash of a directory for one encryption key has.
func appendChildren(all []child, k *seal.Key, directory string, hash any) ([]child, error) {
	pairs, ok := hash.([]any)
	if !ok || len(pairs)%2 != 0 {
		return nil, errReply
	}
	for i := 0; i < len(pairs); i += 2 {
		field, ok := pairs[i].(string)
		value, ok2 := pairs[i+1].(string)
		if !ok || !ok2 {
			return nil, errReply
		}
		c, err := openChild(k, directory, field, value)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// openChild opens the name of a child, and checks that the field is its own.
func openChild(k *seal.Key, directory, field, value string) (child, error) {
	text, err := k.Open([]byte(value), kindDirectory+":"+directory)
	if err != nil {
		return child{}, fmt.Errorf("a name in %q: %w", directory, err)
	}
	c := child{key: join(directory, string(text)), isDirectory: strings.HasSuffix(field, "/")}
	if fieldOf(k, c.key, c.isDirectory) != field {
		return child{}, fmt.Errorf("a name in %q: %w", directory, seal.ErrCorrupt)
	}
	return c, nil
}
