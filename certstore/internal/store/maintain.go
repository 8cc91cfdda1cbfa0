package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often the eviction policy is read, and how soon again after an error.
const (
	policyPeriod = 10 * time.Minute
	policyRetry  = 10 * time.Second
)

// rotationLock makes one gateway at a time encrypt entries again.
const rotationLock = "tentagate_encryption_keys"

// Start begins to watch the eviction policy, and has entries that another key than
// the first encrypts encrypted with the first. Later calls do nothing.
func (s *Store) Start() {
	s.start.Do(func() {
		s.tasks.Go(func() {
			for {
				pause := policyPeriod
				if err := s.checkPolicy(s.ctx); err != nil {
					pause = policyRetry
				}
				if !sleep(s.ctx, pause) {
					return
				}
			}
		})
		if len(s.o.Keys) > 1 {
			s.tasks.Go(s.rotate)
		}
	})
}

// checkPolicy reads the eviction policy of each server that may hold entries.
func (s *Store) checkPolicy(ctx context.Context) error {
	var policy string
	err := s.do(ctx, false, operationPolicy, func(ctx context.Context) error {
		policy = ""
		var mu sync.Mutex
		read := func(ctx context.Context, c redis.Cmdable) error {
			info, err := c.Info(ctx, "memory").Result()
			mu.Lock()
			defer mu.Unlock()
			if found := policyOf(info); policy == "" || evicts(found) {
				policy = found
			}
			return err
		}
		if cluster, ok := s.o.Client.(*redis.ClusterClient); ok {
			return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return read(ctx, c) })
		}
		return read(ctx, s.o.Client)
	})
	if err != nil || policy == "" {
		return err // some services do not say
	}
	if s.state.setPolicy(policy, evicts(policy)) {
		kind := Kept
		if evicts(policy) {
			kind = Evicting
		}
		s.o.Observe(Event{Kind: kind, Name: policy})
	}
	return nil
}

// policyOf finds the eviction policy in what INFO memory returned.
func policyOf(info string) string {
	lines := bufio.NewScanner(strings.NewReader(info))
	for lines.Scan() {
		if policy, ok := strings.CutPrefix(lines.Text(), "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy)
		}
	}
	return ""
}

// evicts reports whether a policy removes keys that have no TTL, as certificates
// do.
func evicts(policy string) bool { return strings.HasPrefix(policy, "allkeys-") }

// rotate encrypts entries with the first key until no other is needed.
func (s *Store) rotate() {
	for {
		n, err := s.reencrypt(s.ctx)
		if s.ctx.Err() != nil {
			return
		}
		s.o.Observe(Event{Kind: Reencrypted, Count: n, Err: err})
		if err == nil || !sleep(s.ctx, jitter(policyRetry, policyRetry)) {
			return
		}
	}
}

// reencrypt encrypts with the first key what another encrypts, and takes the
// others out of the register.
func (s *Store) reencrypt(ctx context.Context) (n int, err error) {
	if _, err := s.lock(ctx, false, true, rotationLock); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.unlock(context.WithoutCancel(ctx), rotationLock)) }()
	all, err := s.walk(ctx, false, "", true)
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if c.isDirectory {
			continue
		}
		moved, err := s.reencryptOne(ctx, c.key)
		if err != nil {
			return n, fmt.Errorf("encrypting with the first key: %w", err)
		}
		if moved {
			n++
		}
	}
	return n, s.forget(ctx)
}

// reencryptOne encrypts an entry with the first key, if it is another's and is not
// changed meanwhile.
func (s *Store) reencryptOne(ctx context.Context, key string) (moved bool, err error) {
	err = s.do(ctx, false, "reencrypt", func(ctx context.Context) error {
		f, err := s.get(ctx, key)
		if err == nil && f.key > 0 {
			moved, err = s.put(ctx, key, f.value, f.modified, f.stored, nil)
		}
		return err
	})
	return moved, ignoreMissing(err)
}

// forget takes the further keys out of the register that nothing is encrypted
// with.
func (s *Store) forget(ctx context.Context) error {
	for _, k := range s.o.Keys[1:] {
		gone := false
		err := s.do(ctx, false, "reencrypt", func(ctx context.Context) (err error) {
			gone, err = s.run(ctx, forgetScript, []string{name(k, kindDirectory, "")}, k.ID()).Bool()
			return err
		})
		if err == nil && !gone {
			err = fmt.Errorf("there are new entries of the key with ID %s", k.ID())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
