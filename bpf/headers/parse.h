/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One packet parser for all programs. It starts at the network header, so that the link layer (Ethernet, VLAN offload,
 * devices without any link header such as tun or WireGuard) never matters; VLAN tags that are still in the payload are
 * walked. Where the bytes come from is the caller's plx_load. */
#ifndef PARALLAX_PARSE_H
#define PARALLAX_PARSE_H

#include "vmlinux.h"
#include "event.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP	0x0800
#define ETH_P_IPV6	0x86DD
#define ETH_P_8021Q	0x8100
#define ETH_P_8021AD	0x88A8

#define IPPROTO_HOPOPTS		0
#define IPPROTO_ICMP		1
#define IPPROTO_TCP		6
#define IPPROTO_UDP		17
#define IPPROTO_ROUTING		43
#define IPPROTO_FRAGMENT	44
#define IPPROTO_AH		51
#define IPPROTO_ICMPV6		58
#define IPPROTO_DSTOPTS		60
#define IPPROTO_SCTP		132
#define IPPROTO_MH		135

#define ICMP_ECHOREPLY		0
#define ICMP_ECHO		8
#define ICMPV6_ECHO_REQUEST	128
#define ICMPV6_ECHO_REPLY	129

#define SCTP_CID_INIT		1
#define SCTP_CID_INIT_ACK	2

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_MF		0x2000
#define IP_OFFSET	0x1fff

#define PLX_VLAN_DEPTH 2	/* QinQ */
#define PLX_EXT_DEPTH 8		/* IPv6 extension headers that are followed */

struct plx_iphdr {
	__u8 ver_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 saddr;
	__be32 daddr;
};

struct plx_ip6hdr {
	__be32 ver_flow;
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
};

struct plx_tcphdr {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	__u8 doff;	/* upper four bits, in words */
	__u8 flags;
	__be16 window;
	__sum16 check;
	__be16 urg_ptr;
};

struct plx_addr {
	union {
		__u8 b[16];
		__u32 w[4];
		__u64 d[2];
	};
};

/* How far the packet could be read. */
enum plx_parsed {
	PLX_PARSED_NONE = 0,	/* not IP, or not even the IP header is whole */
	PLX_PARSED_L3 = 1,	/* addresses are good, the rest is cut or malformed */
	PLX_PARSED_L4 = 2,
};

/* Who started the connection, where a packet tells. */
enum plx_sender {
	PLX_SENDER_UNKNOWN = 0,
	PLX_SENDER_INITIATOR = 1,
	PLX_SENDER_RESPONDER = 2,
};

struct plx_packet {
	struct plx_addr saddr;
	struct plx_addr daddr;
	__u16 sport;		/* host order */
	__u16 dport;
	__u32 l3_len;		/* IP header and up, as the header says; 0 where it does not (BIG TCP) */
	__u32 l4_off;		/* from the network header */
	__u32 hdr_len;		/* layer 3 and 4 headers, from the start of the IP header */
	__u32 payload_off;	/* from the network header; 0 if there is no layer 4 */
	__u32 seq;		/* TCP */
	__u32 frag_id;
	__u8 proto;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 sender;		/* enum plx_sender */
	__u8 frag_first;	/* first of several fragments */
	__u8 frag_later;	/* not the first fragment: there is no layer 4 header */
	__u8 pad[5];
};

/* Copies len bytes at off (from the network header) of the packet behind src; 0 on success, to is zero otherwise. */
typedef long (*plx_load)(void *src, __u32 off, void *to, __u32 len);

