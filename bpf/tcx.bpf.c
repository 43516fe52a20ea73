//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Flow table, connection events and L7 payload at an interface: tcx from Linux 6.6, clsact classifier below. The
 * programs only look: every packet goes on with TCX_NEXT, which is TC_ACT_UNSPEC. */
#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "payload.h"
#include "policy.h"
#include "process.h"
#include "read.h"
#include "tcp.h"

#define TCX_NEXT (-1)
#define EEXIST 17

#define PLX_PORT_WELL_KNOWN 1024

const volatile __u64 plx_interval_ns = 5000000000;

/* True if the sender of the first packet is the responder. */
static __always_inline bool sent_by_responder(const struct plx_packet *p)
{
	if (p->sender)
		return p->sender == PLX_SENDER_RESPONDER;
	return p->sport < PLX_PORT_WELL_KNOWN && p->dport >= PLX_PORT_WELL_KNOWN;
}

static __always_inline __u32 first_state(const struct plx_seen *s)
{
	bool by_responder = sent_by_responder(&s->pkt);
	__u32 state = s->from_hi ^ by_responder ? PLX_STATE_INIT_HI : 0;

	if (s->egress ^ by_responder)
		state |= PLX_STATE_INIT_EGRESS;
	if (s->pkt.tcp_flags & TCP_SYN)
		state |= s->pkt.tcp_flags & TCP_ACK ? PLX_STATE_SYNACK : PLX_STATE_SYN;
	return state;
}

static __noinline struct plx_flow *create(struct __sk_buff *skb, struct plx_flow_key *key, struct plx_seen *s)
{
	__u32 *role = bpf_map_lookup_elem(&ifaces, &s->ifindex);
	struct plx_flow init = {}, *f = NULL;
	long err;

	if (!role || *role == PLX_ROLE_NONE || (*role == PLX_ROLE_HOST && !s->egress))
		return NULL;
	init.last_seen = s->now;
	init.last_report = s->now;
	init.first_ts = bpf_ktime_get_boot_ns();
	init.state = first_state(s);
	init.isn = s->pkt.seq;
	init.role = *role;
	init.net_off = network_offset(skb);
	plx_links[s->ifindex % PLX_LINKS] = (__u64)s->ifindex << 8 | init.net_off;
	init.icmp_type = s->pkt.icmp_type;
	init.icmp_code = s->pkt.icmp_code;
	err = bpf_map_update_elem(&flows, key, &init, BPF_NOEXIST);
	if (!err || err == -EEXIST /* made on another CPU just now */)
		f = bpf_map_lookup_elem(&flows, key);
	if (!f) {
		plx_count(PLX_STAT_PACKETS, s->segs);
		plx_count(PLX_STAT_LOST_TABLE, s->segs);
		return NULL;
	}
	s->fresh = !err;
	return f;
}

/* Sends an event and takes the counters with it. Where the ring is full they stay for the next one. */
static __noinline int report(struct plx_flow *f, struct plx_seen *s, __u32 kind)
{
	const struct plx_packet *p = &s->pkt;
	struct plx_flow_event *e;
	__u32 *role, flags;

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
	e->packets[0] = __sync_lock_test_and_set(&f->packets[0], 0);
	e->packets[1] = __sync_lock_test_and_set(&f->packets[1], 0);
	e->bytes[0] = __sync_lock_test_and_set(&f->bytes[0], 0);
	e->bytes[1] = __sync_lock_test_and_set(&f->bytes[1], 0);
	e->cookie = f->cookie;
	fill_tuple(&e->tuple, s);
	e->pid = f->pid;
	e->handshake_us = f->handshake_us;
	e->synack_us = f->synack_us;
	e->kind = kind;
	e->role = f->role;
	e->egress = s->egress;
	e->reply = s->reply;
	flags = __sync_lock_test_and_set(&f->tcp_flags, 0);
	e->tcp_flags = kind == PLX_KIND_NEW || kind == PLX_KIND_STATE ? p->tcp_flags : flags;
	e->icmp_type = p->icmp_type;
	e->icmp_code = p->icmp_code;
	e->pid_responder = (f->state & PLX_STATE_PID_RESPONDER) != 0;
	__builtin_memcpy(e->comm, f->comm, sizeof(e->comm));
	e->rule = 0;
	e->verdict = PLX_VERDICT_NONE;
	e->pad[0] = e->pad[1] = e->pad[2] = 0;
	f->last_report = s->now;
	if (kind == PLX_KIND_CLOSE)
		__sync_fetch_and_or(&f->state, PLX_STATE_CLOSE_SENT);
	plx_submit(e, sizeof(*e));
	return 0;
}

static __always_inline void set_reply(struct plx_seen *s, const struct plx_flow *f)
{
	s->reply = s->from_hi ^ ((f->state & PLX_STATE_INIT_HI) != 0);
}

