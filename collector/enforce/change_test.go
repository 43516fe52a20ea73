package enforce_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// doc is a policy as YAML.
func doc(namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s", namespace, name, spec)
}

const denyIngress = "{podSelector: {}, policyTypes: [Ingress]}"

// from is a connection from one pod of the node to a port of another, over IPv4.
func (r *rig) from(src, dst int, proto flow.Proto, port uint16) policytest.Probe {
	actor := func(i int) policytest.Actor {
		o := r.pods[i-1].object
		return policytest.Actor{Pod: &policy.Endpoint{Namespace: o.Namespace, Name: o.Name, Node: o.Node}, Addr: o.Addrs[0]}
	}
	return policytest.Probe{Src: actor(src), Dst: actor(dst), Proto: proto, Port: port}
}

// dial makes a connection that lasts.
func (r *rig) dial(p policytest.Probe) *net.TCPConn {
	r.t.Helper()
	var conn *net.TCPConn
	r.spaces[p.Src.Addr].do(func() (err error) {
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Dst.Addr, p.Port)))
		return err
	})
	r.t.Cleanup(func() { conn.Close() })
	must(r.t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func connTuple(c *net.TCPConn) tuple {
	return tuple{c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort(), flow.ProtoTCP}
}

func echo(c net.Conn, text string) error {
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("echo of %q is %q", text, got)
	}
	return nil
}

// awaitDrop returns the first drop of the connection.
func (r *rig) awaitDrop(at tuple) (f flow.Flow) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("a drop of %v", at), func() bool {
		for _, f = range r.decided(at) {
			if f.Kind == flow.KindDrop {
				return true
			}
		}
		return false
	})
	return f
}

func TestChangeCutsAndMends(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), nil)
	deny := read(t, doc("c", "all", denyIngress), doc("c", "too", denyIngress))
	r.bind(nil)
	established := r.dial(r.from(1, 2, flow.ProtoTCP, 8080))
	must(t, echo(established, "before"))

	r.bind(deny)
	if _, err := established.Write([]byte("during")); err != nil {
		t.Fatal(err)
	}
	f := r.awaitDrop(connTuple(established))
	if want := "ingress default deny because of NetworkPolicy c/all and NetworkPolicy c/too"; f.Policy.Text != want || len(f.Policy.Policies) != 2 {
		t.Errorf("dropped: %q, want %q", f.Policy.Text, want)
	}
	if f.Drop == nil || *f.Drop != (flow.Drop{Reason: "POLICY_DENIED", Code: 133}) || f.Dropped() == 0 || f.Point != flow.PointToEndpoint {
		t.Errorf("drop %+v", f)
	}
	begun := r.begin(r.from(4, 5, flow.ProtoTCP, 8080))
	defer begun.close()
	r.awaitDrop(begun.tuple)

	r.bind(nil)
	got := make([]byte, 6)
	if _, err := io.ReadFull(established, got); err != nil || string(got) != "during" { // sent again by TCP
		t.Errorf("echo %q, %v", got, err)
	}
	eventually(t, "the SYN that is sent again is answered", func() bool { begun.look(); return begun.passed })
}

func TestAuditDropsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), func(c *enforce.Config) { c.Mode = enforce.Audit })
	r.bind(read(t, doc("c", "all", denyIngress), doc("b", "out", "{podSelector: {}, policyTypes: [Egress]}")))
	for _, a := range r.try(r.from(1, 2, flow.ProtoTCP, 8080), r.from(1, 2, flow.ProtoUDP, 53), r.from(3, 5, flow.ProtoTCP, 80)) {
		if !a.passed || a.dropped {
			t.Errorf("%s: passed %t, dropped %t", a.Probe, a.passed, a.dropped)
		}
		eventually(t, fmt.Sprintf("an audit of %s", a.Probe), func() bool {
			for _, f := range r.decided(a.tuple) {
				if f.Kind == flow.KindVerdict && f.Verdict == flow.VerdictAudit && f.Direction == flow.DirectionIngress {
					return f.Policy.Text == "ingress default deny because of NetworkPolicy c/all" && f.Drop == nil
				}
			}
			return false
		})
	}
}

func TestNothingIsDeniedBehindTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rig){
		"of the enforcer":  func(r *rig) { r.release() },
		"of the datapath":  func(r *rig) { r.unload() },
		"of both, in turn": func(r *rig) { r.release(); r.unload() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newCluster(t), nil)
			r.bind(read(t, doc("c", "all", denyIngress)))
			waiting := r.begin(r.from(1, 2, flow.ProtoTCP, 8080))
			defer waiting.close()
			r.awaitDrop(waiting.tuple)
			end(r)
			conn := r.dial(r.from(1, 2, flow.ProtoTCP, 8080))
			must(t, echo(conn, "free"))
			eventually(t, "the SYN that is sent again is answered", func() bool { waiting.look(); return waiting.passed })
			if err := r.probe.WritePolicy(&enforce.Write{}); name != "of the enforcer" && !errors.Is(err, enforce.ErrUnloaded) {
				t.Errorf("write to what is unloaded: %v", err)
			}
		})
	}
}

