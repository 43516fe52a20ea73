// Package accounting holds the tests that need both ends of the way from a collector to the consumers of a relay: every record is
// delivered once or counted as lost, whatever is killed on the way.
package accounting

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/flow"
)

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

// Relays come and go under load. One that is stopped acknowledges what it handed out: everything is delivered once, by this relay or the next.
// One that is cut off can't: everything is delivered, some of it by both.
func TestRelaysThatGoLoseNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		kill bool
	}{{"stopped", false}, {"killed", true}} {
		t.Run(tc.name, func(t *testing.T) {
			r := startRelay(t, "127.0.0.1:0")
			p := startProxy(t, r.address)
			s := startPublisher(t, "node", p.address, nil)
			relays := []*running{r}
			const rounds, perRound = 4, 5000
			for round := range rounds {
				for range perRound / 100 {
					s.send(100)
				}
				if round == rounds-1 {
					break
				}
				until(t, "the relay has delivered something", func() bool { return len(r.delivered()) > 0 })
				s.send(100)
				if tc.kill {
					p.refuse(true)
					p.cut()
				}
				r.stop()
				s.send(50) // while there is no relay
				r = startRelay(t, r.address)
				p.refuse(false)
				relays = append(relays, r)
			}
			const total = rounds*perRound + (rounds-1)*150
			until(t, "all is accounted for", func() bool {
				a := r.account(t, "node")
				return a.Produced == total && a.Delivered == total && a.InFlight == 0 && s.Stats().Acknowledged == total
			})
			if st := s.Stats(); len(st.Lost) > 0 {
				t.Errorf("publisher: %+v", st)
			}
			r.stop()
			var all []flow.Flow
			seen := make(map[uint64]bool)
			for _, r := range relays {
				once(t, r.flows) // one relay delivers nothing twice
				all = append(all, r.flows...)
				for i := range r.flows {
					seen[r.flows[i].Seq] = true
				}
			}
			if len(seen) != total {
				t.Errorf("%d different flows were delivered, want %d", len(seen), total)
			}
			if !tc.kill {
				once(t, all)
			}
		})
	}
}

// The connection breaks at any moment: what is sent again is not delivered again.
func TestBrokenConnectionsMakeNoDuplicates(t *testing.T) {
	r := startRelay(t, "127.0.0.1:0")
	p := startProxy(t, r.address)
	s := startPublisher(t, "node", p.address, nil)
	const total = 200 * 100
	for i := range 200 {
		s.send(100)
		if i%50 == 49 {
			before := s.Stats().Acknowledged
			until(t, "something more is acknowledged", func() bool { return s.Stats().Acknowledged > before })
			s.send(0)
			p.cut()
		}
	}
	until(t, "all is accounted for", func() bool {
		a := r.account(t, "node")
		return a.Delivered == total && a.Produced == total && s.Stats().Acknowledged == total
	})
	r.stop()
	if got := once(t, r.flows)["node"]; got != total {
		t.Errorf("%d flows, want %d", got, total)
	}
}

// There is no relay for longer than the queue lasts: what was dropped is known exactly, in the ledger and in the stream.
func TestFullQueueIsCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s := startPublisher(t, "node", address, func(c *publish.Config) { c.MaxBytes, c.BatchFlows = 16<<10, 256 })
	total := uint64(0)
	until(t, "the queue overflows", func() bool {
		s.send(500, flow.Lost{Node: s.node, Stage: flow.StageKernelRing, Count: 3, Time: 1})
		total += 503
		return s.Stats().Lost[flow.StagePublish] > 2000
	})
	r := startRelay(t, address)
	until(t, "all is accounted for", func() bool {
		a := r.account(t, "node")
		return a.Produced == total && a.InFlight == 0
	})
	until(t, "the collector knows as well", func() bool { return s.Stats().QueuedFlows == 0 })
	a, st := r.account(t, "node"), s.Stats()
	if a.Lost[flow.StagePublish] != st.Lost[flow.StagePublish] || a.Lost[flow.StageKernelRing] != total/503*3 || a.Delivered != st.Acknowledged {
		t.Errorf("relay %+v, collector %+v", a, st)
	}
	r.stop()
	if got := once(t, r.flows)["node"]; uint64(got) != a.Delivered {
		t.Errorf("%d flows came out, the ledger says %d", got, a.Delivered)
	}
	told := make(map[string]uint64)
	for _, l := range r.lost {
		told[l.Stage] += l.Count
	}
	if told[flow.StagePublish] != a.Lost[flow.StagePublish] || told[flow.StageKernelRing] != a.Lost[flow.StageKernelRing] {
		t.Errorf("the stream tells %v, the ledger %v", told, a.Lost)
	}
}

