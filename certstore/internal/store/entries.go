package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/certstore/internal/seal"
)

// maxValue bounds a value. Certificates have some kilobytes.
const maxValue = 16 << 20

// finishing is for how long the write of what a lock protects is tried while Redis is
// gone: a certificate that was issued and cannot be written is lost, and the next
// order counts against the limits of the authority.
const finishing = time.Minute

// headSize is the length of what stands before a value when it is sealed: the
// time of the write in Unix milliseconds.
const headSize = 8

// sealed returns a value as it is stored.
func sealed(k *seal.Key, key string, value []byte, modified time.Time) []byte {
	text := make([]byte, headSize, headSize+len(value))
	binary.BigEndian.PutUint64(text, uint64(modified.UnixMilli()))
	return k.Seal(append(text, value...), kindEntry+":"+key)
}

// opened is the inverse of sealed.
func opened(k *seal.Key, key string, stored []byte) (value []byte, modified time.Time, err error) {
	text, err := k.Open(stored, kindEntry+":"+key)
	if err == nil && len(text) < headSize {
		err = seal.ErrCorrupt
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", key, err)
	}
	return text[headSize:], time.UnixMilli(int64(binary.BigEndian.Uint64(text))), nil
}

// change returns the keys and arguments of a script that changes an entry, up to
// the fields, for the lock that protects it, which may be nil.
func (s *Store) change(key string, h *held) (keys []string, args []any) {
	if h != nil {
		token, fence := h.ticket()
		keys = s.names(kindLock, h.name)
		args = append(args, len(keys), token, fence, s.o.Lease.Milliseconds())
	} else {
		args = append(args, 0, "", 0, 0)
	}
	directories := parents(key)
	args = append(args, len(directories))
	for _, k := range s.o.Keys {
		keys = append(keys, name(k, kindEntry, key))
		for i, directory := range directories {
			keys = append(keys, name(k, kindDirectory, directory))
			if i+1 < len(directories) {
				args = append(args, fieldOf(k, directories[i+1], true))
			} else {
				args = append(args, fieldOf(k, key, false))
			}
		}
	}
	return keys, args
}

// put writes an entry. If expected is not empty, it does so only if the entry has
// that stored form, and reports whether it did.
func (s *Store) put(ctx context.Context, key string, value []byte, modified time.Time, expected []byte, h *held) (bool, error) {
	primary := s.o.Keys.Primary()
	keys, args := s.change(key, h)
	args = append(args, sealed(primary, key, value, modified), expected)
	directories := parents(key)
	for i, child := range append(directories[1:], key) {
		args = append(args, primary.Seal([]byte(base(child)), kindDirectory+":"+directories[i]))
	}
	return s.run(ctx, putScript, keys, args...).Bool()
}

func (s *Store) store(ctx context.Context, waits bool, key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > maxValue {
		return fmt.Errorf("storing %s: %d bytes are more than the %d that are accepted: %w", key, len(value), maxValue, fs.ErrInvalid)
	}
	h := s.guardOf(key)
	if h != nil && !waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, finishing)
		defer cancel()
		waits = true
	}
	return s.fenced(h, key, s.do(ctx, waits, "store", func(ctx context.Context) error {
		_, err := s.put(ctx, key, value, time.Now(), nil, h)
		return err
	}))
}

// found is an entry as it is stored, and opened.
type found struct {
	stored, value []byte
	modified      time.Time
	key           int // number of its encryption key, from 0
}

// get reads an entry. The error is fs.ErrNotExist if there is none.
func (s *Store) get(ctx context.Context, key string) (found, error) {
	reply, err := s.run(ctx, getScript, s.names(kindEntry, key)).Slice()
	if err != nil {
		return found{}, notExist(err)
	}
	number, ok := reply[0].(int64)
	text, ok2 := reply[1].(string)
	if !ok || !ok2 || number < 1 || int(number) > len(s.o.Keys) {
		return found{}, errReply
	}
	f := found{stored: []byte(text), key: int(number) - 1}
	f.value, f.modified, err = opened(s.o.Keys[f.key], key, f.stored)
	return f, err
}

// errReply is for an answer that no script of ours gives.
var errReply = errors.New("unexpected reply of Redis")

// notExist turns the nil reply of Redis into the error that certmagic expects.
func notExist(err error) error {
	if errors.Is(err, redis.Nil) {
		return fs.ErrNotExist
	}
	return err
}

func (s *Store) load(ctx context.Context, waits bool, operation, key string) (f found, err error) {
	if err := checkKey(key); err != nil {
		return found{}, err
	}
	missing := false
	err = s.do(ctx, waits, operation, func(ctx context.Context) error {
		f, err = s.get(ctx, key)
		if missing = errors.Is(err, fs.ErrNotExist); missing {
			return nil
		}
		return err
	})
	if missing && err == nil {
		err = &fs.PathError{Op: operation, Path: key, Err: fs.ErrNotExist}
	}
	return f, err
}

// exists reports whether there is an entry or a directory.
func (s *Store) exists(ctx context.Context, waits bool, key string) (there bool, err error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	err = s.do(ctx, waits, "exists", func(ctx context.Context) error {
		n, err := s.run(ctx, existsScript, append(s.names(kindEntry, key), s.names(kindDirectory, key)...)).Int()
		there = n > 0
		return err
	})
	return there, err
}

func (s *Store) stat(ctx context.Context, waits bool, key string) (certmagic.KeyInfo, error) {
	f, err := s.load(ctx, waits, "stat", key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: f.modified, Size: int64(len(f.value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	there, err2 := s.exists(ctx, waits, key)
	switch {
	case err2 != nil:
		return certmagic.KeyInfo{}, err2
	case there:
		return certmagic.KeyInfo{Key: key}, nil
	}
	return certmagic.KeyInfo{}, err
}

// remove deletes the entry, and all those below it.
func (s *Store) remove(ctx context.Context, waits bool, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := s.removeOne(ctx, waits, key); err != nil {
		return err
	}
	below, err := s.walk(ctx, waits, key, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range below {
		if child.isDirectory {
			continue
		}
		if err := s.removeOne(ctx, waits, child.key); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) removeOne(ctx context.Context, waits bool, key string) error {
	h := s.guardOf(key)
	return s.fenced(h, key, s.do(ctx, waits, "delete", func(ctx context.Context) error {
		keys, args := s.change(key, h)
		return s.run(ctx, removeScript, keys, args...).Err()
	}))
}

// ignoreMissing returns nil for an entry that is gone.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
