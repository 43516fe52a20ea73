package relay

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
	"github.com/parallax-flow/parallax/relay/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBusyPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := "listen on " + l.Addr().String() + ": address already in use: another relay runs here, or choose --ingest-listen"
	if err := New(Config{Listen: l.Addr().String()}, Deps{}).Run(t.Context()); err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestCheck(t *testing.T) {
	if err := (Config{}).Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for name, c := range map[string]Config{
		"short window": {Window: time.Millisecond},
		"long window":  {Window: time.Minute},
		"no port":      {Listen: "localhost"},
		"negative":     {Waiting: -1},
	} {
		if err := c.Check(); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRunEndsSubscriptions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := New(Config{}, Deps{Listener: l})
	sub := r.Subscribe("test", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, ok := <-sub.C(); ok {
		t.Error("a batch out of nowhere")
	}
}

// runLoop runs r's loop without a network, for tests in a bubble of fake time.
func runLoop(r *Relay) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		newLoop(r).run(nil, ended)
	}()
	return func() {
		close(ended)
		<-done
		r.hub.Close()
	}
}

// feed stands for the stream of one collector.
type feed struct {
	r        *Relay
	stream   *ingest.Stream
	server   *ingest.Server
	encoder  *wire.Encoder
	decoder  *wire.Decoder
	number   uint64
	produced uint64
}

func connect(r *Relay, node *flow.Node) *feed {
	f := &feed{
		r: r, stream: ingest.NewStream(context.Background(), &wire.Hello{Node: node.Name, Boot: node.Boot, First: 1}), server: ingest.New(handler{r}),
		encoder: wire.NewEncoder(), decoder: wire.NewDecoder(),
	}
	r.events <- event{stream: f.stream, kind: streamOpened}
	return f
}

func (f *feed) send(t *testing.T, flows ...flow.Flow) {
	t.Helper()
	data, err := f.encoder.Encode(nil, &flow.Batch{Flows: flows})
	if err != nil {
		t.Fatal(err)
	}
	f.number++
	f.produced += uint64(len(flows))
	b := &wire.Batch{Counters: wire.Counters{Produced: f.produced}, Number: f.number, Flows: len(flows), Data: data}
	records, err := f.server.Decode(f.decoder, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := (handler{f.r}).Batch(f.stream, b, records); err != nil {
		t.Error(err)
	}
}

// At any rate, from one flow in ten seconds to a thousand a second, no flow waits longer than a second: a collector holds it for 100 ms at most,
// the network takes 50 ms here, the relay its window.
func TestDelayAtAnyRate(t *testing.T) {
	for _, rate := range []float64{0.1, 2, 10, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{}, Deps{})
			sub := r.Subscribe("test", 10_000)
			stop := runLoop(r)
			node := &flow.Node{Name: "n", Boot: 1}
			f := connect(r, node)
			const n = 50
			go func() {
				for range n {
					time.Sleep(time.Duration(float64(time.Second) / rate))
					made := time.Now().Add(-150 * time.Millisecond).UnixNano()
					f.send(t, flow.Flow{Time: made, Node: node, Kind: flow.KindDrop, Verdict: flow.VerdictDropped})
				}
			}()
			for got := 0; got < n; {
				b := <-sub.C()
				for i := range b.Flows {
					got++
					if d := time.Since(time.Unix(0, b.Flows[i].Time)); d > time.Second || d < DefaultWindow {
						t.Errorf("%v flows/s: delay %v", rate, d)
					}
				}
			}
			stop()
		})
	}
}

// One node is silent, another one gone: the flows of the third come as if it were alone.
func TestSilentNodesDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{}, Deps{})
		sub := r.Subscribe("test", 10)
		stop := runLoop(r)
		nodes := []*flow.Node{{Name: "silent", Boot: 1}, {Name: "gone", Boot: 1}, {Name: "busy", Boot: 1}}
		var feeds []*feed
		for _, n := range nodes {
			feeds = append(feeds, connect(r, n))
		}
		r.events <- event{stream: feeds[1].stream, kind: streamBroken}
		at := time.Now()
		feeds[2].send(t, flow.Flow{Time: at.UnixNano(), Node: nodes[2], Kind: flow.KindDrop, Verdict: flow.VerdictDropped})
		<-sub.C()
		if d := time.Since(at); d > DefaultWindow+2*tick {
			t.Errorf("delay %v", d)
		}
		stop()
	})
}

