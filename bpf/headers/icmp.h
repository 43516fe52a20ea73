/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP that no policy may stop: without it neighbours are not found and paths not measured (RFC 4890 section 4.3). */
#ifndef PARALLAX_ICMP_H
#define PARALLAX_ICMP_H

#include "vmlinux.h"
#include "flowtable.h"
#include "parse.h"
#include "policy.h"
#include "read.h"

#define ICMP_DEST_UNREACH	3
#define ICMP_SOURCE_QUENCH	4
#define ICMP_TIME_EXCEEDED	11
#define ICMP_PARAMETERPROB	12

#define ICMPV6_DEST_UNREACH	1
#define ICMPV6_PARAMPROB	4
#define ICMPV6_MGM_QUERY	130	/* of multicast listeners; reports and done, then 133-137 neighbour discovery */
#define ICMPV6_REDIRECT		137
#define ICMPV6_MLD2_REPORT	143

static __always_inline bool is_neighbour(const struct plx_packet *p)
{
	return p->proto == IPPROTO_ICMPV6 &&
	       ((p->icmp_type >= ICMPV6_MGM_QUERY && p->icmp_type <= ICMPV6_REDIRECT) ||
		p->icmp_type == ICMPV6_MLD2_REPORT);
}

static __always_inline bool is_icmp_error(const struct plx_packet *p)
{
	if (p->proto == IPPROTO_ICMPV6)
		return p->icmp_type >= ICMPV6_DEST_UNREACH && p->icmp_type <= ICMPV6_PARAMPROB;
	return p->icmp_type == ICMP_DEST_UNREACH || p->icmp_type == ICMP_SOURCE_QUENCH ||
	       p->icmp_type == ICMP_TIME_EXCEEDED || p->icmp_type == ICMP_PARAMETERPROB;
}

/* Reads the ends of the packet that an ICMP error is about: its IP header, and the first 8 bytes behind, which is all
 * that must be there (RFC 792; the rest may be cut). */
static __always_inline bool read_inner(struct __sk_buff *skb, struct plx_packet *p, __u32 off, bool v6)
{
	union {
		struct plx_iphdr v4;
		struct plx_ip6hdr v6;
	} ip;
	__u8 w[8];

	if (v6) {
		if (load_net(skb, off, &ip.v6, sizeof(ip.v6)) || plx_parse_v6(p, &ip.v6, off, ~0U) != PLX_PARSED_L4 ||
		    plx_parse_ext(p, skb, load_net))
			return false;
	} else if (load_net(skb, off, &ip.v4, sizeof(ip.v4)) || plx_parse_v4(p, &ip.v4, off, ~0U) != PLX_PARSED_L4) {
		return false;
	}
	if (p->frag_later || load_net(skb, p->l4_off, w, sizeof(w)))
		return false;
	if (p->proto == IPPROTO_TCP) {
		p->sport = w[0] << 8 | w[1];
		p->dport = w[2] << 8 | w[3];
		return true;
	}
	return plx_parse_short(p, w, off) == PLX_PARSED_L4;
}

/* 1: the error in s is about a connection at this interface that is not denied. Who forges that must know the
 * connection, and can only do to it what the network can. The packet inside was the one that the error goes back to:
 * else it is about nothing that its receiver sent (as nf_conntrack_inet_error asks). */
__noinline int plx_related(struct __sk_buff *skb, struct plx_seen *s)
{
	struct plx_flow_key key = {};
	struct plx_seen inner = {};
	struct plx_flow *f;

	if (!s)
		return 0;
	if (!read_inner(skb, &inner.pkt, s->pkt.payload_off, s->pkt.proto == IPPROTO_ICMPV6) ||
	    inner.pkt.saddr.d[0] != s->pkt.daddr.d[0] || inner.pkt.saddr.d[1] != s->pkt.daddr.d[1])
		return 0;
	inner.ifindex = s->ifindex;
	make_key(&key, &inner);
	f = bpf_map_lookup_elem(&flows, &key);
	return f && f->verdict != PLX_VERDICT_DENIED;
}

/* True for ICMP that passes an owned interface whatever policy says. */
static __always_inline bool is_exempt(struct __sk_buff *skb, struct plx_seen *s)
{
	const struct plx_packet *p = &s->pkt;

	if ((p->proto != IPPROTO_ICMP && p->proto != IPPROTO_ICMPV6) || p->frag_later || !is_owned(s->ifindex))
		return false;
	return is_neighbour(p) || (is_icmp_error(p) && plx_related(skb, s));
}

#endif
