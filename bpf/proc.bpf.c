//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Which process made a socket, from the cgroup hooks at its beginning and end. Sockets that a listener accepts have no
 * maker here: they are born in softirq. */
#include "vmlinux.h"
#include "maps.h"
#include "process.h"
#include <bpf/bpf_core_read.h>

SEC("cgroup/sock_create")
int plx_sock_create(struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct plx_process proc = { .pid = bpf_get_current_pid_tgid() >> 32 };
	struct task_struct *task = (void *)bpf_get_current_task();

	/* The process's name, not the thread's: that may be "ThreadPool-3". */
	BPF_CORE_READ_STR_INTO(&proc.comm, task, group_leader, comm);
	if (bpf_map_update_elem(&sock_proc, &cookie, &proc, BPF_ANY))
		plx_count_shared(PLX_STAT_LOST_HINT, 1);
	return 1;
}

SEC("cgroup/sock_release")
int plx_sock_release(struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);

	bpf_map_delete_elem(&sock_proc, &cookie);
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
