// Package accounting holds the tests that need both ends of the way from a collector to the consumers of a relay: every record is
// delivered once or counted as lost, whatever is killed on the way.
package accounting

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// until waits for ok, which other goroutines bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// running is a relay and all that it delivered.
type running struct {
	*relay.Relay
	address string
	stop    func()

	mu    sync.Mutex
	flows []flow.Flow
	lost  []flow.Lost
}

func startRelay(t *testing.T, address string) *running {
	t.Helper()
	var l net.Listener
	var err error
	until(t, "the port is free", func() bool {
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	r := &running{Relay: relay.New(relay.Config{RingSize: 1024}, relay.Deps{Listener: l}), address: l.Addr().String()}
	sub := r.Subscribe("test", 10_000)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	wg.Go(func() {
		for b := range sub.C() {
			r.mu.Lock()
			r.flows = append(r.flows, b.Flows...)
			r.lost = append(r.lost, b.Lost...)
			r.mu.Unlock()
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func (r *running) delivered() []flow.Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.flows)
}

// account returns the ledger of a node, and fails if it doesn't add up.
func (r *running) account(t *testing.T, node string) flow.NodeLedger {
	t.Helper()
	for _, a := range r.Ledger() {
		if a.Node.Name != node {
			continue
		}
		sum := a.Delivered + a.InFlight
		for _, n := range a.Lost {
			sum += n
		}
		if sum != a.Produced {
			t.Fatalf("ledger of %s doesn't add up: %+v", node, a)
		}
		return a
	}
	return flow.NodeLedger{Node: &flow.Node{}}
}

type sender struct {
	*publish.Publisher
	node *flow.Node
	seq  uint64
	stop func()
}

func startPublisher(t *testing.T, name, target string, change func(*publish.Config)) *sender {
	t.Helper()
	node := &flow.Node{Name: name, Cluster: "test", Boot: rand.Uint64() | 1}
	c := publish.Config{Target: target, Node: node, BatchAge: 10 * time.Millisecond}
	if change != nil {
		change(&c)
	}
	s := &sender{Publisher: publish.New(c), node: node}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("publisher: %v", err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(s.stop)
	return s
}

// send publishes n new flows of drops: these are never joined with others.
func (s *sender) send(n int, lost ...flow.Lost) {
	b := flow.Batch{Lost: lost}
	now := time.Now().UnixNano()
	for range n {
		s.seq++
		f := b.Next()
		*f = flow.Flow{Time: now, Start: now, Node: s.node, Seq: s.seq, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Drop: &flow.Drop{Reason: "TEST"}}
	}
	s.Publish(&b)
}

// once fails if a flow is in the list twice, and returns how many there are of each node.
func once(t *testing.T, flows []flow.Flow) map[string]int {
	t.Helper()
	type id struct {
		node string
		boot uint64
		seq  uint64
	}
	seen, count := make(map[id]bool), make(map[string]int)
	for i := range flows {
		f := &flows[i]
		k := id{f.Node.Name, f.Node.Boot, f.Seq}
		if seen[k] {
			t.Fatalf("flow %v delivered twice", k)
		}
		seen[k] = true
		count[f.Node.Name]++
	}
	return count
}

func TestEverythingArrivesOnce(t *testing.T) {
	r := startRelay(t, "127.0.0.1:0")
	for i := range 3 {
		name := fmt.Sprintf("node-%d", i)
		s := startPublisher(t, name, r.address, nil)
		for range 50 {
			s.send(401)
		}
		s.send(0, flow.Lost{Node: s.node, Stage: flow.StageKernelRing, Count: 7, Time: 1})
	}
	for i := range 3 {
		name := fmt.Sprintf("node-%d", i)
		until(t, "all of "+name+" is delivered", func() bool {
			a := r.account(t, name)
			return a.Delivered == 50*401 && a.InFlight == 0 && a.Lost[flow.StageKernelRing] == 7 && a.Produced == 50*401+7
		})
	}
	until(t, "the consumer has all", func() bool { return len(r.delivered()) == 3*50*401 })
	once(t, r.delivered())
	r.stop()
	if len(r.lost) != 3 || r.lost[0].Count != 7 {
		t.Errorf("lost records %+v, want one of 7 for each node", r.lost)
	}
}
