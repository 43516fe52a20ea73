package enforce_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// ownership is what Stats says of pods.
type ownership struct{ Endpoints, Owned, Searched, Foreign, Contested int }

func (r *rig) becomes(want ownership) {
	r.t.Helper()
	var got ownership
	eventuallyOr(r.t, func() bool {
		s := r.enforcer.Stats()
		got = ownership{s.Endpoints, s.Owned, s.Searched, s.Foreign, s.Contested}
		return got == want && !s.Pending
	}, func() string { return cmp.Diff(want, got) })
}

// hide takes from the metadata where the pod's network namespace is, and starts a process in it.
func (r *rig) hide(i int) {
	p := r.pods[i-1]
	r.process(p.space)
	o := *p.object
	o.NetNS = ""
	p.object = &o
	r.told([]*meta.Object{p.object})
}

// process runs one in the namespace until the test ends.
func (r *rig) process(s *space) {
	r.t.Helper()
	cmd := exec.Command("sleep", "3600")
	s.do(cmd.Start)
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (r *rig) gone(i int) {
	r.enforcer.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: r.pods[i-1].object.Namespace, Name: r.pods[i-1].object.Name}, Deleted: true})
}

func TestPodsAreFoundByTheirProcesses(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), nil)
	r.bind(read(t, doc("c", "all", denyIngress)))
	for i := 1; i <= localPods; i++ {
		r.gone(i)
	}
	r.becomes(ownership{})
	r.hide(1)
	r.hide(2)
	r.becomes(ownership{Endpoints: 2, Owned: 2})
	if got := r.try(r.from(1, 2, flow.ProtoTCP, 8080)); !got[0].dropped {
		t.Error("the policy does not bind")
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), nil)
	deny := read(t, doc("c", "all", denyIngress))
	r.bind(deny)
	all := ownership{Endpoints: 6, Owned: 6}
	r.becomes(all)
	observed := r.probe.Stats().Interfaces
	r.node.ip("link del " + r.pods[1].link)
	r.becomes(ownership{Endpoints: 6, Owned: 5, Searched: 1})
	eventually(t, "the interface is not observed any more", func() bool { return r.probe.Stats().Interfaces == observed-1 })
	r.join(r.pods[1].link, r.pods[1].space, r.pods[1].object.Addrs)
	r.node.ip(fmt.Sprintf("route add %s dev %s src 172.16.0.1", netip.PrefixFrom(r.pods[1].object.Addrs[0], 32), r.pods[1].link))
	r.becomes(all)
	eventually(t, "the new interface is observed", func() bool { return r.probe.Stats().Interfaces == observed })
	if got := r.try(r.from(1, 2, flow.ProtoTCP, 8080)); !got[0].dropped {
		t.Error("the policy does not bind behind the new interface")
	}
	r.gone(2)
	r.becomes(ownership{Endpoints: 5, Owned: 5})
	if got := r.try(r.from(1, 2, flow.ProtoTCP, 8080)); !got[0].passed {
		t.Error("the policy binds a pod that is gone")
	}
	host := *r.pods[0].object
	host.HostNetwork = true
	r.told([]*meta.Object{&host})
	r.becomes(ownership{Endpoints: 4, Owned: 4})
}

func TestForeignInterfacesAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), func(c *enforce.Config) { c.Own = []string{"plxt5", "x*"} })
	r.bind(read(t, doc("c", "all", denyIngress)))
	r.becomes(ownership{Endpoints: 6, Owned: 1, Foreign: 5})
	got := r.try(r.from(1, 2, flow.ProtoTCP, 8080), r.from(1, 5, flow.ProtoTCP, 8080))
	if !got[0].passed || !got[1].dropped {
		t.Errorf("passed %t, dropped %t", got[0].passed, got[1].dropped)
	}
}

// Two network namespaces have a pod's address on a veth to the node.
func TestContestedAddressBindsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, newCluster(t), nil)
	thief := newSpace(t)
	r.process(thief)
	r.node.ip("link add plxtthief type veth peer name eth0 netns " + thief.name)
	thief.ip("link set eth0 up", fmt.Sprintf("addr add %s/32 dev eth0", r.pods[1].object.Addrs[0]))

	r.process(r.pods[1].space)
	r.becomes(ownership{Endpoints: 6, Owned: 6}) // who owns already stays
	r.gone(2)
	r.becomes(ownership{Endpoints: 5, Owned: 5})
	o := *r.pods[1].object
	o.NetNS, o.Addrs = "", o.Addrs[:1]
	r.told([]*meta.Object{&o})
	r.becomes(ownership{Endpoints: 6, Owned: 5, Contested: 1})
	if n := r.log.count("several network namespaces have its address"); n != 1 {
		t.Errorf("%d lines of log, want one", n)
	}
	thief.ip("link set eth0 down", "addr flush dev eth0")
	r.becomes(ownership{Endpoints: 6, Owned: 6})
}

// TestMissingRightsAreSaid runs itself without capabilities: no process of others can be looked at.
func TestMissingRightsAreSaid(t *testing.T) {
	requireRoot(t)
	if os.Getenv("PARALLAX_WITHOUT_RIGHTS") == "" {
		cmd := exec.Command("setpriv", "--bounding-set=-all", "--inh-caps=-all", os.Args[0], "-test.run=^TestMissingRightsAreSaid$")
		cmd.Env = append(os.Environ(), "PARALLAX_WITHOUT_RIGHTS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	log := &lines{}
	e := begin(t, newTables(), func(c *enforce.Config) { c.Proc, c.Logger = "/proc", slog.New(slog.NewTextHandler(log, nil)) }, enforce.Static(nil))
	for _, o := range simplePods() {
		e.Update(meta.Update{Object: o})
	}
	settled(t, e)
	e.Update(meta.Update{Object: simplePods()[0], Deleted: true})
	if s := settled(t, e); s.Searched != 2 || log.count("network namespaces may not be entered") != 1 {
		t.Errorf("%d pods are searched, and the log has: %s", s.Searched, log.text.String())
	}
}
