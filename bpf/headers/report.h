/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events of the flow table's entries, and whose socket is behind them. */
#ifndef PARALLAX_REPORT_H
#define PARALLAX_REPORT_H

#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "process.h"
#include "read.h"

/* Sends an event; all but VERDICT take the counters with them. Where the ring is full they stay for the next one. */
static __noinline int report(struct plx_flow *f, struct plx_seen *s, __u32 kind)
{
	bool counts = kind != PLX_KIND_VERDICT, drops = kind == PLX_KIND_DROP;
	const struct plx_packet *p = &s->pkt;
	struct plx_flow_event *e;
	__u32 *role, flags = 0;

	e = plx_reserve(sizeof(*e));
	if (!e)
		return 0;
	role = bpf_map_lookup_elem(&ifaces, &s->ifindex);
	if (role)
		f->role = *role;
	e->hdr.type = PLX_EVENT_FLOW;
	e->hdr.version = PLX_EVENT_VERSION;
	e->hdr.len = sizeof(*e);
	e->hdr.netns = plx_netns;
	e->ts = bpf_ktime_get_boot_ns();
	e->first_ts = f->first_ts;
	e->packets[0] = counts ? __sync_lock_test_and_set(&f->packets[0], 0) : 0;
	e->packets[1] = counts ? __sync_lock_test_and_set(&f->packets[1], 0) : 0;
	e->bytes[0] = counts ? __sync_lock_test_and_set(&f->bytes[0], 0) : 0;
	e->bytes[1] = counts ? __sync_lock_test_and_set(&f->bytes[1], 0) : 0;
	e->cookie = f->cookie;
	fill_tuple(&e->tuple, s);
	e->pid = f->pid;
	e->handshake_us = f->handshake_us;
	e->synack_us = f->synack_us;
	e->kind = kind;
	e->role = f->role;
	e->egress = s->egress;
	e->reply = s->reply;
	if (counts)
		flags = __sync_lock_test_and_set(&f->tcp_flags, 0);
	e->tcp_flags = kind == PLX_KIND_NEW || kind == PLX_KIND_STATE || !counts ? p->tcp_flags : flags;
	e->icmp_type = p->icmp_type;
	e->icmp_code = p->icmp_code;
	e->pid_responder = (f->state & PLX_STATE_PID_RESPONDER) != 0;
	__builtin_memcpy(e->comm, f->comm, sizeof(e->comm));
	e->rule = drops || !counts ? f->rule : 0;
	/* What was dropped was denied, whatever another CPU has written since. */
	e->verdict = drops ? PLX_VERDICT_DENIED : counts ? PLX_VERDICT_NONE : f->verdict;
	e->pad[0] = e->pad[1] = e->pad[2] = 0;
	if (counts)
		f->last_report = s->now;
	if (kind == PLX_KIND_CLOSE)
		__sync_fetch_and_or(&f->state, PLX_STATE_CLOSE_SENT);
	plx_submit(e, sizeof(*e));
	return 0;
}

/* True on the one CPU whose turn it is to report what was counted since interval. */
static __always_inline bool is_due(struct plx_flow *f, const struct plx_seen *s, __u64 interval)
{
	__u64 last = f->last_report;

	if ((__s64)(s->now - last) < (__s64)interval)
		return false;
	f->l7_misses = 0;
	return __sync_bool_compare_and_swap(&f->last_report, last, s->now);
}

/* The socket behind the packet, and the process that made it. Asked once for each direction: a packet of a local socket
 * carries it until the stack forwards or receives it, one from elsewhere never does. */
static __noinline int attribute(struct __sk_buff *skb, struct plx_flow *f, struct plx_seen *s)
{
	__u32 asked = s->reply ? PLX_STATE_ASKED_RESP : PLX_STATE_ASKED_INIT;
	struct plx_process *proc;
	__u64 cookie;

	/* Resets and ICMP answers belong to sockets of the kernel, which serve every connection. */
	if (s->pkt.proto == IPPROTO_TCP && s->pkt.tcp_flags & TCP_RST)
		return 0;
	cookie = bpf_get_socket_cookie(skb);
	proc = cookie ? bpf_map_lookup_elem(&sock_proc, &cookie) : NULL;
	if (cookie && (proc || s->pkt.proto == IPPROTO_TCP || s->pkt.proto == IPPROTO_UDP)) {
		f->cookie = cookie;
		asked |= PLX_STATE_ASKED_INIT | PLX_STATE_ASKED_RESP;
		if (s->reply)
			asked |= PLX_STATE_PID_RESPONDER;
		if (proc) {
			f->pid = proc->pid;
			__builtin_memcpy(f->comm, proc->comm, sizeof(f->comm));
		}
	}
	__sync_fetch_and_or(&f->state, asked);
	return 0;
}

#endif
