package registry

import (
	"container/list"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

// sharing returns the member of a new group that exchanges hints.
func sharing(t *testing.T, name string, h *hints) *Member {
	t.Helper()
	m := &Member{scope: Service, name: name, maxKeys: 10, hints: h, settings: circuit.Settings{Window: time.Hour, Ratio: .5, MinRequests: 20}}
	ref, err := groups.Acquire(poolKey(Service, name), func() (*group, error) {
		return &group{Scope: Service, Name: name, circuits: map[string]*list.Element{}, members: []*Member{m}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.group = ref.Value
	t.Cleanup(func() { m.group.leave(m); _ = ref.Release() })
	return m
}

// What is no hint, or not for this gateway, changes nothing.
func TestHintsApplied(t *testing.T) {
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
		h.apply(text)
		if hinted(m, "") {
			t.Fatalf("%.80s: it is applied", text)
		}
	}
	h.apply(`{"from":"you","scope":"service","name":"alone","ms":60000}`)
	h.apply(`{"from":"you","scope":"service","name":"alone","key":"later","ms":60000}`)
	if hinted(other, "") || hinted(other, "later") {
		t.Error("a breaker without `share` listens")
	}
	h.apply(`{"from":"you","scope":"service","name":"taken","ms":9223372036854775807}`)
	if s := m.Circuit("").Snapshot(); !s.Hinted || s.State != circuit.Closed {
		t.Errorf("%+v", s)
	}
}

// However many keys other gateways name, a bounded number is kept.
func TestHintsAreBounded(t *testing.T) {
	h := &hints{id: "me"}
	m := sharing(t, "bounded", h)
	for i := range 3 * hintKeys {
		h.apply(fmt.Sprintf(`{"from":"you","scope":"service","name":"bounded","key":"%d","ms":60000}`, i))
	}
	m.group.mu.Lock()
	n := len(m.group.pending)
	m.group.mu.Unlock()
	if n > hintKeys {
		t.Errorf("%d are kept", n)
	}
	if !m.Circuit("0").Snapshot().Hinted {
		t.Error("the first was dropped")
	}
}

// The end of a configuration does not wait for a Redis that hangs; the
// connection is released when it is no longer used.
func TestHintsEndAtOnce(t *testing.T) {
	hangs, given := make(chan struct{}), make(chan struct{})
	h := &hints{cancel: func() {}, giveBack: func() { close(given) }}
	h.done.Go(func() { <-hangs })
	if err := h.close(); err != nil { // would hang here
		t.Fatal(err)
	}
	select {
	case <-given:
		t.Error("the connection is released while in use")
	default:
	}
	close(hangs)
	<-given
}

// Publishing an opening never waits, however slow Redis is.
func TestHintsNeverWait(t *testing.T) {
	h := &hints{id: "me", outgoing: make(chan hint, hintQueue)}
	m := sharing(t, "publishing", h)
	for range 10 * hintQueue {
		h.publish(m.group, "", time.Minute) // nobody receives them
	}
	if len(h.outgoing) != hintQueue {
		t.Errorf("%d wait", len(h.outgoing))
	}
}
