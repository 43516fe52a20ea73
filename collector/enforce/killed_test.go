package enforce_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/policy"
)

const killedVariable = "PLXT_ENFORCE_KILLED" // "network namespace, ifindex, mechanism"

// toBeKilled is what TestKilled kills, a process of its own: it denies all to one interface.
func toBeKilled(task string) error {
	var path string
	var index uint32
	var by probe.Mechanism
	if _, err := fmt.Sscan(task, &path, &index, &by); err != nil {
		return err
	}
	p := probe.New(probe.Config{NetNS: path, Mechanism: by, DropScope: []uint32{}, Logger: slog.New(slog.DiscardHandler)})
	go func() { _ = p.Run(context.Background(), func([]byte) {}, func() {}) }()
	<-p.Ready()
	record := enforce.Record{Record: policy.Record{Tables: [2]uint64{1, 1}, Deny: [2]uint32{4711, 4711}, Identity: 300}}
	if err := p.WritePolicy(&enforce.Write{Records: []enforce.RecordValue{{Ifindex: index, Record: record}}}); err != nil {
		return err
	}
	fmt.Println("enforced")
	select {}
}

// TestKilled kills a collector without a chance to clean up. With tcx all traffic passes at once. Below Linux 6.6 the filters
// are not the process's: what it denied last stays denied until the next collector takes them over, or the pod goes.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]probe.Mechanism{"tcx": probe.MechanismTCX, "clsact": probe.MechanismClsact} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			pod := c.pods[0]
			var index int
			c.node.do(func() error {
				l, err := net.InterfaceByName(pod.link)
				if err == nil {
					index = l.Index
				}
				return err
			})
			c.killOne(fmt.Sprint(c.node.path, " ", index, " ", int(by)))
			var conn *net.UDPConn
			pod.do(func() (err error) {
				conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.pods[1].object.Addrs[0], 53)))
				return err
			})
			defer conn.Close()
			answered := func() bool {
				_, err := conn.Write([]byte("echo"))
				must(t, err)
				there, err := arrived(conn)
				must(t, err)
				return there
			}
			if by == probe.MechanismClsact {
				eventually(t, "packets are still dropped", func() bool {
					if answered() {
						t.Fatal("the filters let pass what the killed collector denied")
					}
					return c.dropped(pod.link) > 10
				})
				newProbeBy(t, c.node.path, by) // it knows of no policy yet
			}
			eventually(t, "packets pass", answered)
		})
	}
}

// arrived reports whether a datagram is there, and takes it.
func arrived(conn *net.UDPConn) (there bool, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	err = raw.Control(func(fd uintptr) {
		_, _, failed := unix.Recvfrom(int(fd), make([]byte, 64), unix.MSG_DONTWAIT)
		there = failed == nil
	})
	return there, err
}

// killOne runs toBeKilled until it enforces, and kills it.
func (c *cluster) killOne(arguments string) {
	c.t.Helper()
	exe, err := os.Executable()
	must(c.t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killedVariable+"="+arguments)
	out, err := cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, cmd.Start())
	lines := bufio.NewScanner(out)
	enforced := false
	var said string
	for !enforced && lines.Scan() {
		enforced = lines.Text() == "enforced"
		said += lines.Text() + "\n"
	}
	must(c.t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	if !enforced {
		c.t.Fatal(said)
	}
}

var droppedText = regexp.MustCompile(`qdisc clsact .*\n.*dropped (\d+)`)

// dropped returns how many packets the filters of an interface have dropped.
func (c *cluster) dropped(link string) int {
	c.t.Helper()
	out, err := exec.Command("tc", "-n", c.node.name, "-s", "qdisc", "show", "dev", link).CombinedOutput()
	must(c.t, err)
	m := droppedText.FindSubmatch(out)
	if m == nil {
		c.t.Fatalf("no clsact at %s:\n%s", link, out)
	}
	n, err := strconv.Atoi(string(m[1]))
	must(c.t, err)
	return n
}
