package replog

import (
	"context"
	"fmt"
	"strconv"
)

// batch is what is written together.
type batch struct {
	entries map[string]Entry
	done    chan struct{} // closed when writing was attempted
	err     error         // nil if it is in the log; set before done is closed
}

func newBatch() *batch { return &batch{entries: map[string]Entry{}, done: make(chan struct{})} }

// add merges an entry into the batch.
func (b *batch) add(e Entry) {
	old := b.entries[e.Key]
	e.Value, e.Expires = max(e.Value, old.Value), max(e.Expires, old.Expires)
	b.entries[e.Key] = e
}

func (b *batch) has(key string) bool {
	_, ok := b.entries[key]
	return ok
}

// Append writes entries to the log and reports whether they are in it already.
// While Redis does not answer they are pending, and written when it does. It
// waits no longer than the context, and not at all while the log cannot be read.
// Before, and in one step with it, it calls enter, which enters them in the
// replica.
func (l *Log) Append(ctx context.Context, enter func(), entries ...Entry) (shared bool) {
	l.Start()
	l.mu.Lock()
	enter()
	b := l.pending
	for _, e := range entries {
		b.add(e)
	}
	l.mu.Unlock()
	signal(l.work)
	if !l.Await(ctx) {
		return false
	}
	select {
	case <-b.done:
		return b.err == nil
	case <-ctx.Done():
		return false
	}
}

// Unshared calls f with a function that reports whether a key is in no log yet,
// or with nil if there is no such key. Nothing is appended meanwhile.
func (l *Log) Unshared(f func(has func(key string) bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending.entries) == 0 && l.writing == nil {
		f(nil)
		return
	}
	f(func(key string) bool { return l.pending.has(key) || l.writing != nil && l.writing.has(key) })
}

// Remove removes a key from a log with values, and reports whether it was there.
// Without an answer of Redis it fails, and changes nothing. Once nothing of the
// key is on its way to the log, it calls leave, which makes the replica's entry
// give way to the removal.
func (l *Log) Remove(ctx context.Context, key string, leave func()) (existed bool, err error) {
	pending, err := l.withdraw(ctx, key, leave)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	w, err := parseWritten(removeKey.run(ctx, l.o.Client, l.keys, l.replica.Clock(), l.o.Keys.Channel, l.writer, key).StringSlice())
	if err != nil {
		if pending != nil {
			l.mu.Lock()
			l.pending.add(*pending)
			l.mu.Unlock()
			signal(l.work)
		}
		return false, err
	}
	if w.position == 0 {
		return false, nil
	}
	l.replica.Apply([]Change{{Entry{Key: key, Removed: true}, w.position}})
	l.advance(w)
	return true, nil
}

// withdraw takes the key out of what is pending, and returns what it took. What
// is being written is waited for, so that the removal comes after it.
func (l *Log) withdraw(ctx context.Context, key string, leave func()) (*Entry, error) {
	for {
		l.mu.Lock()
		b := l.writing
		if b == nil || !b.has(key) {
			break
		}
		l.mu.Unlock()
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer l.mu.Unlock()
	leave()
	e, ok := l.pending.entries[key]
	if !ok {
		return nil, nil
	}
	delete(l.pending.entries, key)
	return &e, nil
}

// write writes what is pending whenever there is something.
func (l *Log) write() {
	for {
		select {
		case <-l.work:
			for l.writePending(l.ctx) {
			}
		case <-l.ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), commandTimeout/4)
			for l.writePending(last) {
			}
			cancel()
			return
		}
	}
}

// writePending writes what is pending and reports whether to look for more at
// once.
func (l *Log) writePending(ctx context.Context) (more bool) {
	l.mu.Lock()
	b := l.pending
	if len(b.entries) == 0 {
		l.mu.Unlock()
		return false
	}
	l.pending, l.writing = newBatch(), b
	clock := l.replica.Clock()
	l.mu.Unlock()

	rest := make([]Entry, 0, len(b.entries))
	for _, e := range b.entries {
		rest = append(rest, e)
	}
	for len(rest) > 0 {
		some := rest[:min(len(rest), batchSize)]
		w, err := l.append(ctx, some, clock)
		if b.err = err; err != nil {
			break
		}
		rest, clock = rest[len(some):], w.position
		l.replica.Confirm(some, w.position)
		l.appended.Add(1)
		l.advance(w)
	}
	l.mu.Lock()
	if b.err != nil {
		// Tried again after the next successful read.
		l.failures.Add(1)
		l.ready.Store(false)
		for _, e := range rest {
			l.pending.add(e)
		}
	}
	l.writing = nil
	l.mu.Unlock()
	close(b.done)
	return b.err == nil
}

// append writes one batch.
func (l *Log) append(ctx context.Context, entries []Entry, clock uint64) (written, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	args := []any{clock, l.o.Keys.Channel, l.writer, l.o.Life.Microseconds()}
	s := appendKeys
	if l.values() {
		s = appendValues
	}
	for _, e := range entries {
		args = append(args, e.Key)
		if l.values() {
			args = append(args, e.Value, e.Expires)
		}
	}
	return parseWritten(s.run(ctx, l.o.Client, l.keys, args...).StringSlice())
}

// advance notes that the log is known up to what was written here, unless
// something was written before it that is not known yet.
func (l *Log) advance(w written) {
	if l.synced.Load() >= w.previous {
		raise(&l.synced, w.position)
	}
}

// written is the answer of a script that writes.
type written struct{ previous, position uint64 }

func parseWritten(reply []string, err error) (w written, _ error) {
	if err != nil {
		return w, err
	}
	if len(reply) != 2 {
		return w, fmt.Errorf("the log answered %d parts, not 2", len(reply))
	}
	if w.previous, err = strconv.ParseUint(reply[0], 10, 64); err != nil {
		return w, err
	}
	w.position, err = strconv.ParseUint(reply[1], 10, 64)
	return w, err
}