// TestUpdatesAreAtomic changes policies all the time, identities and tables with them, while clients use what all of them
// allow, each by other rules: a pod, and a service of it whose backends change too.
func TestUpdatesAreAtomic(t *testing.T) {
	t.Parallel()
	const updates = 250
	seed := policytest.Seed(t)
	c := newCluster(t)
	virtual, backends := netip.MustParseAddr("10.96.0.9"), []netip.AddrPort{netip.AddrPortFrom(podAddrs(2)[0], 8080)}
	c.services = []*meta.Object{service("c", "web", meta.Forward{Addr: virtual, Port: 8080, Proto: flow.ProtoTCP, To: backends})}
	c.translate()
	r := newRig(t, c, nil)
	labels := map[string]string{"app": "x", "statefulset.kubernetes.io/pod-name": "z"}
	for _, p := range r.pods {
		o := *p.object
		o.Labels, o.Ports = labels, []meta.Port{{Name: "http", Number: 8080, Proto: flow.ProtoTCP}}
		p.object = &o
	}
	r.told(r.objects(nil))
	p := r.from(1, 2, flow.ProtoTCP, 8080)
	bases := []string{
		doc("b", "out", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}") + "\n---\n" +
			doc("c", "in", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"),
		doc("b", "out", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 8080}]}]}") + "\n---\n" +
			doc("c", "in", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: x}}}], ports: [{port: http}]}]}"),
		doc("b", "out", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 8000, endPort: 9000}]}]}") + "\n---\n" +
			doc("c", "in", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: z}}}]}]}"),
	}
	r.bind(read(t, bases[0]))

	done := make(chan struct{})
	var clients sync.WaitGroup
	stop := sync.OnceFunc(func() { close(done); clients.Wait() })
	defer stop()
	var made, echoed atomic.Uint64
	long := r.dial(p)
	clients.Go(func() {
		for open := true; open; echoed.Add(1) {
			if err := echo(long, "still here"); err != nil {
				t.Errorf("connection that lasts: %v", err)
				return
			}
			select {
			case <-done:
				open = false
			default:
			}
		}
	})
	toService := p
	toService.Dst = policytest.Actor{Addr: virtual}
	for _, p := range []policytest.Probe{p, toService} {
		clients.Go(func() {
			for open := true; open; made.Add(1) {
				a := r.begin(p)
				r.finishQuietly(a)
				a.close()
				if !a.passed || a.refused {
					t.Errorf("connection %v was dropped or refused: %s", a.tuple, text(r.decided(a.tuple)))
					return
				}
				select {
				case <-done:
					open = false
				default:
				}
			}
		})
	}
	for i := range updates {
		dice := policytest.NewDice(seed, i)
		w := policytest.World{}
		for j := range dice.IntN(4) {
			w.Policies = append(w.Policies, policytest.RandomPolicy(dice, j))
		}
		extra, err := w.Convert()
		must(t, err)
		if dice.Chance(50) {
			f := c.services[0].Forwards[0]
			f.To = policytest.One(dice, backends, append(backends[:1:1], netip.AddrPortFrom(podAddrs(5)[0], 8080)))
			r.told([]*meta.Object{service("c", "web", f)})
		}
		r.bind(append(extra, read(t, policytest.One(dice, bases...))...))
	}
	stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, list := range r.decisions {
		for _, f := range list {
			if f.Verdict == flow.VerdictDropped && at.dst.Port() == 8080 {
				t.Errorf("%v: %s", at, text(list))
			}
		}
	}
	s := r.enforcer.Stats()
	t.Logf("%d updates in %d writes, %d compiles; %d connections, %d echoes", updates, s.Writes, s.Compiles, made.Load(), echoed.Load())
}

// finishQuietly is finish for another goroutine than the test's.
func (r *rig) finishQuietly(a *attempt) {
	for deadline := time.Now().Add(patience); !a.passed && time.Now().Before(deadline); time.Sleep(50 * time.Microsecond) {
		a.look()
		for _, f := range r.decided(a.tuple) {
			if f.Verdict == flow.VerdictDropped {
				return
			}
		}
	}
}

// TestFullTableKeepsTheLastGoodState fills one of the kernel's tables with what nobody looks up.
func TestFullTableKeepsTheLastGoodState(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old := read(t, doc("c", "old", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}]}]}"))
	next := read(t, doc("c", "next", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.2.0.0/16}}], ports: [{port: 8080}, {port: 8081}]}]}"))
	third := read(t, doc("c", "third", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.3.0.0/16}}], ports: [{port: 8080}, {port: 8082}]}]}"))
	r := newRig(t, c, nil)
	r.bind(old)
	var put, drop enforce.Write
	for i := range uint64(1 << 18) {
		k := policy.Prefix{Table: i, Bits: 128}
		put.CIDRs, drop.DropCIDRs = append(put.CIDRs, policy.PrefixValue{Key: k, Set: 1}), append(drop.DropCIDRs, k)
	}
	if err := r.probe.WritePolicy(&put); err != nil && !errors.Is(err, enforce.ErrFull) {
		t.Fatal(err)
	}
	for i, policies := range [][]policy.Policy{next, third} {
		r.policies.change(policies)
		eventually(t, "the change is refused", func() bool { s := r.enforcer.Stats(); return !s.Pending && s.Failures == uint64(i+1) })
	}
	s := r.enforcer.Stats()
	if s.FailingSince.IsZero() || !strings.Contains(s.Failure, "policy_blocks") {
		t.Errorf("%+v", s)
	}
	if n := r.log.count("cannot be put into force"); n != 1 {
		t.Errorf("%d lines of log, want one", n)
	}
	got := r.try(r.from(1, 2, flow.ProtoTCP, 8080), r.from(3, 2, flow.ProtoTCP, 8080)) // b is allowed by old, a is not
	if !got[0].passed || !got[1].dropped {
		t.Errorf("passed %t, dropped %t: not as the last good state has it", got[0].passed, got[1].dropped)
	}

	must(t, r.probe.WritePolicy(&drop))
	r.bind(next)
	got = r.try(r.from(1, 2, flow.ProtoTCP, 8080), r.from(4, 2, flow.ProtoTCP, 8080)) // by address now
	if !got[0].passed || !got[1].dropped || r.log.count("in force again") != 1 {
		t.Errorf("passed %t, dropped %t: not as the new policy has it", got[0].passed, got[1].dropped)
	}
}