static __always_inline void plx_set_v4(struct plx_addr *a, __be32 v4)
{
	a->d[0] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

static __always_inline int plx_parse_tcp(struct plx_packet *p, const struct plx_tcphdr *th, __u32 ip_off)
{
	__u32 doff = (th->doff >> 4) * 4;

	if (doff < sizeof(*th))
		return PLX_PARSED_L3;
	p->sport = bpf_ntohs(th->source);
	p->dport = bpf_ntohs(th->dest);
	p->seq = bpf_ntohl(th->seq);
	p->tcp_flags = th->flags;
	p->payload_off = p->l4_off + doff;
	p->hdr_len = p->payload_off - ip_off;
	if (p->l3_len && p->hdr_len > p->l3_len)
		return PLX_PARSED_L3;
	if (th->flags & TCP_SYN)
		p->sender = th->flags & TCP_ACK ? PLX_SENDER_RESPONDER : PLX_SENDER_INITIATOR;
	return PLX_PARSED_L4;
}

/* The header's bytes 0-7 are in w: enough for everything but TCP, and SCTP's first chunk. */
static __always_inline int plx_parse_short(struct plx_packet *p, const __u8 *w, __u32 ip_off)
{
	__u16 first = w[0] << 8 | w[1], second = w[2] << 8 | w[3], ident = w[4] << 8 | w[5];

	switch (p->proto) {
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		p->sport = first;
		p->dport = second;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		p->icmp_type = w[0];
		p->icmp_code = w[1];
		if (w[0] == (p->proto == IPPROTO_ICMP ? ICMP_ECHO : ICMPV6_ECHO_REQUEST))
			p->sender = PLX_SENDER_INITIATOR;
		else if (w[0] == (p->proto == IPPROTO_ICMP ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY))
			p->sender = PLX_SENDER_RESPONDER;
		else
			break;
		p->sport = p->dport = ident;
		break;
	}
	p->payload_off = p->l4_off + 8;
	p->hdr_len = p->payload_off - ip_off;
	return p->l3_len && p->hdr_len > p->l3_len ? PLX_PARSED_L3 : PLX_PARSED_L4;
}

static __always_inline int plx_parse_l4(struct plx_packet *p, void *src, plx_load load, __u32 ip_off)
{
	struct plx_tcphdr th;
	__u8 w[8], chunk;
	int parsed;

	p->hdr_len = p->l4_off - ip_off;
	if (p->frag_later)
		return PLX_PARSED_L4;
	switch (p->proto) {
	case IPPROTO_TCP:
		if (load(src, p->l4_off, &th, sizeof(th)))
			return PLX_PARSED_L3;
		return plx_parse_tcp(p, &th, ip_off);
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_SCTP:
		if (load(src, p->l4_off, w, sizeof(w)))
			return PLX_PARSED_L3;
		parsed = plx_parse_short(p, w, ip_off);
		if (p->proto == IPPROTO_SCTP && !load(src, p->l4_off + 12, &chunk, 1)) {
			if (chunk == SCTP_CID_INIT)
				p->sender = PLX_SENDER_INITIATOR;
			else if (chunk == SCTP_CID_INIT_ACK)
				p->sender = PLX_SENDER_RESPONDER;
		}
		return parsed;
	}
	return PLX_PARSED_L4;
}

static __always_inline bool plx_is_ext(__u8 next)
{
	const __u64 low = 1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_ROUTING | 1ULL << IPPROTO_FRAGMENT |
			  1ULL << IPPROTO_AH | 1ULL << IPPROTO_DSTOPTS;

	return next < 64 ? low >> next & 1 : next == IPPROTO_MH;
}

/* RFC 8200 section 4: follows the extension headers. p->proto is the first next header, p->l4_off its place. */
static __always_inline int plx_parse_ext(struct plx_packet *p, void *src, plx_load load)
{
	__u32 off = p->l4_off;
	__u8 h[8], next = p->proto;

	for (int i = 0; i <= PLX_EXT_DEPTH; i++) {
		if (!plx_is_ext(next) || p->frag_later) {
			p->proto = next;
			p->l4_off = off;
			return 0;
		}
		if (load(src, off, h, sizeof(h)))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			__u16 frag = h[2] << 8 | h[3];

			p->frag_id = h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
			p->frag_later = (frag & 0xfff8) != 0;
			p->frag_first = !p->frag_later && (frag & 1);
			h[1] = 0;
		}
		/* The authentication header counts in words (RFC 4302 section 2.2), the others in 8 bytes. One range for
		 * all keeps the verifier from following each combination. */
		off += next == IPPROTO_AH ? (h[1] + 2) * 4 : (h[1] + 1) * 8;
		off &= 0xffff;
		next = h[0];
	}
	return -1;
}

