//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Flow table, connection events, L7 payload and policy at an interface: tcx from Linux 6.6, clsact classifier below.
 * Every packet goes on with TCX_NEXT, which is TC_ACT_UNSPEC, but those that policy denies. */
#include "vmlinux.h"
#include "enforce.h"
#include "event.h"
#include "flowtable.h"
#include "icmp.h"
#include "maps.h"
#include "payload.h"
#include "policy.h"
#include "read.h"
#include "report.h"
#include "tcp.h"

#define EEXIST 17

const volatile __u64 plx_interval_ns = 5000000000;

static __noinline struct plx_flow *create(struct __sk_buff *skb, struct plx_flow_key *key, struct plx_seen *s, __u32 generation)
{
	__u32 *found = bpf_map_lookup_elem(&ifaces, &s->ifindex), role = found ? *found : PLX_ROLE_NONE;
	struct plx_flow init = {}, *f = NULL;
	long err;

	if (role == PLX_ROLE_NONE && verdict_of(s->answer) != PLX_VERDICT_NONE)
		role = PLX_ROLE_ENDPOINT; /* owned, and so observed, even if user space says so later */
	if (role == PLX_ROLE_NONE || (role == PLX_ROLE_HOST && !s->egress))
		return NULL;
	init.last_seen = s->now;
	init.last_report = s->now;
	init.first_ts = bpf_ktime_get_boot_ns();
	init.state = first_state(s, s->answer);
	init.isn = s->pkt.seq;
	init.role = role;
	init.net_off = network_offset(skb);
	plx_links[s->ifindex % PLX_LINKS] = (__u64)s->ifindex << 8 | init.net_off;
	init.icmp_type = s->pkt.icmp_type;
	init.icmp_code = s->pkt.icmp_code;
	init.verdict = verdict_of(s->answer);
	init.rule = rule_of(s->answer);
	init.generation = generation;
	err = bpf_map_update_elem(&flows, key, &init, BPF_NOEXIST);
	if (!err || err == -EEXIST /* made on another CPU just now */)
		f = bpf_map_lookup_elem(&flows, key);
	if (!f) {
		plx_count(PLX_STAT_PACKETS, s->segs);
		plx_count(PLX_STAT_LOST_TABLE, s->segs);
		return NULL;
	}
	s->fresh = !err;
	s->decided = !err && is_reportable(init.rule);
	return f;
}

/* True for what cannot be told from IP: IP itself, and more VLAN tags than are walked. */
static __always_inline bool may_be_ip(struct __sk_buff *skb)
{
	__be16 proto = skb->protocol, tag[2];

	for (int i = 0; i < PLX_VLAN_DEPTH; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if (load_net(skb, i * sizeof(tag), tag, sizeof(tag)))
			return false;
		proto = tag[1];
	}
	return proto == bpf_htons(ETH_P_IP) || proto == bpf_htons(ETH_P_IPV6) || proto == bpf_htons(ETH_P_8021Q) ||
	       proto == bpf_htons(ETH_P_8021AD);
}

/* A packet that could not be read. Where policy isolates the endpoint, IP among these is denied: nobody can tell what
 * its receiver will make of it. What is not IP (ARP) is not policy's. */
static __noinline int unparsed(struct __sk_buff *skb, struct plx_seen *s)
{
	__u32 *role = bpf_map_lookup_elem(&ifaces, &s->ifindex);
	struct plx_policy_record *r = NULL;
	__u32 ifindex = s->ifindex;

	if (plx_policy_generation)
		r = bpf_map_lookup_elem(&policy_records, &ifindex);
	if (!r && (!role || *role == PLX_ROLE_NONE || (*role == PLX_ROLE_HOST && !s->egress)))
		return TCX_NEXT;
	plx_count(PLX_STAT_PACKETS, s->segs);
	plx_count(PLX_STAT_UNPARSED, s->segs);
	if (!r || !(s->egress ? r->table[0] : r->table[1]) || !may_be_ip(skb))
		return TCX_NEXT;
	s->now = bpf_ktime_get_coarse_ns();
	s->answer = plx_answer(s->egress ? r->deny[0] : r->deny[1],
			       r->flags & PLX_POLICY_AUDIT ? PLX_VERDICT_AUDIT : PLX_VERDICT_DENIED);
	return answer_untracked(skb, s);
}

/* A packet that does not belong to the entry of its ends. */
static __noinline int stray(struct __sk_buff *skb, struct plx_seen *s, __u32 course)
{
	plx_count(PLX_STAT_PACKETS, s->segs);
	plx_count(PLX_STAT_LOST_TABLE, s->segs);
	return course == PLX_COURSE_DROP ? answer_untracked(skb, s) : TCX_NEXT;
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

static __always_inline int observe(struct __sk_buff *skb, __u8 egress)
{
	struct plx_flow_key key = {};
	struct plx_seen s = {};
	struct plx_flow *f;
	__u32 kind = 0, asked, course, generation;

	s.egress = egress;
	s.ifindex = skb->ifindex;
	if (read_packet(skb, &s) != PLX_PARSED_L4)
		return unparsed(skb, &s);
	if (s.pkt.frag_first || s.pkt.frag_later)
		remember_ports(&s.pkt, s.ifindex);
	generation = plx_policy_generation; /* before anything is decided: what changes later is decided anew */
	s.exempt = generation && is_exempt(skb, &s);
	make_key(&key, &s);
	s.now = bpf_ktime_get_coarse_ns();

	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		s.answer = answer_first(&s);
		f = create(skb, &key, &s, generation);
		if (!f)
			return answer_untracked(skb, &s);
	}
	set_reply(&s, f);
	if (!s.fresh) {
		if (f->role == PLX_ROLE_HOST && !egress)
			return TCX_NEXT;
		if (!is_settled(f, &s, generation)) {
			course = settle(f, &s, generation);
			if (course != PLX_COURSE_ENTRY)
				return stray(skb, &s, course);
		} else if (is_restart(f, &s)) {
			restart(f, &s, sent_by_responder(&s.pkt) ? PLX_ANSWER_REPLY : 0, generation);
		}
	}
	plx_count(PLX_STAT_PACKETS, s.segs);
	account(f, &s, skb->len);
	asked = s.reply ? PLX_STATE_ASKED_RESP : PLX_STATE_ASKED_INIT;
	if (!(f->state & asked))
		attribute(skb, f, &s);
	if (s.decided)
		report(f, &s, PLX_KIND_VERDICT);
	if (f->verdict == PLX_VERDICT_DENIED)
		return deny(skb, f, &s);
	if (s.fresh)
		report(f, &s, PLX_KIND_NEW);
	if (s.pkt.proto == IPPROTO_TCP && may_advance(f, &s.pkt))
		kind = advance(f, &s);
	if (kind == 0 && is_due(f, &s, plx_interval_ns))
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
	bool denied;

	if (!key || !f || !has_counted(f))
		return 0;
	denied = f->verdict == PLX_VERDICT_DENIED;
	s.now = bpf_ktime_get_ns();
	if (!is_due(f, &s, denied ? plx_drop_interval_ns : plx_interval_ns))
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
	report(f, &s, denied ? PLX_KIND_DROP : PLX_KIND_UPDATE);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
