//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Packets that the kernel drops, with its own reason and place: tracepoint kfree_skb, with reasons from Linux 5.17. */
#include "vmlinux.h"
#include "event.h"
#include "maps.h"
#include "parse.h"
#include <bpf/bpf_core_read.h>

#define AF_INET 2
#define AF_INET6 10

/* 1: report every namespace, 0: only those in the scope map. */
const volatile __u8 plx_scope_all = 0;
/* 1: also report what the kernel freed without giving a reason. */
const volatile __u8 plx_drop_unspecified = 1;

/* What the tcx programs leave in a packet that they refuse: plx_drop_mark of enforce.h. */
const volatile __u64 plx_drop_mark = 0;

/* Inode number of a network namespace -> 1 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u8);
} scope SEC(".maps");

/* The linear part of a packet, from its network header. */
struct linear {
	__u64 data;
	__u32 len;
	__be16 proto;
	__u16 pad;
};

static long load_linear(void *src, __u32 off, void *to, __u32 len)
{
	const struct linear *l = src;

	if (off > 0xffff || off + len > l->len || bpf_probe_read_kernel(to, len, (void *)(l->data + off))) {
		__builtin_memset(to, 0, len);
		return -1;
	}
	return 0;
}

static __always_inline bool is_dropped(__u32 reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_NOT_DROPPED_YET))
		return false;
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED))
		return false;
	/* What a socket still holds when it is closed, its FIN most of all: every ordinary close frees some
	 * (net/core/stream.c, sk_stream_kill_queues). No packet was kept from anybody. */
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE) &&
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE))
		return false;
	return plx_drop_unspecified ||
	       reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED);
}

/* skb->dev shares its memory with dev_scratch while a datagram waits in a socket: what is read through it may be
 * nonsense (never a fault), so a namespace without number sends us to the socket. */
static __always_inline __u32 namespace_of(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct sock *sk = skb->sk;
	__u32 inum = 0;

	if (dev)
		inum = dev->nd_net.net->ns.inum;
	if (inum == 0 && sk)
		inum = sk->__sk_common.skc_net.net->ns.inum;
	return inum;
}

/* The tcx programs dropped it, and reported it with what they know. The mark is where they see __sk_buff.cb; it was drawn
 * at random for this load, and nobody touches the packet between their return and its end. */
static __always_inline bool is_reported(struct sk_buff *skb)
{
	__u64 mark = 0;

	bpf_probe_read_kernel(&mark, sizeof(mark), skb->cb + bpf_core_field_offset(struct qdisc_skb_cb, data));
	return mark == plx_drop_mark && plx_drop_mark;
}

static __always_inline bool in_scope(__u32 netns)
{
	return plx_scope_all || bpf_map_lookup_elem(&scope, &netns);
}

/* The ethertype; where the stack has not yet set it (packets on their way out), what the IP version says. Sockets of
 * other families (netlink, unix) free buffers through the same function: those have no type and must not be guessed at. */
static __always_inline __be16 ethertype(struct sk_buff *skb, struct linear *l)
{
	struct sock *sk = skb->sk;
	__u16 family;
	__u8 version;

	if (skb->protocol || !sk)
		return skb->protocol;
	family = sk->__sk_common.skc_family;
	if ((family != AF_INET && family != AF_INET6) || load_linear(l, 0, &version, 1))
		return 0;
	return version >> 4 == 4 ? bpf_htons(ETH_P_IP) : version >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : 0;
}

/* Global, so that the verifier looks at it once and not in each state of its callers. */
__noinline int plx_parse_linear(struct linear *l, struct plx_packet *p, __u32 limit)
{
	if (!l || !p)
		return PLX_PARSED_NONE;
	return plx_parse(p, l, load_linear, l->proto, limit);
}

static __always_inline int parse_dropped(struct sk_buff *skb, struct plx_packet *p)
{
	struct linear l = {};
	__u32 start = skb->network_header, tail = skb->tail;

	/* All ones: never set. Zero: no room for a link header before it, so never a packet of the stack. */
	if (start == 0 || start == 0xffff || start >= tail)
		return PLX_PARSED_NONE;
	l.data = (__u64)skb->head + start;
	l.len = tail - start;
	l.proto = ethertype(skb, &l);
	return plx_parse_linear(&l, p, l.len + skb->data_len);
}

SEC("tp_btf/kfree_skb")
int plx_drop(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	__u32 reason = ctx[2];
	struct plx_packet p = {};
	struct plx_drop_event *e;
	__u32 netns;

	if (!is_dropped(reason) || is_reported(skb))
		return 0;
	netns = namespace_of(skb);
	if (!in_scope(netns) || parse_dropped(skb, &p) == PLX_PARSED_NONE)
		return 0;
	plx_count_shared(PLX_STAT_DROPS, 1);
	e = plx_reserve(sizeof(*e));
	if (!e)
		return 0;
	e->hdr.type = PLX_EVENT_DROP;
	e->hdr.version = PLX_EVENT_VERSION;
	e->hdr.len = sizeof(*e);
	e->hdr.netns = netns;
	e->ts = bpf_ktime_get_boot_ns();
	e->location = ctx[1];
	__builtin_memcpy(e->tuple.saddr, &p.saddr, 16);
	__builtin_memcpy(e->tuple.daddr, &p.daddr, 16);
	e->tuple.sport = p.sport;
	e->tuple.dport = p.dport;
	e->tuple.proto = p.proto;
	e->tuple.pad[0] = e->tuple.pad[1] = e->tuple.pad[2] = 0;
	e->tuple.ifindex = skb->dev ? skb->dev->ifindex : skb->skb_iif;
	e->reason = reason;
	e->bytes = p.l3_len ?: skb->len;
	e->tcp_flags = p.tcp_flags;
	e->icmp_type = p.icmp_type;
	e->icmp_code = p.icmp_code;
	e->pad = 0;
	plx_submit(e, sizeof(*e));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
