package circuit

import "sync"

// maxQueued is how many changes may wait for the listener. They come no faster
// than the open time allows; a slower listener misses the oldest.
const maxQueued = 64

// notifier calls a listener with each change, in order. Neither a request nor the
// library's timer waits for the listener.
type notifier struct {
	listener func(Change)

	mu      sync.Mutex
	queue   []Change // guarded by mu
	running bool     // guarded by mu
}

func (n *notifier) notify(c Change) {
	if n.listener == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == maxQueued {
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, c)
	if !n.running {
		n.running = true
		go n.run()
	}
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.queue, n.running = nil, false
			n.mu.Unlock()
			return
		}
		c := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		n.listener(c)
	}
}
