package ledger

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

func counters(produced, ring, publish uint64) *wire.Counters {
	return &wire.Counters{Produced: produced, Lost: map[string]uint64{flow.StageKernelRing: ring, flow.StagePublish: publish}}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// only returns the one account of b, and fails if there are others or if it doesn't add up.
func only(t *testing.T, b *Book, now int64) flow.NodeLedger {
	t.Helper()
	all := b.Snapshot(now)
	if len(all) != 1 {
		t.Fatalf("%d accounts, want 1: %+v", len(all), all)
	}
	if a := all[0]; a.Produced != a.Delivered+a.InFlight+sum(a.Lost) {
		t.Fatalf("doesn't add up: %+v", a)
	}
	return all[0]
}

func TestLifeOfABoot(t *testing.T) {
	b := New()
	node := &flow.Node{Name: "n", Boot: 1}
	a := b.Connect(node, "v1", 0, 10)
	check(t, a.Receive(counters(150, 20, 30), 60))
	a.Deliver(50)
	want := flow.NodeLedger{
		Node: node, Connected: true, Since: 10, Produced: 150, Delivered: 50, InFlight: 50,
		Lost: map[string]uint64{flow.StageKernelRing: 20, flow.StagePublish: 30},
	}
	if diff := cmp.Diff(want, only(t, b, 20)); diff != "" {
		t.Error(diff)
	}
	a.Disconnect(30)
	if again := b.Connect(node, "v1", 40, 40); again != a {
		t.Error("a reconnect made another account")
	}
	check(t, a.Receive(counters(150, 20, 30), 40))
	a.Deliver(50)
	if got := only(t, b, 50); got.InFlight != 0 || got.Delivered != 100 || got.Since != 40 {
		t.Errorf("%+v", got)
	}
	// A batch of 10 arrives, the loop can't read it; 5 never arrive before the collector starts anew.
	check(t, a.Receive(counters(165, 20, 30), 10))
	a.Lose(flow.StageRelayIngest, 10)
	b.Connect(&flow.Node{Name: "n", Boot: 2}, "v2", 0, 60)
	if err := a.Receive(counters(166, 20, 30), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("a boot that is over: %v", err)
	}
	if got := only(t, b, 70); got.Node.Boot != 2 || got.Produced != 0 {
		t.Errorf("%+v", got)
	}
	wantSums := &Sums{Produced: 165, Delivered: 100, Lost: map[string]uint64{flow.StageKernelRing: 20, flow.StagePublish: 30, flow.StageRelayIngest: 15}}
	if diff := cmp.Diff(wantSums, b.Totals()["n"]); diff != "" {
		t.Error(diff)
	}
	if nodes := b.Nodes(); len(nodes) != 1 || nodes[0].Version != "v2" || !nodes[0].Connected {
		t.Errorf("%+v", nodes)
	}
}

func TestAnOldBootIsShownUntilItIsDrained(t *testing.T) {
	b := New()
	a := b.Connect(&flow.Node{Name: "n", Boot: 1}, "", 0, 1)
	check(t, a.Receive(counters(10, 0, 0), 10))
	b.Connect(&flow.Node{Name: "n", Boot: 2}, "", 0, 2)
	if all := b.Snapshot(3); len(all) != 2 || all[0].InFlight != 10 || all[0].Connected {
		t.Errorf("%+v", all)
	}
	a.Deliver(10)
	only(t, b, 4)
}

func TestAnotherRelayTookSome(t *testing.T) {
	b := New()
	node := &flow.Node{Name: "n", Boot: 1}
	a := b.Connect(node, "", 70, 1) // 70 were acknowledged before this relay came
	check(t, a.Receive(counters(100, 0, 0), 30))
	a.Deliver(30)
	if got := only(t, b, 2); got.Delivered != 100 || got.InFlight != 0 {
		t.Errorf("%+v", got)
	}
	a.Disconnect(3)
	// All of these 100 and 50 more are acknowledged when it comes back.
	b.Connect(node, "", 150, 4)
	check(t, a.Receive(counters(160, 0, 0), 10))
	a.Deliver(10)
	if got := only(t, b, 5); got.Delivered != 160 || got.InFlight != 0 {
		t.Errorf("%+v", got)
	}
}

func TestCountersThatCannotBeTrue(t *testing.T) {
	b := New()
	a := b.Connect(&flow.Node{Name: "n", Boot: 1}, "", 0, 1)
	for name, err := range map[string]error{
		"more flows than produced":       a.Receive(counters(5, 0, 0), 6),
		"more lost than produced":        a.Report(counters(5, 3, 3)),
		"flows and lost beyond produced": a.Receive(counters(5, 1, 0), 5),
	} {
		if !errors.Is(err, ErrCounters) {
			t.Errorf("%s: %v", name, err)
		}
	}
	only(t, b, 2)
}

func TestOlderCountersChangeNothing(t *testing.T) {
	b := New()
	a := b.Connect(&flow.Node{Name: "n", Boot: 1}, "", 0, 1)
	check(t, a.Report(counters(100, 10, 5)))
	check(t, a.Report(counters(90, 4, 5)))
	check(t, a.Report(&wire.Counters{Produced: 100}))
	if got := only(t, b, 2); got.Produced != 100 || got.Lost[flow.StageKernelRing] != 10 || got.InFlight != 85 {
		t.Errorf("%+v", got)
	}
}

func TestNodesThatAreLongGoneAreForgotten(t *testing.T) {
	b := New()
	a := b.Connect(&flow.Node{Name: "n", Boot: 1}, "", 0, 1)
	check(t, a.Report(counters(9, 0, 0)))
	a.Disconnect(2)
	only(t, b, 2+int64(Keep))
	if all := b.Snapshot(3 + int64(Keep)); len(all) != 0 || len(b.Totals()) != 0 {
		t.Errorf("%+v", all)
	}
}

// Whatever comes, the account adds up.
func TestAlwaysAddsUp(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := New()
		node := &flow.Node{Name: "n", Boot: 1}
		a := b.Connect(node, "", r.Uint64N(50), 1)
		inMerge := 0
		var produced, ring, publish uint64
		for range 100 {
			produced += r.Uint64N(40)
			ring += r.Uint64N(5)
			publish += r.Uint64N(5)
			switch n := r.IntN(20); r.IntN(6) {
			case 0:
				_ = a.Report(counters(produced, ring, publish))
			case 1, 2:
				if a.Receive(counters(produced, ring, publish), n) == nil {
					inMerge += n
				}
			case 3:
				n = min(n, inMerge)
				a.Deliver(n)
				inMerge -= n
			case 4:
				n = min(n, inMerge)
				a.Lose(flow.StageRelayIngest, n)
				inMerge -= n
			case 5:
				a = b.Connect(node, "", r.Uint64N(200), 1)
			}
			if got := only(t, b, 2); got.InFlight > got.Produced {
				t.Fatalf("seed %d: %+v", seed, got)
			}
		}
	}
}
