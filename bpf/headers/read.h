/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as the tcx programs get it: reading its headers, and where they are. */
#ifndef PARALLAX_READ_H
#define PARALLAX_READ_H

#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "parse.h"

#define PLX_PULL 256	/* bytes made linear where headers are not; IPv6 with many extension headers */

/* A packet on its way through the program. */
struct plx_seen {
	struct plx_packet pkt;
	__u64 now;		/* CLOCK_MONOTONIC_COARSE */
	__u64 answer;		/* of policy, about a packet that has no entry or does not belong to its entry */
	__u32 segs;
	__u32 payload_len;
	__u32 ifindex;
	__u8 egress;
	__u8 from_hi;		/* the sender is the key's hi side */
	__u8 reply;		/* the sender is the responder */
	__u8 fresh;		/* the connection begins with this packet */
	__u8 exempt;		/* no policy decides on it: see plx_flow_key */
	__u8 decided;		/* policy decided with this packet, and it is worth an event */
	__u8 pad[6];
};

/* Ports of datagrams whose later fragments have none. At each interface its own: whoever forges a first fragment must not
 * give ports to those of others. */
struct plx_frag_key {
	struct plx_addr saddr;
	struct plx_addr daddr;
	__u32 id;
	__u32 ifindex;
	__u8 proto;
	__u8 pad[7];
};

struct plx_ports {
	__u16 sport;
	__u16 dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct plx_frag_key);
	__type(value, struct plx_ports);
} frags SEC(".maps");

static long load_net(void *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/* Link layers: ifindex << 8 | bytes before the network header, learnt from the first packet of a flow. One word for
 * each slot, so that no lock is needed; two interfaces on one slot only cost time. */
#define PLX_LINKS 256
__u64 plx_links[PLX_LINKS];

#define ETH_HLEN 14

/* The common packet, TCP or UDP over IP without options, read in place. Only where the device is known to have Ethernet
 * headers: on one without, the bytes of an address could look like an ethertype. 0: it is another packet. */
static __always_inline int parse_direct(struct __sk_buff *skb, struct plx_packet *p, __u32 ifindex)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct plx_tcp4 *v4 = data + ETH_HLEN;
	struct plx_tcp6 *v6 = data + ETH_HLEN;
	__be16 *proto = data + ETH_HLEN - sizeof(*proto);
	__u8 *udp = (void *)(&v4->ip + 1);

	if (plx_links[ifindex % PLX_LINKS] != ((__u64)ifindex << 8 | ETH_HLEN) || (void *)(udp + 8) > end ||
	    *proto != (__be16)skb->protocol)
		return 0;
	if (*proto == bpf_htons(ETH_P_IP)) {
		if (!plx_is_plain4(&v4->ip))
			return 0;
		if (v4->ip.protocol == IPPROTO_TCP && (void *)(v4 + 1) <= end)
			return plx_parse_tcp4(p, v4, 0, skb->len);
		if (v4->ip.protocol == IPPROTO_UDP && plx_parse_v4(p, &v4->ip, 0, skb->len) == PLX_PARSED_L4)
			return plx_parse_short(p, udp, 0);
	} else if (*proto == bpf_htons(ETH_P_IPV6) && (void *)(v6 + 1) <= end && v6->ip.nexthdr == IPPROTO_TCP) {
		return plx_parse_tcp6(p, v6, 0, skb->len);
	}
	return 0;
}

/* Global, so that the verifier looks at it once and not in each state of its callers. */
__noinline int plx_parse_skb(struct __sk_buff *skb, struct plx_packet *p)
{
	if (!p)
		return PLX_PARSED_NONE;
	return plx_parse(p, skb, load_net, skb->protocol, skb->len);
}

static __noinline void remember_ports(struct plx_packet *p, __u32 ifindex)
{
	struct plx_frag_key key = {
		.saddr = p->saddr, .daddr = p->daddr, .id = p->frag_id, .ifindex = ifindex, .proto = p->proto,
	};
	struct plx_ports *found, ports = { .sport = p->sport, .dport = p->dport };

	if (p->frag_first) {
		if (bpf_map_update_elem(&frags, &key, &ports, BPF_ANY))
			plx_count_shared(PLX_STAT_LOST_HINT, 1);
		return;
	}
	found = bpf_map_lookup_elem(&frags, &key);
	if (found) {
		p->sport = found->sport;
		p->dport = found->dport;
	}
}

