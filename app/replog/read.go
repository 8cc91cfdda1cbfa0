package replog

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pythopus/tentagate/app/availability"
)

// reader is the state of the goroutine that reads the log.
type reader struct {
	// begun is false until the log was read for the first time.
	begun bool
	// lost is true from noticing a loss until it was made good.
	lost bool
	// name and server identify the log that was read last, restored is how often it had been
	// written back to.
	name, server string
	restored     uint64
	scanned      time.Time
}

// follow reads the log until the end.
func (l *Log) follow() {
	failing := false
	for first := true; ; first = false {
		l.mu.Lock()
		waiting := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		began := time.Now()
		err := l.sync(l.ctx)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			l.failures.Add(1)
			l.ready.Store(false)
			if p := l.partition(); p != nil {
				p.Report(availability.Call{Began: began, Write: true}, err)
			}
		} else {
			l.touch()
			l.ready.Store(true)
			signal(l.work) // what could not be written before
		}
		for _, c := range waiting {
			c <- err
		}
		if failing != (err != nil) {
			failing = err != nil
			l.o.Observe(err)
		}
		if first {
			close(l.tried)
		}
		timer := time.NewTimer(l.o.Period)
		select {
		case <-timer.C:
		case <-l.kick:
			timer.Stop()
		case <-l.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// catchUp reads the log and writes what is pending, and waits for both.
func (l *Log) catchUp(ctx context.Context) error {
	read := make(chan error, 1)
	l.mu.Lock()
	l.waiting = append(l.waiting, read)
	l.mu.Unlock()
	l.Read()
	select {
	case err := <-read:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return nil
	}
	l.mu.Lock()
	b := l.writing
	if len(l.pending.entries) > 0 {
		b = l.pending
	}
	l.mu.Unlock()
	if b == nil {
		return nil
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return nil
	}
}

// touch notes an answer of Redis.
func (l *Log) touch() {
	now := l.o.Now()
	l.contact.Store(&now)
}

// touchAgain notes an answer of Redis, but not before the log was read once.
func (l *Log) touchAgain() {
	if l.contact.Load() != nil {
		l.touch()
	}
}

// sync reads what is new in the log. If the log may have lost changes, the
// replica is written back first. What is written back, here or elsewhere, has
// positions below those that were read, so then everything is read.
func (l *Log) sync(ctx context.Context) error {
	known := l.synced.Load() // before reading: it grows meanwhile
	since := known
	if !l.reader.begun {
		since = 0
	}
	p, err := l.read(ctx, since)
	if err != nil {
		return err
	}
	all := !l.reader.begun
	if all {
		l.replica.Begin(p.birth)
	} else {
		if l.isLost(p, known) && !l.reader.lost {
			l.reader.lost = true
			l.lost.Add(1)
		}
		// Who first notices a loss may not know all that was lost.
		if all = l.reader.lost || p.restored != l.reader.restored; all {
			if err := l.restore(ctx); err != nil {
				return err
			}
			since = 0
			if p, err = l.read(ctx, since); err != nil {
				return err
			}
		}
	}
	name, server, restored := p.name, p.server, p.restored
	for {
		l.learned.Add(int64(l.replica.Apply(p.changes)))
		since = max(since, p.to)
		if p.size < pageSize {
			break
		}
		if p.from < since {
			since-- // the page may end between two keys of one position
		}
		if p, err = l.read(ctx, since); err != nil {
			return err
		}
	}
	if l.values() && (all || time.Since(l.reader.scanned) >= scanEvery) {
		if err := l.scan(ctx); err != nil {
			return err
		}
	}
	raise(&l.synced, since)
	l.replica.Advance(since)
	l.reader.begun, l.reader.lost = true, false
	l.reader.name, l.reader.server, l.reader.restored = name, server, restored
	return nil
}

// isLost reports whether the log is another than the one that was read last, or
// an older copy of it.
func (l *Log) isLost(p *page, known uint64) bool {
	return p.created || p.name != l.reader.name || p.server != l.reader.server || p.last < known
}

// page is a part of the log.
type page struct {
	// last is the position at which the log ends.
	last uint64
	// name and server identify the log. The server's replication ID changes
	// with a failover, which may lose the end of the log.
	name, server string
	// birth is where the log was begun. Nothing is known of before.
	birth    uint64
	restored uint64
	created  bool
	// size is how many keys the page has, from and to their first and last
	// position. Changes leave out what says nothing.
	size     int
	from, to uint64
	changes  []Change
}

// read returns a page of the log after since.
func (l *Log) read(ctx context.Context, since uint64) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	values := 0
	if l.values() {
		values = 1
	}
	reply, err := readLog.run(ctx, l.o.Client, l.keys,
		since, l.replica.Clock(), pageSize, rand.Text(), l.o.Life.Milliseconds(), values).Slice()
	if err != nil {
		if strings.Contains(err.Error(), "WRONGTYPE") {
			l.removeForeign(ctx)
		}
		return nil, err
	}
	l.touchAgain()
	return parsePage(reply)
}

// removeForeign removes keys of another type, which another program put
// in place of ours.
func (l *Log) removeForeign(ctx context.Context) {
	for i, key := range l.keys {
		own := "zset"
		if i == 1 {
			own = "hash"
		}
		if kind, err := l.o.Client.Type(ctx, key).Result(); err == nil && kind != "none" && kind != own {
			_ = l.o.Client.Unlink(ctx, key).Err()
		}
	}
}

func parsePage(reply []any) (*page, error) {
	if len(reply) != 8 {
		return nil, fmt.Errorf("the log answered %d parts, not 8", len(reply))
	}
	head, err := texts(reply[:6])
	if err != nil {
		return nil, err
	}
	p := &page{name: head[3], server: head[4], created: head[5] == "1"}
	for i, number := range []*uint64{&p.last, &p.birth, &p.restored} {
		if *number, err = strconv.ParseUint(head[i], 10, 64); err != nil {
			return nil, err
		}
	}
	news, err := texts(reply[6])
	if err != nil {
		return nil, err
	}
	values, err := texts(reply[7])
	if err != nil {
		return nil, err
	}
	p.size = len(news) / 2
	for i := range p.size {
		c := Change{Entry: Entry{Key: news[2*i]}}
		if c.Position, err = parsePosition(news[2*i+1]); err != nil {
			return nil, err
		}
		if i == 0 {
			p.from = c.Position
		}
		p.to = c.Position
		// "clock" only keeps the last position no lower than the gateways' clocks.
		// A value that cannot be read was not written by a gateway.
		if c.Key != "clock" && (i >= len(values) || c.setValue(values[i], " ")) {
			p.changes = append(p.changes, c)
		}
	}
	return p, nil
}

// setValue reads "value expires", or "- expires" of what was removed.
func (e *Entry) setValue(s, separator string) bool {
	value, expires, _ := strings.Cut(s, separator)
	var err error
	if e.Removed = value == "-"; !e.Removed {
		if e.Value, err = strconv.ParseInt(value, 10, 64); err != nil || e.Value < 0 {
			return false
		}
	}
	e.Expires, err = strconv.ParseInt(expires, 10, 64)
	return err == nil && e.Expires >= 0
}

// parsePosition reads a score of the sorted set, which is a floating-point number.
func parsePosition(s string) (uint64, error) {
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return v, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1<<63) {
		return 0, fmt.Errorf("%q is not a position", s)
	}
	return uint64(f), nil
}

