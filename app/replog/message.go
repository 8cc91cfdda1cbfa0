package replog

import (
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/app/pubsub"
)

// messageRestored is published when the log got back what it had lost.
const messageRestored = "restored"

// listen applies the changes of others as they are published.
func (l *Log) listen() {
	pubsub.Listen(l.ctx, l.o.Client, l.o.Keys.Channel, l.receive)
}

// receive applies a message. If one before it was lost, or it cannot be read, the
// log is read.
func (l *Log) receive(payload string) {
	m, ok := parseMessage(payload, l.values())
	switch {
	case !ok:
		l.Read()
	case m.writer == l.writer:
	default:
		l.learned.Add(int64(l.replica.Apply(m.changes)))
		if l.synced.Load() < m.previous {
			l.Read()
			return
		}
		raise(&l.synced, m.position)
	}
}

// message is what the scripts publish.
type message struct {
	previous, position uint64
	writer             string
	changes            []Change
}

func parseMessage(s string, values bool) (m message, ok bool) {
	parts := strings.Fields(s)
	if len(parts) < 4 {
		return m, false
	}
	var err1, err2 error
	m.previous, err1 = strconv.ParseUint(parts[0], 10, 64)
	m.position, err2 = strconv.ParseUint(parts[1], 10, 64)
	if err1 != nil || err2 != nil {
		return m, false
	}
	m.writer = parts[2]
	for _, part := range parts[3:] {
		c := Change{Entry: Entry{Key: part}, Position: m.position}
		if values {
			var value string
			if c.Key, value, ok = strings.Cut(part, ":"); !ok || !c.setValue(value, ":") {
				return m, false
			}
		}
		m.changes = append(m.changes, c)
	}
	return m, true
}
