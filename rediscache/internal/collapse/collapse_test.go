package collapse

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestFollowersGetTheFirstResult(t *testing.T) {
	var ended []int
	g := Group[string]{Ended: func(n int) { ended = append(ended, n) }}
	call, leader := g.Join("a")
	if !leader {
		t.Fatal("the first is no leader")
	}
	var wg sync.WaitGroup
	for range 3 {
		c, leader := g.Join("a")
		if leader || c != call {
			t.Fatal("a second leader of one key")
		}
		wg.Go(func() {
			<-c.Ready()
			if c.Result() != "first" {
				t.Errorf("got %q", c.Result())
			}
		})
	}
	if other, leader := g.Join("b"); !leader {
		t.Error("another key has no call of its own")
	} else {
		g.End(other)
	}
	if calls, followers := g.Stats(); calls != 1 || followers != 3 {
		t.Errorf("%d calls, %d followers", calls, followers)
	}
	g.Publish(call, "first")
	g.Publish(call, "second")
	wg.Wait()
	g.End(call)
	g.End(call)
	if fmt.Sprint(ended) != "[1 4]" {
		t.Errorf("ended %v", ended)
	}
	if calls, _ := g.Stats(); calls != 0 {
		t.Errorf("%d calls at the end", calls)
	}
	g.Publish(call, "too late")
	g.Publish(nil, "to nobody")
	g.End(nil)
}

// A call that ends without a result lets everybody ask alone.
func TestEndWithoutResult(t *testing.T) {
	var g Group[string]
	call, _ := g.Join("a")
	g.End(call)
	<-call.Ready()
	if call.Result() != "" {
		t.Errorf("got %q", call.Result())
	}
}

// The end of a call that was retired does not end the one that took its place.
func TestRetired(t *testing.T) {
	var g Group[string]
	stuck, _ := g.Join("a")
	g.Retire(stuck)
	next, leader := g.Join("a")
	if !leader {
		t.Fatal("the retired call is still joined")
	}
	g.End(stuck)
	if again, leader := g.Join("a"); leader || again != next {
		t.Error("the end of the retired call ended its successor")
	}
}

func TestHitForMiss(t *testing.T) {
	now := time.Unix(1000, 0)
	var h HitForMiss
	a, b := Hash{1}, Hash{2}
	if h.Remove(a); h.Has(a, now) {
		t.Error("an unknown key is remembered")
	}
	h.Add(a, now.Add(2*time.Second))
	h.Add(a, now.Add(time.Second)) // shortens nothing
	if !h.Has(a, now.Add(1500*time.Millisecond)) || h.Has(b, now) {
		t.Error("the key is forgotten, or another is remembered")
	}
	if h.Has(a, now.Add(3*time.Second)) || h.Has(a, now) {
		t.Error("the key is remembered after its time")
	}
	h.Add(a, now.Add(time.Second))
	if h.Remove(a); h.Has(a, now) {
		t.Error("a removed key is remembered")
	}
	for i := range maxRemembered + 10 {
		h.Add(Hash{byte(i), byte(i >> 8), byte(i >> 16)}, now.Add(time.Second))
	}
	if len(h.expires) > maxRemembered {
		t.Errorf("%d keys", len(h.expires))
	}
}

// A call whose leader failed is led by one after the other of those who wait.
func TestHandOver(t *testing.T) {
	var ended []int
	g := Group[string]{Ended: func(n int) { ended = append(ended, n) }}
	call, _ := g.Join("a")
	for range 3 {
		g.Join("a")
	}
	if call.Failed() {
		t.Error("failed from the start")
	}
	for range 2 {
		g.HandOver(call)
		<-call.Turn()
		g.TakeTurn(call)
		select {
		case <-call.Turn():
			t.Fatal("two leaders")
		case <-call.Ready():
			t.Fatal("a failure is a result")
		default:
		}
	}
	if _, leader := g.Join("a"); leader || !call.Failed() {
		t.Errorf("somebody else leads, failed %v", call.Failed())
	}
	g.Publish(call, "found")
	g.HandOver(call) // there is nothing to hand over
	select {
	case <-call.Turn():
		t.Error("handed over with a result")
	default:
	}
	if _, leader := g.Join("a"); !leader || fmt.Sprint(ended) != "[1 1 3]" {
		t.Errorf("leader %v, ended %v", leader, ended)
	}
	g.HandOver(nil)
}

// A failed call is forgotten when nobody is left to lead it.
func TestHandOverToNobody(t *testing.T) {
	var g Group[string]
	call, _ := g.Join("a")
	g.HandOver(call)
	if calls, _ := g.Stats(); calls != 0 {
		t.Errorf("%d calls without anybody", calls)
	}
	call, _ = g.Join("a")
	g.Join("a")
	g.Join("a")
	g.HandOver(call)
	g.Leave(call)
	if _, leader := g.Join("a"); leader {
		t.Error("a second leader while one waits")
	}
	g.Leave(call)
	g.Leave(call)
	if calls, _ := g.Stats(); calls != 0 {
		t.Errorf("%d calls without anybody", calls)
	}
	if _, leader := g.Join("a"); !leader {
		t.Error("the call is stuck")
	}
}
