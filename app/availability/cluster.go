package availability

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// topologyTimeout bounds the first look-up of a Cluster's nodes.
	topologyTimeout = time.Second

	// maxTags is how many hash tags are tried to find one of a node.
	maxTags = 4096
)

// topology finds the nodes of a Cluster by go-redis' map of them.
type topology struct {
	client  *redis.ClusterClient
	prefix  string
	engine  *Engine
	known   atomic.Bool
	loading atomic.Bool
}

// locate returns the master of a key. While go-redis has no map, it would wait
// for one: that is left to the background.
func (t *topology) locate(key string) (node string, ok bool) {
	if !t.known.Load() {
		t.load()
		return "", false
	}
	c, err := t.client.MasterForKey(t.engine.ctx, key)
	if err != nil {
		return "", false
	}
	return c.Options().Addr, true
}

func (t *topology) load() {
	if !t.loading.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer t.loading.Store(false)
		ctx, cancel := context.WithTimeout(t.engine.ctx, topologyTimeout)
		defer cancel()
		if _, err := t.client.MasterForKey(ctx, t.prefix); err == nil {
			t.known.Store(true)
		}
	}()
}

// tag returns a hash tag whose slot the node has.
func (t *topology) tag(node string) (tag string, ok bool) {
	for i := range maxTags {
		tag = "{" + strconv.Itoa(i) + "}"
		if at, known := t.locate(tag); known && at == node {
			return tag, true
		}
	}
	return "", false
}

func (t *topology) owns(node string) bool {
	if !t.known.Load() {
		return true
	}
	_, ok := t.tag(node)
	return ok
}

func (t *topology) probe(ctx context.Context, node string) error {
	key := t.prefix + ":probe"
	if node != "" {
		tag, _ := t.tag(node)
		key += ":" + tag
	}
	err := set(ctx, t.client, key)
	if Classify(err) == Outage {
		t.client.ReloadState(ctx) // in the background
	}
	return err
}
