package probe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/collector/decode"
)

// Feature is something that Parallax uses of the kernel.
type Feature struct {
	Name   string
	Have   bool
	Detail string // what was found, or why it is missing; one line
	Lost   string // what Parallax cannot do without it
}

// Check tries what this kernel and this process can give, in the order in which a person would mend it. It attaches
// nothing to any interface and leaves nothing behind.
func Check() []Feature {
	datapath := &trial{}
	defer datapath.close()
	return []Feature{
		check("privileges", "nothing can be observed", checkPrivileges),
		check("BTF", "nothing can be observed", checkBTF),
		check("ring buffer", "nothing can be observed", checkRing),
		check("tcx", "interfaces are observed by clsact filters, which others see and can remove", checkTCX),
		check("flow programs", "nothing can be observed", datapath.flows),
		check("packet drops", "drops are not shown", datapath.drops),
		check("socket owners", "a connection does not show its process", datapath.owners),
		check("drop reasons", "a drop shows a number instead of its reason", checkReasons),
		check("kernel symbols", "a drop does not show the kernel function", checkSymbols),
		check("cgroup v2", "a connection does not show its process", checkCgroup),
	}
}

func check(name, lost string, try func() (string, error)) Feature {
	detail, err := try()
	if err != nil {
		detail = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return Feature{Name: name, Have: err == nil, Detail: detail, Lost: lost}
}

func checkPrivileges() (string, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return "", fmt.Errorf("read capabilities: %w", err)
	}
	has := func(capability int) bool { return data[capability/32].Effective&(1<<(capability%32)) != 0 }
	admin := has(unix.CAP_SYS_ADMIN)
	if !has(unix.CAP_NET_ADMIN) || !admin && (!has(unix.CAP_BPF) || !has(unix.CAP_PERFMON)) {
		return "", ErrPermission
	}
	if os.Geteuid() == 0 {
		return "root", nil
	}
	return "capabilities", nil
}

func checkBTF() (string, error) {
	const vmlinux = "/sys/kernel/btf/vmlinux"
	if _, err := os.Stat(vmlinux); err == nil {
		return vmlinux, nil
	}
	// Some distributions install it beside the kernel.
	if _, err := btf.LoadKernelSpec(); err != nil {
		return "", ErrNoBTF
	}
	return "found beside the kernel image", nil
}

func checkRing() (string, error) {
	if err := features.HaveMapType(ebpf.RingBuf); err != nil {
		return "", fmt.Errorf("kernel %s: %w", release(), err)
	}
	return "kernel " + release(), nil
}

// checkTCX asks for a link on an interface that cannot exist: a kernel with tcx misses the interface.
func checkTCX() (string, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return "", fmt.Errorf("load a classifier: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case err == nil:
		return "available", l.Close()
	case errors.Is(err, unix.ENODEV):
		return "available", nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return "", errors.New("kernel is older than 6.6")
	}
	return "", err
}

// trial loads the real programs once, with the smallest maps.
type trial struct {
	objects *bpf.Objects
	err     error
}

func (t *trial) load() error {
	if t.objects != nil || t.err != nil {
		return t.err
	}
	cfg := bpf.DefaultConfig()
	cfg.MaxFlows, cfg.RingBytes, cfg.WakeBytes = 1, uint32(os.Getpagesize()), uint32(os.Getpagesize())
	spec, err := bpf.Plan(cfg)
	if err == nil {
		t.objects, err = spec.Load()
	}
	t.err = err
	return err
}

func (t *trial) close() {
	if t.objects != nil {
		_ = t.objects.Close()
	}
}

func (t *trial) flows() (string, error) {
	return "accepted by the verifier", t.load()
}

func (t *trial) drops() (string, error) {
	if err := t.load(); err != nil {
		return "", err
	}
	return "tracepoint kfree_skb", t.objects.DropErr
}

func (t *trial) owners() (string, error) {
	if err := t.load(); err != nil {
		return "", err
	}
	return "cgroup socket hooks", t.objects.ProcErr
}

func checkReasons() (string, error) {
	n, err := decode.NewReasons().Count()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d names in BTF", n), nil
}

func checkSymbols() (string, error) {
	n, err := decode.NewSymbols("").Count()
	if errors.Is(err, decode.ErrHidden) {
		return "", fmt.Errorf("%w: run with CAP_SYSLOG, or sysctl kernel.kptr_restrict=1", err)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d functions in /proc/kallsyms", n), nil
}

func checkCgroup() (string, error) { return findMount("cgroup2") }

// findMount returns the first mount of the filesystem kind in /proc/self/mounts (proc(5)).
func findMount(kind string) (string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("find %s: %w", kind, err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == kind {
			return unescapeMount(f[1]), nil
		}
	}
	return "", fmt.Errorf("no %s filesystem is mounted", kind)
}

// unescapeMount undoes the octal escapes of space, tab, newline and backslash (fs/proc_namespace.c, mangle).
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