// Encoding can't keep up, or Run was never called: Publish doesn't wait.
func TestPublishNeverBlocks(t *testing.T) {
	p := publish.New(publish.Config{Node: &flow.Node{Name: "n", Boot: 1}, BatchFlows: 10})
	b := flow.Batch{Flows: make([]flow.Flow, 1000)}
	p.Publish(&b)
	if s := p.Stats(); s.Produced != 1000 || s.Lost[flow.StagePublish] != 1000-9*10 {
		t.Errorf("%+v", s)
	}
}

// The collector stops: what it published before arrives, and its stream ends without an error.
func TestShutdownFlushes(t *testing.T) {
	r := startRelay(t, "127.0.0.1:0")
	s := startPublisher(t, "node", r.address, func(c *publish.Config) { c.BatchAge, c.FlushTimeout = time.Hour, 20*time.Second })
	until(t, "it is connected", func() bool { return s.Stats().Connected })
	s.send(777)
	s.stop()
	if st := s.Stats(); st.Acknowledged != 777 || st.QueuedFlows != 0 {
		t.Errorf("%+v", st)
	}
	until(t, "the relay knows", func() bool { a := r.account(t, "node"); return a.Delivered == 777 && !a.Connected })
}

// It stops and there is no relay: it ends in time and counts what nobody got.
func TestShutdownWithoutRelay(t *testing.T) {
	s := startPublisher(t, "node", "127.0.0.1:1", func(c *publish.Config) { c.FlushTimeout = 100 * time.Millisecond })
	s.send(777)
	until(t, "the relay is known to be away", func() bool { return s.Stats().Err != nil })
	s.stop()
	if st := s.Stats(); st.Lost[flow.StagePublish] != 777 {
		t.Errorf("%+v", st)
	}
}

// A new start of the collector: what the old one took with it is lost, and counted.
func TestCrashedCollectorIsCounted(t *testing.T) {
	r := startRelay(t, "127.0.0.1:0")
	p := startProxy(t, r.address)
	s := startPublisher(t, "node", p.address, func(c *publish.Config) { c.FlushTimeout = time.Nanosecond })
	s.send(100)
	until(t, "the first are delivered", func() bool { return r.account(t, "node").Delivered == 100 })
	p.cut()
	s.stop()
	again := startPublisher(t, "node", r.address, nil)
	again.send(10)
	until(t, "the new one is alone and delivered", func() bool {
		all := r.Ledger()
		return len(all) == 1 && all[0].Node.Boot == again.node.Boot && all[0].Delivered == 10 && all[0].InFlight == 0
	})
}

// A consumer that doesn't read loses batches; the ledger of the nodes and the other consumers don't notice.
func TestSlowConsumerHurtsNobody(t *testing.T) {
	r := startRelay(t, "127.0.0.1:0")
	slow := r.Subscribe("slow", 1)
	s := startPublisher(t, "node", r.address, nil)
	const total = 6 * 1000
	for range 6 {
		s.send(1000)
		before := len(r.delivered())
		until(t, "a batch comes through", func() bool { return len(r.delivered()) > before })
	}
	until(t, "all is delivered", func() bool { return r.account(t, "node").Delivered == total && len(r.delivered()) == total })
	r.stop()
	got, lost := 0, uint64(0)
	for b := range slow.C() {
		got += len(b.Flows)
		for _, l := range b.Lost {
			lost += l.Count
		}
	}
	if lost == 0 || uint64(got)+lost != total || slow.Dropped() != lost {
		t.Errorf("slow consumer: %d flows and %d lost of %d, counted %d", got, lost, total, slow.Dropped())
	}
}