static __always_inline int plx_parse_v4(struct plx_packet *p, const struct plx_iphdr *ip, __u32 off, __u32 limit)
{
	__u32 ihl = (ip->ver_ihl & 0xf) * 4;
	__u16 frag = bpf_ntohs(ip->frag_off);

	if (ip->ver_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return PLX_PARSED_NONE;
	plx_set_v4(&p->saddr, ip->saddr);
	plx_set_v4(&p->daddr, ip->daddr);
	p->proto = ip->protocol;
	p->l3_len = bpf_ntohs(ip->tot_len);
	p->l4_off = off + ihl;
	p->frag_id = ip->id;
	p->frag_later = (frag & IP_OFFSET) != 0;
	p->frag_first = !p->frag_later && (frag & IP_MF);
	if (p->l3_len && (p->l3_len < ihl || p->l3_len > limit))
		return PLX_PARSED_L3;
	return PLX_PARSED_L4;
}

static __always_inline int plx_parse_v6(struct plx_packet *p, const struct plx_ip6hdr *ip, __u32 off, __u32 limit)
{
	__u32 len = bpf_ntohs(ip->payload_len);

	if ((ip->ver_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return PLX_PARSED_NONE;
	__builtin_memcpy(&p->saddr, ip->saddr, sizeof(p->saddr));
	__builtin_memcpy(&p->daddr, ip->daddr, sizeof(p->daddr));
	p->proto = ip->nexthdr;
	p->l3_len = len ? len + (__u32)sizeof(*ip) : 0;
	p->l4_off = off + sizeof(*ip);
	return p->l3_len > limit ? PLX_PARSED_L3 : PLX_PARSED_L4;
}

/* What most packets are: TCP right behind an IP header without options. */
struct plx_tcp4 {
	struct plx_iphdr ip;
	struct plx_tcphdr th;
};

struct plx_tcp6 {
	struct plx_ip6hdr ip;
	struct plx_tcphdr th;
};

/* Neither options nor fragments. */
static __always_inline bool plx_is_plain4(const struct plx_iphdr *ip)
{
	return ip->ver_ihl == 0x45 && !(ip->frag_off & bpf_htons(IP_MF | IP_OFFSET));
}

static __always_inline int plx_parse_tcp4(struct plx_packet *p, const struct plx_tcp4 *h, __u32 off, __u32 limit)
{
	int parsed = plx_parse_v4(p, &h->ip, off, limit);

	return parsed == PLX_PARSED_L4 ? plx_parse_tcp(p, &h->th, off) : parsed;
}

static __always_inline int plx_parse_tcp6(struct plx_packet *p, const struct plx_tcp6 *h, __u32 off, __u32 limit)
{
	int parsed = plx_parse_v6(p, &h->ip, off, limit);

	return parsed == PLX_PARSED_L4 ? plx_parse_tcp(p, &h->th, off) : parsed;
}

/* Parses the packet at src. proto is its ethertype in network order; limit the bytes that it can have at most.
 * p must be zero. Returns enum plx_parsed. */
static __always_inline int plx_parse(struct plx_packet *p, void *src, plx_load load, __be16 proto, __u32 limit)
{
	__u32 off = 0;
	int parsed;

	for (int i = 0; i < PLX_VLAN_DEPTH; i++) {
		__be16 tag[2];

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if (load(src, off, tag, sizeof(tag)))
			return PLX_PARSED_NONE;
		proto = tag[1];
		off += sizeof(tag);
	}
	if (proto == bpf_htons(ETH_P_IP)) {
		struct plx_tcp4 h;

		/* One load for the common packet; a short one has no room for it. */
		if (load(src, off, &h, sizeof(h)) == 0 && plx_is_plain4(&h.ip) &&
		    h.ip.protocol == IPPROTO_TCP)
			return plx_parse_tcp4(p, &h, off, limit);
		if (load(src, off, &h.ip, sizeof(h.ip)))
			return PLX_PARSED_NONE;
		parsed = plx_parse_v4(p, &h.ip, off, limit);
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct plx_tcp6 h;

		if (load(src, off, &h, sizeof(h)) == 0 && h.ip.nexthdr == IPPROTO_TCP)
			return plx_parse_tcp6(p, &h, off, limit);
		if (load(src, off, &h.ip, sizeof(h.ip)))
			return PLX_PARSED_NONE;
		parsed = plx_parse_v6(p, &h.ip, off, limit);
		if (parsed == PLX_PARSED_L4 && plx_parse_ext(p, src, load))
			return PLX_PARSED_L3;
	} else {
		return PLX_PARSED_NONE;
	}
	return parsed == PLX_PARSED_L4 ? plx_parse_l4(p, src, load, off) : parsed;
}

#endif
