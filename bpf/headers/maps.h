/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps that all programs share (user space makes them one at load), and sending of events. */
#ifndef PARALLAX_MAPS_H
#define PARALLAX_MAPS_H

#include "vmlinux.h"
#include "event.h"
#include <bpf/bpf_helpers.h>

/* Inode number of the network namespace that is observed. */
const volatile __u32 plx_netns = 0;
/* Pending bytes at which the reader is woken; a power of two. The reader also polls, see docs of Config.WakeBytes. */
const volatile __u64 plx_wake_bytes = 65536;

/* Names the records for BTF, from which the Go types are generated. */
union plx_record {
	struct plx_flow_event flow;
	struct plx_drop_event drop;
	struct plx_payload_event payload;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
	__type(value, union plx_record);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PLX_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

/* Per CPU: programs of one family do not interrupt each other there, except that a tracepoint may interrupt any. The
 * add is therefore atomic only where families share an index. */
static __always_inline void plx_count(__u32 stat, __u64 n)
{
	__u64 *v = bpf_map_lookup_elem(&stats, &stat);

	if (v)
		*v += n;
}

static __always_inline void plx_count_shared(__u32 stat, __u64 n)
{
	__u64 *v = bpf_map_lookup_elem(&stats, &stat);

	if (v)
		__sync_fetch_and_add(v, n);
}

/* What a record takes in the ring: BPF_RINGBUF_HDR_SZ before it, all rounded up to 8. */
static __always_inline __u64 plx_ring_size(__u64 len)
{
	return (len + 8 + 7) & ~7ULL;
}

/* A forced wake-up costs microseconds, so the reader is woken only when the pending bytes cross a multiple of
 * plx_wake_bytes. Two writers at once may both miss a crossing: the next one, or the reader's poll, makes up for it. */
static __always_inline __u64 plx_wakeup(__u64 before, __u64 after)
{
	return (before ^ after) & ~(plx_wake_bytes - 1) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void *plx_reserve(__u64 len)
{
	void *rec = bpf_ringbuf_reserve(&events, len, 0);

	plx_count_shared(PLX_STAT_EVENTS, 1);
	if (!rec)
		plx_count_shared(PLX_STAT_LOST_RING, 1);
	return rec;
}

static __always_inline void plx_submit(void *rec, __u64 len)
{
	__u64 pending = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA); /* rec is among it */

	bpf_ringbuf_submit(rec, plx_wakeup(pending - plx_ring_size(len), pending));
}

/* For a record of variable size. */
static __always_inline void plx_output(void *rec, __u64 len)
{
	__u64 pending = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	plx_count_shared(PLX_STAT_EVENTS, 1);
	if (bpf_ringbuf_output(&events, rec, len, plx_wakeup(pending, pending + plx_ring_size(len))))
		plx_count_shared(PLX_STAT_LOST_RING, 1);
}

#endif
