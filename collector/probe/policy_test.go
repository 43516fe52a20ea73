package probe

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// deny makes policy deny all that goes to the pod behind the interface.
func (r *running) deny(node *host, name string, rule uint32) {
	r.t.Helper()
	var index int
	node.do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	record := enforce.Record{Record: policy.Record{Tables: [2]uint64{1, 0}, Deny: [2]uint32{rule, 0}, Identity: 300}}
	must(r.t, r.WritePolicy(&enforce.Write{Records: []enforce.RecordValue{{Ifindex: uint32(index), Record: record}}}))
}

// entries counts what the flow table holds of a port.
func (r *running) entries(port uint16) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Probe.mu.Lock()
	defer r.Probe.mu.Unlock()
	var k bpf.FlowKey
	var e bpf.FlowEntry
	for it := r.Probe.datapath.objects.Flows.Iterate(); it.Next(&k, &e); {
		if k.LoPort == port || k.HiPort == port {
			n++
		}
	}
	return n
}

// TestDeniedPacketsAreAllTold sends datagrams that policy denies: each is in a DROP record, those that the sweep takes too.
func TestDeniedPacketsAreAllTold(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration
		end     func(*running, uint16)
	}{
		"taken when it is silent": {200 * time.Millisecond, func(r *running, port uint16) {
			eventually(t, "the entry goes", func() bool { return r.entries(port) == 0 })
		}},
		"taken at the end": {time.Hour, func(*running, uint16) {}},
	} {
		t.Run(name, func(t *testing.T) {
			node, pod := newHost(t), newHost(t)
			_, podIP := join(node, pod, "plxt0", 1)
			r := start(t, Config{NetNS: node.path, DropScope: []uint32{}, Timeouts: Timeouts{Denied: c.timeout}})
			<-r.Loaded()
			r.deny(node, "plxt0", 4711)
			var conn net.Conn
			node.do(func() (err error) {
				conn, err = net.Dial("udp4", netip.AddrPortFrom(podIP, 9).String())
				return err
			})
			defer conn.Close()
			const sent, size = 7, 20 + 8 + 100
			for range sent {
				if _, err := conn.Write(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			port := uint16(conn.LocalAddr().(*net.UDPAddr).Port)
			r.wait("drop", func(f *flow.Flow) bool { return f.Kind == flow.KindDrop && f.SrcPort == port })
			c.end(r, port)
			var packets, bytes uint64
			for _, f := range r.stop() {
				if f.SrcPort != port {
					continue
				}
				if f.Verdict != flow.VerdictDropped || f.Policy == nil || f.Policy.Text != "rule 4711, which is no longer known" || f.Kind != flow.KindDrop && f.Kind != flow.KindVerdict {
					t.Errorf("%v %v: %+v", f.Kind, f.Verdict, f.Policy)
				}
				packets, bytes = packets+f.Packets, bytes+f.Bytes
			}
			if s := r.Stats(); packets != sent || bytes != sent*size || s.LostRing != 0 || s.Produced != s.Delivered {
				t.Errorf("%d packets of %d bytes told, want %d of %d; %+v", packets, bytes, sent, sent*size, s)
			}
			if err := r.WritePolicy(&enforce.Write{}); !errors.Is(err, enforce.ErrUnloaded) {
				t.Errorf("policy behind the end: %v", err)
			}
		})
	}
}

// TestPolicyKeys compares keys with bpf/headers/policy.h.
func TestPolicyKeys(t *testing.T) {
	k := ruleKey(policy.Entry{Table: 7, Peer: 300, Kind: policy.PeerIdentity, Proto: flow.ProtoTCP, Port: 0x1f90, Bits: 24})
	if want := (bpf.PolicyRule{Prefixlen: 128, Peer: 300, Table: 7, Kind: 1, Proto: 6, Port: bigEndian(8080)}); k != want {
		t.Errorf("%+v, want %+v", k, want)
	}
	b := blockKey(policy.Prefix{Table: 7, Addr: flow.Addr{15: 1}, Bits: 128})
	if want := (bpf.PolicyBlock{Prefixlen: 224, Table: 7, Addr: [16]byte{15: 1}}); b != want {
		t.Errorf("%+v, want %+v", b, want)
	}
	e := ruleKey(policy.Entry{Table: 7, Peer: 300, Kind: policy.PeerService})
	if want := (bpf.PolicyRule{Prefixlen: 104, Peer: 300, Table: 7, Kind: 3}); e != want {
		t.Errorf("%+v, want %+v", e, want)
	}
	s := serviceKey(policy.ServiceKey{Addr: flow.Addr{15: 1}, Port: 0x1f90, Proto: flow.ProtoTCP})
	if want := (bpf.PolicyService{Addr: [16]byte{15: 1}, Port: bigEndian(8080), Proto: 6}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	r := record(enforce.Record{Record: policy.Record{Tables: [2]uint64{1, 2}, Deny: [2]uint32{3, 4}, Identity: 5}, Audit: true, SkipPods: true})
	if want := (bpf.PolicyRecord{Table: [2]uint64{1, 2}, Deny: [2]uint32{3, 4}, Identity: 5, Flags: bpf.PolicyAudit | bpf.PolicySkipPods}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
}
