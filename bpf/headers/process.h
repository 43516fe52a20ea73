/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef PARALLAX_PROCESS_H
#define PARALLAX_PROCESS_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* What is known of a socket's maker. */
struct plx_process {
	__u32 pid;	/* thread group id, in the initial pid namespace */
	__u8 comm[16];
};

/* Socket cookie -> maker. Least recently used entries give way: an attribution that is lost is no packet lost. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct plx_process);
} sock_proc SEC(".maps");

#endif
