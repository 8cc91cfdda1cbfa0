package redis

import (
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

const (
	denyShards   = 16
	denyPerShard = 4096

	// recheck is the longest a refusal is answered without asking Redis again:
	// units that another gateway gave back, or a reset, take effect at most so much
	// later.
	recheck = time.Second
)

// denials remembers refusals until they are no longer true. A TAT only moves
// forward when units are taken, so a key that was refused for some time cannot
// be admitted before, unless units are given back.
type denials struct {
	shards [denyShards]denyShard
}

type denyShard struct {
	mu   sync.Mutex
	keys map[string]denial
}

type denial struct {
	plan     *gcra.Plan
	cost     int64
	received int64
	until    int64
	decision *gcra.Decision
}

func (n *denials) shard(key string) *denyShard {
	return &n.shards[xxh3.HashString(key)%denyShards]
}

// find answers from memory, or returns false.
func (n *denials) find(key string, plan *gcra.Plan, cost, now int64, d *gcra.Decision) bool {
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.keys[key]
	if !ok {
		return false
	}
	if now >= have.until {
		delete(s.keys, key)
		return false
	}
	// Fewer units might be there, or another plan's.
	if have.plan != plan || cost < have.cost {
		return false
	}
	*d = *have.decision
	age := now - have.received
	d.Source = gcra.Remembered
	d.Wait = max(1, d.Wait-age)
	for i := range d.Len {
		d.Meters[i].Reset = max(0, d.Meters[i].Reset-age)
		if d.Meters[i].Over {
			// A reset later than the wait would contradict it.
			d.Meters[i].Reset = max(1, d.Meters[i].Reset)
		}
	}
	return true
}

// add remembers a decision that was received at now, if it is a refusal.
func (n *denials) add(key string, plan *gcra.Plan, cost, now int64, d *gcra.Decision) {
	if d.Wait <= 0 || d.Wait == gcra.Never {
		return
	}
	keep := *d
	s := n.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[string]denial)
	}
	if _, known := s.keys[key]; !known && len(s.keys) >= denyPerShard {
		for k, v := range s.keys {
			// One has to go; an expired one if there is one among a few.
			delete(s.keys, k)
			if v.until <= now {
				break
			}
			if len(s.keys) < denyPerShard-4 {
				break
			}
		}
	}
	s.keys[key] = denial{plan: plan, cost: cost, received: now, until: now + min(d.Wait, int64(recheck)), decision: &keep}
}

// forget removes a key whose units were given back.
func (n *denials) forget(key string) {
	s := n.shard(key)
	s.mu.Lock()
	delete(s.keys, key)
	s.mu.Unlock()
}
