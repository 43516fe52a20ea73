package bpf

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A SYN to a closed port: the kernel drops it in tcp_v4_rcv for want of a socket and resets.
func TestDropNoSocket(t *testing.T) {
	server, client := pair(t)
	r := server.observe("plxt0", RoleEndpoint, nil)
	attachDrop(t, r, server)
	var initiator string
	client.do(func() error {
		_, err := net.DialTCP("tcp", &net.TCPAddr{Port: 0}, &net.TCPAddr{IP: net.IP{10, 77, 0, 1}, Port: 9})
		if err == nil {
			return fmt.Errorf("connected to a closed port")
		}
		return nil
	})
	all := r.wait("drop", func(all []any) bool {
		return slices.ContainsFunc(all, func(v any) bool {
			d, ok := v.(*DropEvent)
			return ok && d.Tuple.Proto == unix.IPPROTO_TCP
		})
	})
	var drops []*DropEvent
	for _, v := range all {
		switch e := v.(type) {
		case *DropEvent:
			drops = append(drops, e)
		case *FlowEvent:
			initiator = endpoint(e.Tuple.Saddr, e.Tuple.Sport)
		}
	}
	d := drops[slices.IndexFunc(drops, func(d *DropEvent) bool { return d.Tuple.Proto == unix.IPPROTO_TCP })]
	if got, want := summary(d), "DROP "+initiator+" > 10.77.0.1:9 p6 bytes 60 flags 02"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := reasonName(t, d.Reason); got != "SKB_DROP_REASON_NO_SOCKET" {
		t.Errorf("reason %s", got)
	}
	if got := symbol(t, d.Location); got != "tcp_v4_rcv" {
		t.Errorf("dropped in %s", got)
	}
	if d.Hdr.Netns != server.inum() || d.Tuple.Ifindex != uint32(server.link("plxt0").Attrs().Index) {
		t.Errorf("namespace %d, interface %d", d.Hdr.Netns, d.Tuple.Ifindex)
	}
	for _, v := range r.records() { // IPv6 of a new interface is never quiet
		if e, ok := v.(*DropEvent); ok {
			drops = append(drops, e)
		}
	}
	if got := r.stat(StatDrops); got != uint64(len(drops)) {
		t.Errorf("%d drops counted, %d reported", got, len(drops))
	}
	if sum := total(all, initiator); cmp.Diff(sum, totals{[2]uint64{1, 1}, [2]uint64{60, 40}, []string{"NEW", "CLOSE"}}) != "" {
		t.Errorf("flow %+v", sum)
	}
}

// Drops of other namespaces are not reported, IPv6 and UDP are.
func TestDropScope(t *testing.T) {
	server, client := pair(t)
	here, elsewhere := newRig(t, nil), newRig(t, nil)
	attachDrop(t, here, server)
	attachDrop(t, elsewhere, client)
	c := client.dial("udp", "[fd77::1]:9")
	if _, err := c.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	isUDP := func(v any) bool { return v.(*DropEvent).Tuple.Proto == unix.IPPROTO_UDP }
	all := here.wait("drop", func(all []any) bool { return slices.ContainsFunc(all, isUDP) })
	d := all[slices.IndexFunc(all, isUDP)].(*DropEvent)
	if got, want := summary(d), fmt.Sprintf("DROP %s > [fd77::1]:9 p17 bytes 51 flags 00", c.LocalAddr()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := reasonName(t, d.Reason); got != "SKB_DROP_REASON_NO_SOCKET" {
		t.Errorf("reason %s", got)
	}
	for _, line := range describe(elsewhere.records()) {
		if strings.Contains(line, "[fd77::1]:9") {
			t.Errorf("reported for the wrong namespace: %s", line)
		}
	}
}

func reasonName(t testing.TB, reason uint32) string {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var e *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &e); err != nil {
		t.Fatal(err)
	}
	for _, v := range e.Values {
		if v.Value == uint64(reason) {
			return v.Name
		}
	}
	return strconv.Itoa(int(reason))
}

// symbol returns the function that contains address.
func symbol(t testing.TB, address uint64) string {
	t.Helper()
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		name string
		best uint64
	)
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if a, err := strconv.ParseUint(fields[0], 16, 64); err == nil && a <= address && a >= best && strings.ContainsAny(fields[1], "tT") {
			best, name = a, fields[2]
		}
	}
	return name
}