// scan reads all values, whether or not the log has a position for them: it may
// have lost that, or an older version of TentaGate wrote them, which knew no
// positions.
func (l *Log) scan(ctx context.Context) error {
	for cursor := uint64(0); ; {
		fields, next, err := l.scanPage(ctx, cursor)
		if err != nil {
			return err
		}
		l.touchAgain()
		var changes []Change
		for i := 0; i+1 < len(fields); i += 2 {
			c := Change{Entry: Entry{Key: fields[i]}}
			if c.setValue(fields[i+1], " ") && !c.Removed {
				changes = append(changes, c)
			}
		}
		l.learned.Add(int64(l.replica.Apply(changes)))
		if cursor = next; cursor == 0 {
			l.reader.scanned = time.Now()
			return nil
		}
	}
}

func (l *Log) scanPage(ctx context.Context, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return l.o.Client.HScan(ctx, l.o.Keys.State, cursor, "", pageSize).Result()
}

// restore writes the replica back to the log.
func (l *Log) restore(ctx context.Context) error {
	since := uint64(0)
	if now, life := l.replica.Clock(), uint64(l.o.Life.Microseconds()); now > life {
		since = now - life
	}
	var args []any
	var err error
	news, size := 0, 0
	flush := func() {
		if err == nil && size > 0 {
			var n int
			n, err = l.restoreBatch(ctx, args)
			news += n
		}
		args, size = args[:0], 0
	}
	l.replica.Each(since, func(c Change) {
		args = append(args, c.Position, c.Key)
		if l.values() {
			value := strconv.FormatInt(c.Value, 10)
			if c.Removed {
				value = "-"
			}
			args = append(args, value, c.Expires)
		}
		if size++; size >= batchSize {
			flush()
		}
	})
	flush()
	if news > 0 && err == nil {
		// Only a hint: the others see it when they read next.
		_ = l.o.Client.Publish(ctx, l.o.Keys.Channel, messageRestored).Err()
	}
	return err
}

func (l *Log) restoreBatch(ctx context.Context, args []any) (news int, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	s := restoreKeys
	if l.values() {
		s = restoreValues
	}
	news, err = s.run(ctx, l.o.Client, l.keys, args...).Int()
	if err == nil {
		l.touchAgain()
	}
	return news, err
}

// texts returns a list of an answer.
func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("the log answered %T, not a list", v)
	}
	all := make([]string, len(list))
	for i, one := range list {
		if all[i], ok = one.(string); !ok {
			return nil, fmt.Errorf("the log answered %T, not a string", one)
		}
	}
	return all, nil
}