/* A SYN of another connection on the same ports: the old one was closed, was never seen to begin, or its end was missed. */
static __always_inline bool is_restart(const struct plx_flow *f, const struct plx_seen *s)
{
	if (s->pkt.proto != IPPROTO_TCP || (s->pkt.tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return false;
	if (f->state & PLX_STATE_CLOSED || !(f->state & (PLX_STATE_SYN | PLX_STATE_SYNACK)))
		return true;
	return f->state & PLX_STATE_SYN && !s->reply && f->isn != s->pkt.seq;
}

/* Ends the old connection with what it has not yet reported and makes the entry that of the new one. */
static __noinline int restart(struct plx_flow *f, struct plx_seen *s)
{
	if (!(f->state & PLX_STATE_CLOSE_SENT) || f->packets[0] || f->packets[1])
		report(f, s, PLX_KIND_CLOSE);
	f->state = first_state(s);
	f->last_report = s->now;
	f->first_ts = bpf_ktime_get_boot_ns();
	f->isn = s->pkt.seq;
	f->tcp_flags = 0;
	f->cookie = 0;
	f->pid = 0;
	f->handshake_us = 0;
	f->synack_us = 0;
	f->l7_misses = 0;
	f->l7_side = 0;
	__builtin_memset(f->comm, 0, sizeof(f->comm));
	return 0;
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
}

static __noinline int unparsed(struct plx_seen *s)
{
	__u32 *role = bpf_map_lookup_elem(&ifaces, &s->ifindex);

	if (!role || *role == PLX_ROLE_NONE || (*role == PLX_ROLE_HOST && !s->egress))
		return TCX_NEXT;
	plx_count(PLX_STAT_PACKETS, s->segs);
	plx_count(PLX_STAT_UNPARSED, s->segs);
	return TCX_NEXT;
}

/* Counts the packet. A GSO packet is counted as what it becomes on the wire, so that both ends of a path agree however
 * their devices cut and merge. */
static __always_inline void account(struct plx_flow *f, const struct plx_seen *s, __u32 skb_len)
{
	__u32 dir = s->reply & 1;
	__u64 bytes = s->pkt.l3_len ?: skb_len - f->net_off;

	bytes += (__u64)(s->segs - 1) * s->pkt.hdr_len;
	__sync_fetch_and_add(&f->packets[dir], s->segs);
	__sync_fetch_and_add(&f->bytes[dir], bytes);
	if ((f->tcp_flags | s->pkt.tcp_flags) != f->tcp_flags)
		__sync_fetch_and_or(&f->tcp_flags, s->pkt.tcp_flags);
	f->last_seen = s->now;
}

/* True on the one CPU whose turn it is to make the interval report. */
static __always_inline bool is_due(struct plx_flow *f, const struct plx_seen *s)
{
	__u64 last = f->last_report;

	if ((__s64)(s->now - last) < (__s64)plx_interval_ns)
		return false;
	f->l7_misses = 0;
	return __sync_bool_compare_and_swap(&f->last_report, last, s->now);
}

static __always_inline int observe(struct __sk_buff *skb, __u8 egress)
{
	struct plx_flow_key key = {};
	struct plx_seen s = {};
	struct plx_flow *f;
	__u32 kind = 0, asked;
	int parsed;

	s.egress = egress;
	s.ifindex = skb->ifindex;
	parsed = read_packet(skb, &s);
	if (parsed != PLX_PARSED_L4)
		return unparsed(&s);
	if (s.pkt.frag_first || s.pkt.frag_later)
		remember_ports(&s.pkt);
	make_key(&key, &s);
	s.now = bpf_ktime_get_coarse_ns();

	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		f = create(skb, &key, &s);
		if (!f)
			return TCX_NEXT;
		set_reply(&s, f);
	} else {
		if (f->role == PLX_ROLE_HOST && !egress)
			return TCX_NEXT;
		set_reply(&s, f);
		if (is_restart(f, &s)) {
			restart(f, &s);
			s.fresh = 1;
			set_reply(&s, f);
		}
	}
	plx_count(PLX_STAT_PACKETS, s.segs);
	account(f, &s, skb->len);
	asked = s.reply ? PLX_STATE_ASKED_RESP : PLX_STATE_ASKED_INIT;
	if (!(f->state & asked))
		attribute(skb, f, &s);
	if (s.fresh)
		report(f, &s, PLX_KIND_NEW);
	if (s.pkt.proto == IPPROTO_TCP && may_advance(f, &s.pkt))
		kind = advance(f, &s);
	if (kind == 0 && is_due(f, &s))
		kind = PLX_KIND_UPDATE;
	if (kind)
		report(f, &s, kind);
	inspect(skb, f, &s);
	return TCX_NEXT;
}

SEC("tcx/ingress")
int plx_ingress(struct __sk_buff *skb)
{
	return observe(skb, 0);
}

SEC("tcx/egress")
int plx_egress(struct __sk_buff *skb)
{
	return observe(skb, 1);
}

/* Reports what a connection counted before it fell silent: no packet comes to do that. User space runs it over the flow
 * table. */
SEC("iter/bpf_map_elem")
int plx_report_idle(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct plx_flow_key *key = ctx->key;
	struct plx_flow *f = ctx->value;
	struct plx_seen s = {};

	if (!key || !f || !(f->packets[0] | f->packets[1]))
		return 0;
	s.now = bpf_ktime_get_ns();
	if (!is_due(f, &s))
		return 0;
	s.ifindex = key->ifindex;
	s.egress = (f->state & PLX_STATE_INIT_EGRESS) != 0;
	s.pkt.proto = key->proto;
	s.pkt.icmp_type = f->icmp_type;
	s.pkt.icmp_code = f->icmp_code;
	s.from_hi = (f->state & PLX_STATE_INIT_HI) != 0;
	__builtin_memcpy(&s.pkt.saddr, s.from_hi ? key->hi : key->lo, 16);
	__builtin_memcpy(&s.pkt.daddr, s.from_hi ? key->lo : key->hi, 16);
	s.pkt.sport = s.from_hi ? key->hi_port : key->lo_port;
	s.pkt.dport = s.from_hi ? key->lo_port : key->hi_port;
	report(f, &s, PLX_KIND_UPDATE);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
