package registry

import (
	"container/list"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

// sharing is a group of the name with one member that exchanges hints.
func sharing(t *testing.T, name string, h *hints) *Member {
	t.Helper()
	m := &Member{scope: Service, name: name, maxKeys: 10, hints: h, settings: circuit.Settings{Window: time.Hour, Ratio: .5, MinRequests: 20}}
	val, _, err := groups.LoadOrNew(poolKey(Service, name), func() (caddy.Destructor, error) {
		return &Group{Scope: Service, Name: name, circuits: map[string]*list.Element{}, members: []*Member{m}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.group = val.(*Group)
	t.Cleanup(func() { _ = m.group.leave(m) })
	return m
}

// What cannot be a hint, or is not for this gateway, changes nothing.
func TestHintsTaken(t *testing.T) {
	h := &hints{id: "me"}
	m := sharing(t, "taken", h)
	other := sharing(t, "alone", nil)
	hinted := func(m *Member, key string) bool { return m.Circuit(key).Snapshot().Hinted }
	m.Circuit("")
	other.Circuit("")
	for _, text := range []string{
		"", "{", "null", "[]", `"open"`, `{"from":"you","scope":"service","name":"taken"}`,
		`{"from":"you","scope":"service","name":"taken","ms":-1}`,
		`{"from":"you","scope":"service","name":"taken","ms":1e99}`,
		`{"from":"you","scope":"upstream","name":"taken","ms":60000}`,
		`{"from":"you","scope":"service","name":"taken","key":"another","ms":60000}`,
		`{"from":"me","scope":"service","name":"taken","ms":60000}`,
		`{"from":"you","scope":"service","name":"nobody","ms":60000}`,
		`{"from":"you","scope":"service","name":"taken","ms":60000,"x":"` + strings.Repeat("x", hintSize) + `"}`,
	} {
		h.take(text)
		if hinted(m, "") {
			t.Fatalf("%.80s: it is taken for a hint", text)
		}
	}
	h.take(`{"from":"you","scope":"service","name":"alone","ms":60000}`)
	h.take(`{"from":"you","scope":"service","name":"alone","key":"later","ms":60000}`)
	if hinted(other, "") || hinted(other, "later") {
		t.Error("a breaker without `share` listens")
	}
	h.take(`{"from":"you","scope":"service","name":"taken","ms":9223372036854775807}`)
	if s := m.Circuit("").Snapshot(); !s.Hinted || s.State != circuit.Closed {
		t.Errorf("%+v", s)
	}
}

// However many keys others name, a bounded number of them is kept.
func TestHintsAreBounded(t *testing.T) {
	h := &hints{id: "me"}
	m := sharing(t, "bounded", h)
	for i := range 3 * hintKeys {
		h.take(fmt.Sprintf(`{"from":"you","scope":"service","name":"bounded","key":"%d","ms":60000}`, i))
	}
	m.group.mu.Lock()
	n := len(m.group.heard)
	m.group.mu.Unlock()
	if n > hintKeys {
		t.Errorf("%d are kept", n)
	}
	if !m.Circuit("0").Snapshot().Hinted {
		t.Error("the first is forgotten")
	}
}

// The end of a configuration does not wait for a Redis that hangs; the
// connection is given back when it is no longer used.
func TestHintsEndAtOnce(t *testing.T) {
	hangs, given := make(chan struct{}), make(chan struct{})
	h := &hints{cancel: func() {}, giveBack: func() { close(given) }}
	h.done.Go(func() { <-hangs })
	if err := h.Destruct(); err != nil { // would hang here
		t.Fatal(err)
	}
	select {
	case <-given:
		t.Error("the connection is given back in the middle of its use")
	default:
	}
	close(hangs)
	<-given
}

// Telling of an opening never waits, however slow Redis is.
func TestHintsNeverWait(t *testing.T) {
	h := &hints{id: "me", outgoing: make(chan hint, hintQueue)}
	m := sharing(t, "telling", h)
	for range 10 * hintQueue {
		h.publish(m.group, "", time.Minute) // nobody takes them out
	}
	if len(h.outgoing) != hintQueue {
		t.Errorf("%d wait", len(h.outgoing))
	}
}
