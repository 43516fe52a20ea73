package fanout

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

func batch(n int, lost ...flow.Lost) flow.Batch {
	return flow.Batch{Flows: make([]flow.Flow, n), Lost: lost}
}

func drain(s *Subscription) (flows int, lost []flow.Lost) {
	for len(s.C()) > 0 {
		b, ok := <-s.C()
		if !ok {
			break
		}
		flows += len(b.Flows)
		lost = append(lost, b.Lost...)
	}
	return flows, lost
}

func TestSlowConsumerLosesBatchesAndLearnsIt(t *testing.T) {
	var h Hub
	slow, fast := h.Subscribe("slow", 2), h.Subscribe("fast", 10)
	node := &flow.Node{Name: "n"}
	ring := flow.Lost{Node: node, Stage: flow.StageKernelRing, Count: 3, Time: 1}
	for i := range 5 {
		h.Publish(batch(10, ring), int64(i))
	}
	if flows, lost := drain(fast); flows != 50 || len(lost) != 5 {
		t.Errorf("fast consumer: %d flows, %v", flows, lost)
	}
	if flows, lost := drain(slow); flows != 20 || len(lost) != 2 {
		t.Errorf("slow consumer: %d flows, %v", flows, lost)
	}
	h.Publish(batch(1), 9)
	b := <-slow.C()
	got := map[string]uint64{}
	for _, l := range b.Lost {
		got[l.Stage] += l.Count
	}
	if diff := cmp.Diff(map[string]uint64{Stage: 30, flow.StageKernelRing: 9}, got); diff != "" || len(b.Flows) != 1 {
		t.Errorf("what the slow consumer learns: %s", diff)
	}
	want := []Stats{{Name: "fast", Present: 1, Queued: 1, Flows: 51}, {Name: "slow", Present: 1, Flows: 21, Dropped: 30}}
	if diff := cmp.Diff(want, h.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestLastWordIsNotLost(t *testing.T) {
	var h Hub
	s := h.Subscribe("slow", 1)
	h.Publish(batch(1), 1)
	h.Publish(batch(5), 2)
	h.Close()
	var flows int
	var lost []flow.Lost
	for b := range s.C() {
		flows += len(b.Flows)
		lost = append(lost, b.Lost...)
	}
	if flows != 1 || len(lost) != 1 || lost[0].Count != 5 {
		t.Errorf("%d flows, lost %+v", flows, lost)
	}
}

func TestClose(t *testing.T) {
	var h Hub
	a, b := h.Subscribe("x", 1), h.Subscribe("x", 0)
	a.Close()
	a.Close()
	h.Publish(batch(2), 1)
	if _, ok := <-a.C(); ok {
		t.Error("a closed subscription got a batch")
	}
	h.Close()
	h.Publish(batch(2), 1)
	b.Close()
	if flows, _ := drain(b); flows != 2 {
		t.Errorf("%d flows, want those from before the end", flows)
	}
	if _, ok := <-h.Subscribe("y", 1).C(); ok {
		t.Error("a subscription behind the end got a batch")
	}
	if diff := cmp.Diff([]Stats{{Name: "x", Flows: 2}}, h.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestPublishDoesNotAllocate(t *testing.T) {
	var h Hub
	s := h.Subscribe("x", 1)
	b := batch(10)
	if n := testing.AllocsPerRun(100, func() {
		h.Publish(b, 1)
		<-s.C()
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