/* Where the network header is, from the start of the packet: no context field tells, so the bytes are compared. */
static __noinline __u8 network_offset(struct __sk_buff *skb)
{
	__u64 want[3] = {}, got[3];

	if (load_net(skb, 0, want, 20))
		return PLX_NET_OFF_UNKNOWN;
	for (int i = 0; i < 4; i++) {
		__u32 off = i == 0 ? 14 : i == 1 ? 0 : i == 2 ? 18 : 22;

		got[2] = 0;
		if (bpf_skb_load_bytes(skb, off, got, 20) == 0 &&
		    got[0] == want[0] && got[1] == want[1] && got[2] == want[2])
			return off;
	}
	return PLX_NET_OFF_UNKNOWN;
}

/* Normalizes the ends of the packet; the key must be zero. */
static __always_inline void make_key(struct plx_flow_key *key, struct plx_seen *s)
{
	const struct plx_packet *p = &s->pkt;

	if (p->saddr.d[0] != p->daddr.d[0])
		s->from_hi = p->saddr.d[0] > p->daddr.d[0];
	else if (p->saddr.d[1] != p->daddr.d[1])
		s->from_hi = p->saddr.d[1] > p->daddr.d[1];
	else
		s->from_hi = p->sport > p->dport;
	if (s->from_hi) {
		__builtin_memcpy(key->lo, &p->daddr, 16);
		__builtin_memcpy(key->hi, &p->saddr, 16);
		key->lo_port = p->dport;
		key->hi_port = p->sport;
	} else {
		__builtin_memcpy(key->lo, &p->saddr, 16);
		__builtin_memcpy(key->hi, &p->daddr, 16);
		key->lo_port = p->sport;
		key->hi_port = p->dport;
	}
	key->proto = p->proto;
	key->ifindex = s->ifindex;
	key->exempt = s->exempt;
}

static __always_inline void fill_tuple(struct plx_tuple *t, const struct plx_seen *s)
{
	const struct plx_packet *p = &s->pkt;

	if (s->reply) {
		__builtin_memcpy(t->saddr, &p->daddr, 16);
		__builtin_memcpy(t->daddr, &p->saddr, 16);
		t->sport = p->dport;
		t->dport = p->sport;
	} else {
		__builtin_memcpy(t->saddr, &p->saddr, 16);
		__builtin_memcpy(t->daddr, &p->daddr, 16);
		t->sport = p->sport;
		t->dport = p->dport;
	}
	t->proto = p->proto;
	t->pad[0] = t->pad[1] = t->pad[2] = 0;
	t->ifindex = s->ifindex;
}

static __always_inline __u32 segments(struct __sk_buff *skb, const struct plx_packet *p)
{
	__u32 segs = skb->gso_segs, size = skb->gso_size;

	if (segs)
		return segs;
	/* A guest's packet has a size and no count (SKB_GSO_DODGY). */
	if (size && p->l3_len > p->hdr_len)
		return (p->l3_len - p->hdr_len + size - 1) / size;
	return 1;
}

/* Fills s->pkt; returns enum plx_parsed. */
static __always_inline int read_packet(struct __sk_buff *skb, struct plx_seen *s)
{
	int parsed = parse_direct(skb, &s->pkt, s->ifindex);

	if (!parsed)
		parsed = plx_parse_skb(skb, &s->pkt);
	if (parsed != PLX_PARSED_L4 && skb->len > skb->data_end - skb->data) {
		__builtin_memset(&s->pkt, 0, sizeof(s->pkt));
		if (bpf_skb_pull_data(skb, skb->len < PLX_PULL ? skb->len : PLX_PULL) == 0)
			parsed = plx_parse_skb(skb, &s->pkt);
	}
	s->segs = segments(skb, &s->pkt);
	return parsed;
}

#endif
