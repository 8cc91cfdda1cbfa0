package circuit

import "sync"

// queued is how many changes may wait to be told of. They come no faster than
// the open time lets them; a listener slower than that loses the oldest.
const queued = 64

// notifier tells of changes in their order, and keeps neither a request nor the
// library's timer waiting for the listener.
type notifier struct {
	notify func(Change)

	mu      sync.Mutex
	queue   []Change // guarded by mu
	telling bool     // guarded by mu
}

func (n *notifier) tell(c Change) {
	if n.notify == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == queued {
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, c)
	if !n.telling {
		n.telling = true
		go n.run()
	}
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.queue, n.telling = nil, false
			n.mu.Unlock()
			return
		}
		c := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		n.notify(c)
	}
}
