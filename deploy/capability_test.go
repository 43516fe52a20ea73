package deploy

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// lost is what a collector cannot do without a capability: features of parallax check, and facts of TestCapabilities. A
// capability that is not here has no place in the chart.
var lost = map[string][]string{
	"BPF":             {"privileges", "ring buffer", "tcx", "flow programs", "packet drops", "socket owners", "starts"}, // bpf(2) (kernel/bpf/syscall.c)
	"NET_ADMIN":       {"privileges", "tcx", "flow programs", "packet drops", "socket owners", "starts"},                // classifiers
	"PERFMON":         {"privileges", "flow programs", "packet drops", "socket owners", "starts"},                       // tracing, and what the verifier allows
	"SYSLOG":          {"kernel symbols"},                                                                               // addresses in /proc/kallsyms (kernel/ksyms_common.c)
	"SYS_PTRACE":      {"owner of a socket of before", "owner of another user's socket"},                                // /proc/PID/fd/* of a process with more rights (fs/proc/base.c)
	"DAC_READ_SEARCH": {"owner of another user's socket"},                                                               // /proc/PID/fd, mode 0500
}

// TestCapabilities runs a real collector with what the chart gives it, and with each capability taken away: all is there with
// all of them, and each one is missed.
func TestCapabilities(t *testing.T) {
	needRoot(t)
	if hidden := kernelHidesSymbols(t); !hidden {
		t.Log("this kernel shows its symbols to everybody: nothing is said of SYSLOG")
		lost["SYSLOG"] = nil
	}
	all := chartCapabilities(t)
	n := newNode(t)
	rootsPort := n.serve(n.name, "plxt-of-root", 0)
	othersPort := n.serve(n.name, "plxt-of-other", 65534)
	observe := func(t *testing.T, capabilities []string) []string {
		missing := n.check(capabilities)
		c := n.collector(capabilities)
		defer c.stop()
		if !c.ready() {
			return append(missing, "starts")
		}
		names := c.owners(rootsPort, othersPort)
		if names[rootsPort] != "plxt-of-root" {
			missing = append(missing, "owner of a socket of before")
		}
		if names[othersPort] != "plxt-of-other" {
			missing = append(missing, "owner of another user's socket")
		}
		return missing
	}
	if missing := observe(t, all); len(missing) > 0 {
		t.Fatalf("with %v there is no %q", all, missing)
	}
	for _, capability := range all {
		t.Run("without "+capability, func(t *testing.T) {
			want, known := lost[capability]
			if !known {
				t.Fatal("nobody says what this is for")
			}
			rest := slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == capability })
			if diff := cmp.Diff(want, observe(t, rest)); diff != "" {
				t.Errorf("lost (-want +got): %s", diff)
			}
		})
	}
}

// TestHostCgroup runs a collector in a control group of its own, as in a container: with the node's hierarchy it names the
// process behind a new socket, with what a runtime mounts by itself it does not.
func TestHostCgroup(t *testing.T) {
	needRoot(t)
	n := newNode(t)
	port := n.serve(n.peer, "plxt-peer", 0)
	capabilities := slices.DeleteFunc(chartCapabilities(t), func(c string) bool { return c == "SYS_PTRACE" || c == "DAC_READ_SEARCH" }) // so that only the kernel tells
	for _, c := range []struct{ name, mount, want string }{
		{"of the node", "true", "plxt-new"},
		{"of the container", "umount -l " + cgroupMount(t) + "; mount -t cgroup2 none " + cgroupMount(t), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := n.contained(capabilities, c.mount)
			defer p.stop()
			if !p.ready() {
				t.Fatalf("the collector does not start:\n%s", p.log)
			}
			defer n.start(n.name, "plxt-new", 0, "PARALLAX_TEST_DIAL="+net.JoinHostPort(peerAddr, strconv.Itoa(port)))()
			if got := p.clients(port); got != c.want {
				t.Errorf("owner of a new socket: %q, want %q", got, c.want)
			}
		})
	}
}

func kernelHidesSymbols(t *testing.T) bool {
	t.Helper()
	number := func(name string) int {
		text, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	restrict := number("kptr_restrict")
	return restrict == 1 || restrict == 0 && number("perf_event_paranoid") > 1 // kallsyms_show_value
}

// chartCapabilities are those that the DaemonSet asks for.
func chartCapabilities(t *testing.T) []string {
	t.Helper()
	for _, o := range objects(t, render(t)) {
		if o.GetKind() == "DaemonSet" {
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			list, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "securityContext", "capabilities", "add")
			if err != nil || len(list) == 0 {
				t.Fatal(list, err)
			}
			return list
		}
	}
	t.Fatal("the chart has no DaemonSet")
	return nil
}

// cgroupMount is where the cgroup2 hierarchy is.
func cgroupMount(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("no cgroup2 hierarchy is mounted")
	return ""
}
