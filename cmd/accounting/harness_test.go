package accounting

import (
	"context"
	"io"
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

// proxy stands between collector and relay and breaks connections.
type proxy struct {
	address string
	mu      sync.Mutex
	conns   map[net.Conn]bool
	closed  bool // to new connections
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String(), conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	pump := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		dst.Close()
		src.Close()
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			if p.conns[in], p.conns[out] = true, true; p.closed {
				in.Close()
				out.Close()
			}
			p.mu.Unlock()
			wg.Go(func() { pump(in, out) })
			wg.Go(func() { pump(out, in) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(); wg.Wait() })
	return p
}

func (p *proxy) refuse(all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = all
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}