// A node whose stream broke counts as observed for a while, one that went by itself does not.
func TestOwnershipEndsWithTheCollector(t *testing.T) {
	for _, tc := range []struct {
		name      string
		kind      eventKind
		pause     time.Duration
		secondary bool
	}{
		{"connected", streamCounters, 0, true},
		{"ended by itself", streamClosed, 0, false},
		{"broken a second ago", streamBroken, time.Second, true},
		{"broken long ago", streamBroken, Grace + time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := New(Config{}, Deps{})
				sub := r.Subscribe("test", 10)
				stop := runLoop(r)
				a, b := &flow.Node{Name: "a", Boot: 1}, &flow.Node{Name: "b", Boot: 1}
				feedA, feedB := connect(r, a), connect(r, b)
				r.events <- event{stream: feedA.stream, kind: tc.kind, count: &wire.Counters{}}
				time.Sleep(tc.pause)
				feedB.send(t, flow.Flow{
					Time: time.Now().UnixNano(), Node: b, Kind: flow.KindNew, Point: flow.PointToEndpoint,
					Src: &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "a"}, Dst: &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "b"},
				})
				if got := (<-sub.C()).Flows[0].Secondary; got != tc.secondary {
					t.Errorf("secondary %v, want %v", got, tc.secondary)
				}
				stop()
			})
		})
	}
}

func TestDuplicatesAndUnreadableBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		r := New(Config{}, Deps{Registerer: reg})
		sub := r.Subscribe("test", 10)
		stop := runLoop(r)
		node := &flow.Node{Name: "n", Boot: 1}
		f := connect(r, node)
		one := flow.Flow{Time: time.Now().UnixNano(), Node: node, Kind: flow.KindDrop, Verdict: flow.VerdictDropped}
		f.send(t, one, one)
		f.number, f.produced = 0, 0
		f.send(t, one, one) // again, as behind a reconnect
		bad := &wire.Batch{Counters: wire.Counters{Produced: 7}, Number: 2, Flows: 5, Data: []byte("garbage")}
		unreadable, err := f.server.Decode(f.decoder, bad)
		if err != nil {
			t.Fatal(err)
		}
		r.events <- event{stream: f.stream, kind: streamBatch, frame: bad, records: unreadable}
		time.Sleep(time.Second)
		stop()
		flows, lost := 0, uint64(0)
		for b := range sub.C() {
			flows += len(b.Flows)
			for _, l := range b.Lost {
				lost += l.Count
			}
		}
		if flows != 2 || lost != 5 {
			t.Errorf("%d flows, %d lost, want 2 and 5", flows, lost)
		}
		if l := r.Ledger(); len(l) != 1 || l[0].Produced != 7 || l[0].Delivered != 2 || l[0].InFlight != 0 || l[0].Lost[flow.StageRelayIngest] != 5 {
			t.Errorf("ledger %+v", l)
		}
		got := gather(t, reg)
		for name, want := range map[string]float64{
			"parallax_relay_flows_total": 2, "parallax_relay_duplicate_flows_total": 2, "parallax_relay_received_flows_total": 7,
			`parallax_lost_total{node="n",stage="relay.ingest"}`: 5, `parallax_relay_nodes{state="connected"}`: 1, `parallax_in_flight{node="n"}`: 0,
			`parallax_produced_total{node="n"}`: 7, `parallax_delivered_total{node="n"}`: 2, "parallax_relay_delay_seconds": 2,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s = %v, want %v", name, v, want)
			}
		}
	})
}

// gather returns values by series; of histograms the count.
func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}
