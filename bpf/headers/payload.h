/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Payload of application protocols that user space parses: HTTP/1.x messages and DNS. */
#ifndef PARALLAX_PAYLOAD_H
#define PARALLAX_PAYLOAD_H

#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "read.h"

#define PLX_L7_MISSES 16
#define PLX_PAYLOAD_CAP 4096	/* upper limit of plx_payload_max; a power of two */
#define PLX_PORT_DNS 53
#define PLX_PORT_MDNS 5353

/* Values of flow.L7Protocol. */
#define PLX_L7_HTTP 1
#define PLX_L7_DNS 2

const volatile __u32 plx_payload_max = 1024;
const volatile __u8 plx_l7_http = 1;
const volatile __u8 plx_l7_dns = 1;

/* Addresses of endpoints whose own interface is observed: their L7 payload is taken there and nowhere else. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct plx_addr);
	__type(value, __u32);
} local_eps SEC(".maps");

struct plx_payload_buf {
	struct plx_payload_event ev;
	__u8 data[PLX_PAYLOAD_CAP];
};

/* The verifier wants ring records of constant size; a payload is put together here. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plx_payload_buf);
} scratch SEC(".maps");

/* Compares the first n bytes of a payload with a word of at most 8 bytes. */
#define STARTS(v, word) \
	(((v) & (~0ULL >> (64 - 8 * (sizeof(word) - 1)))) == plx_word(word, sizeof(word) - 1))

static __always_inline __u64 plx_word(const char *word, __u32 n)
{
	__u64 v = 0;

	for (__u32 i = 0; i < n; i++)
		v |= (__u64)(__u8)word[i] << (8 * i);
	return v;
}

/* RFC 9112 sections 3 and 4: a request begins with method and space, a response with the version. */
static __always_inline bool is_http(__u64 v)
{
	return STARTS(v, "GET ") || STARTS(v, "HTTP/1.") || STARTS(v, "POST ") || STARTS(v, "PUT ") ||
	       STARTS(v, "HEAD ") || STARTS(v, "DELETE ") || STARTS(v, "PATCH ") || STARTS(v, "OPTIONS ") ||
	       STARTS(v, "CONNECT ") || STARTS(v, "TRACE ");
}

/* The same payload passes several interfaces of a node; it is taken nearest to the endpoint. */
static __always_inline bool payload_taken_elsewhere(const struct plx_flow *f, const struct plx_packet *p)
{
	if (f->role != PLX_ROLE_NETWORK && f->role != PLX_ROLE_OVERLAY)
		return false;
	return bpf_map_lookup_elem(&local_eps, &p->saddr) || bpf_map_lookup_elem(&local_eps, &p->daddr);
}

static __noinline int send_payload(struct __sk_buff *skb, struct plx_flow *f, struct plx_seen *s, __u32 l7)
{
	__u32 zero = 0, len = s->payload_len;
	struct plx_payload_buf *buf = bpf_map_lookup_elem(&scratch, &zero);

	if (!buf || payload_taken_elsewhere(f, &s->pkt))
		return 0;
	if (len > plx_payload_max)
		len = plx_payload_max;
	if (len == 0)
		return 0;
	/* Verifiers before Linux 6.8 do not learn from a comparison with zero that at least one byte is loaded. */
	len--;
	barrier_var(len);
	if (len >= PLX_PAYLOAD_CAP)
		len = PLX_PAYLOAD_CAP - 1;
	len++;
	if (bpf_skb_load_bytes(skb, f->net_off + s->pkt.payload_off, buf->data, len))
		return 0;
	buf->ev.hdr.type = PLX_EVENT_PAYLOAD;
	buf->ev.hdr.version = PLX_EVENT_VERSION;
	buf->ev.hdr.len = sizeof(buf->ev) + len;
	buf->ev.hdr.netns = plx_netns;
	buf->ev.ts = bpf_ktime_get_boot_ns();
	buf->ev.cookie = f->cookie;
	fill_tuple(&buf->ev.tuple, s);
	buf->ev.seq = s->pkt.seq;
	buf->ev.payload_len = s->payload_len;
	buf->ev.pid = f->pid;
	buf->ev.pad = 0;
	buf->ev.role = f->role;
	buf->ev.egress = s->egress;
	buf->ev.reply = s->reply;
	buf->ev.l7 = l7;
	plx_output(buf, sizeof(buf->ev) + len);
	return 0;
}

/* A long body must not hide the next message: where HTTP was spoken, a change of sides begins one. */
static __always_inline bool worth_a_look(struct plx_flow *f, const struct plx_seen *s)
{
	__u8 side = 1 + (s->reply & 1);

	if (f->l7_side && f->l7_side != side) {
		f->l7_side = side;
		f->l7_misses = 0;
	}
	return f->l7_misses < PLX_L7_MISSES;
}

static __noinline int inspect_tcp(struct __sk_buff *skb, struct plx_flow *f, struct plx_seen *s)
{
	__u64 start;

	if (s->payload_len < sizeof(start) ||
	    bpf_skb_load_bytes(skb, f->net_off + s->pkt.payload_off, &start, sizeof(start)))
		return 0;
	if (!is_http(start)) {
		f->l7_misses++;
		return 0;
	}
	f->l7_misses = 0;
	f->l7_side = 1 + (s->reply & 1);
	return send_payload(skb, f, s, PLX_L7_HTTP);
}

static __always_inline bool is_dns_port(__u16 port)
{
	return port == PLX_PORT_DNS || port == PLX_PORT_MDNS;
}

static __always_inline void inspect(struct __sk_buff *skb, struct plx_flow *f, struct plx_seen *s)
{
	const struct plx_packet *p = &s->pkt;

	if (p->frag_later || p->payload_off == 0 || f->net_off == PLX_NET_OFF_UNKNOWN)
		return;
	if (p->proto == IPPROTO_TCP) {
		if (plx_l7_http && (f->l7_side || f->l7_misses < PLX_L7_MISSES)) {
			s->payload_len = (p->l3_len ?: skb->len - f->net_off) - p->hdr_len;
			if (s->payload_len && worth_a_look(f, s))
				inspect_tcp(skb, f, s);
		}
	} else if (p->proto == IPPROTO_UDP && plx_l7_dns && (is_dns_port(p->sport) || is_dns_port(p->dport))) {
		s->payload_len = (p->l3_len ?: skb->len - f->net_off) - p->hdr_len;
		send_payload(skb, f, s, PLX_L7_DNS);
	}
}

#endif
