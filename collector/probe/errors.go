package probe

import "errors"

// Errors that a person can mend.
var (
	ErrPermission = errors.New("parallax collector needs root or CAP_BPF+CAP_NET_ADMIN+CAP_PERFMON: run with sudo")
	ErrNoBTF      = errors.New("kernel has no BTF (/sys/kernel/btf/vmlinux): use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
)
