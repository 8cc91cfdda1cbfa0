package rediscache

import (
	"sync"
	"time"

	"github.com/zeebo/xxh3"
)

// passes remember for which flights waiting is no use (hit-for-miss). They are
// bounded: what is forgotten costs somebody a wait.
type passes struct {
	mu sync.Mutex
	m  map[[16]byte]time.Time
}

const maxPasses = 1 << 16

var notShared = passes{m: map[[16]byte]time.Time{}}

func (p *passes) add(key string, until time.Time) {
	hash := xxh3.HashString128(key).Bytes()
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.m {
		if len(p.m) < maxPasses {
			break
		}
		delete(p.m, other)
	}
	if until.After(p.m[hash]) {
		p.m[hash] = until
	}
}

func (p *passes) has(key string, now time.Time) bool {
	hash := xxh3.HashString128(key).Bytes()
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.m[hash]
	if ok && now.After(until) {
		delete(p.m, hash)
		return false
	}
	return ok
}

func (p *passes) forget(key string) {
	hash := xxh3.HashString128(key).Bytes()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, hash)
}
