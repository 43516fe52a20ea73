/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What policy makes of connections. It is asked about the first packet and again when it has changed; the verdict in
 * the flow table answers for all others, so a reply passes because its connection may. On interfaces that are not owned
 * nothing of this applies. */
#ifndef PARALLAX_ENFORCE_H
#define PARALLAX_ENFORCE_H

#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "policy.h"
#include "read.h"
#include "report.h"

#define TCX_NEXT (-1)	/* TC_ACT_UNSPEC: whatever else is attached decides */
#define TCX_DROP 2	/* TC_ACT_SHOT */

#define PLX_PORT_WELL_KNOWN 1024

/* Between two DROP events of a denied connection. */
const volatile __u64 plx_drop_interval_ns = 1000000000;
/* What refused packets carry in skb->cb, for the drop program: it reports what others drop. Drawn at each load. */
const volatile __u64 plx_drop_mark = 0;

/* Entries for what has no entry in the flow table, so that its drops are reported as others are: but without counters
 * (such packets count in LOST_TABLE or UNPARSED), and once in an interval for each slot of interfaces. */
#define PLX_UNTRACKED 256
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PLX_UNTRACKED);
	__type(key, __u32);
	__type(value, struct plx_flow);
} untracked SEC(".maps");

/* What settle says of a packet. */
enum plx_course {
	PLX_COURSE_ENTRY = 0,	/* what its entry says */
	PLX_COURSE_PASS = 1,	/* passes, but does not belong to the entry */
	PLX_COURSE_DROP = 2,	/* is dropped, and does not belong to the entry */
};

static __always_inline bool is_pure_syn(const struct plx_packet *p)
{
	return p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* True if the sender of the first packet is the responder, as far as the packet tells. Anybody can write such a packet:
 * where policy decides, it does not ask. */
static __always_inline bool sent_by_responder(const struct plx_packet *p)
{
	if (p->sender)
		return p->sender == PLX_SENDER_RESPONDER;
	return p->sport < PLX_PORT_WELL_KNOWN && p->dport >= PLX_PORT_WELL_KNOWN;
}

/* An entry's first state, as the answer says who is the initiator. */
static __always_inline __u32 first_state(const struct plx_seen *s, __u64 answer)
{
	bool by_responder = answer & PLX_ANSWER_REPLY;
	__u32 state = s->from_hi ^ by_responder ? PLX_STATE_INIT_HI : 0;

	if (s->egress ^ by_responder)
		state |= PLX_STATE_INIT_EGRESS;
	if (s->pkt.tcp_flags & TCP_SYN)
		state |= s->pkt.tcp_flags & TCP_ACK ? PLX_STATE_SYNACK : PLX_STATE_SYN;
	if (verdict_of(answer) != PLX_VERDICT_DENIED)
		state |= PLX_STATE_PASSED;
	return state;
}

static __always_inline void set_reply(struct plx_seen *s, const struct plx_flow *f)
{
	s->reply = s->from_hi ^ ((f->state & PLX_STATE_INIT_HI) != 0);
}

/* Asks for either initiator, and first for the one that reply names; both must be denied for the packet to be. */
static __always_inline __u64 decide_either(struct plx_seen *s, bool reply)
{
	__u64 first = plx_decide(s, reply), other;

	if (verdict_of(first) == PLX_VERDICT_DENIED || verdict_of(first) == PLX_VERDICT_AUDIT) {
		other = plx_decide(s, !reply);
		if (verdict_of(other) == PLX_VERDICT_ALLOWED)
			return other | (reply ? 0 : PLX_ANSWER_REPLY);
	}
	return first | (reply ? PLX_ANSWER_REPLY : 0);
}

/* Answers for a packet whose connection is not known.
 *
 * The sender is the initiator, whatever its ports and types say. TCP without SYN is the exception: it belongs to a
 * connection that is older than the entry (the collector has just started, or the entry expired), whose initiator cannot
 * be told. It passes if either end may have begun it. That opens nothing: such a packet makes no connection, only a SYN
 * does (RFC 9293 section 3.10.7.2), and a SYN is never taken for a part of what is there, but always decided itself. */
static __noinline __u64 decide_first(struct plx_seen *s)
{
	bool guess = sent_by_responder(&s->pkt);
	__u64 answer;

	if (s->pkt.proto == IPPROTO_TCP && !is_pure_syn(&s->pkt) && !s->pkt.frag_later)
		answer = decide_either(s, guess);
	else
		answer = plx_decide(s, 0);
	if (verdict_of(answer) == PLX_VERDICT_NONE)
		return guess ? PLX_ANSWER_REPLY : 0;
	return answer;
}

/* Answers for the first packet at an interface that may have no policy at all. */
static __always_inline __u64 answer_first(struct plx_seen *s)
{
	if (plx_policy_generation && !s->exempt)
		return decide_first(s);
	return sent_by_responder(&s->pkt) ? PLX_ANSWER_REPLY : 0;
}

/* False for exceptions, and where no policy isolates the endpoint: those are no news. */
static __always_inline bool is_reportable(__u32 rule)
{
	return rule >= PLX_RULE_OWN_NODE;
}

static __always_inline bool has_counted(const struct plx_flow *f)
{
	return f->packets[0] | f->packets[1];
}

/* A SYN of another connection on the same ports: the old one was closed, was never seen to begin, or its end was missed. */
static __always_inline bool is_restart(const struct plx_flow *f, const struct plx_seen *s)
{
	if (!is_pure_syn(&s->pkt))
		return false;
	if (f->state & PLX_STATE_CLOSED || !(f->state & (PLX_STATE_SYN | PLX_STATE_SYNACK)))
		return true;
	return f->state & PLX_STATE_SYN && !s->reply && f->isn != s->pkt.seq;
}

/* Ends the old connection with what it has not yet reported and makes the entry that of the new one. */
static __noinline int restart(struct plx_flow *f, struct plx_seen *s, __u64 answer, __u32 generation)
{
	if (f->verdict == PLX_VERDICT_DENIED) {
		if (has_counted(f))
			report(f, s, PLX_KIND_DROP);
	} else if (!(f->state & PLX_STATE_CLOSE_SENT) || has_counted(f)) {
		report(f, s, PLX_KIND_CLOSE);
	}
	f->verdict = verdict_of(answer);
	f->rule = rule_of(answer);
	f->generation = generation;
	f->state = first_state(s, answer);
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
	f->icmp_type = s->pkt.icmp_type;
	f->icmp_code = s->pkt.icmp_code;
	__builtin_memset(f->comm, 0, sizeof(f->comm));
	s->fresh = 1;
	s->decided = is_reportable(rule_of(answer));
	set_reply(s, f);
	return 0;
}

/* The hook that the packet passes is the one that its direction in the entry passes. The endpoint can send under any
 * address, also as if it were the other end: such a packet must not pass by a verdict that is not its own. */
static __always_inline bool agrees(const struct plx_flow *f, const struct plx_seen *s)
{
	return (s->egress ^ s->reply ^ ((f->state & PLX_STATE_INIT_EGRESS) != 0)) == 0;
}

/* True if the verdict of the entry answers for the packet and nothing is to be asked. */
static __always_inline bool is_settled(const struct plx_flow *f, const struct plx_seen *s, __u32 generation)
{
	if (f->generation != generation)
		return false;
	return f->verdict == PLX_VERDICT_NONE ||
	       (f->verdict != PLX_VERDICT_DENIED && !is_pure_syn(&s->pkt) && agrees(f, s));
}

/* On an owned interface: the packet begins another connection than the entry's. That is any SYN but a repetition of the
 * one that the entry is of; and what comes from the other side of a connection that was denied from its first packet
 * on: nobody got that, so it is no reply. Without this, whoever is denied could keep the endpoint from his address. */
static __always_inline bool begins_other(const struct plx_flow *f, const struct plx_seen *s)
{
	if (is_pure_syn(&s->pkt))
		return s->reply || f->state & PLX_STATE_CLOSED || !(f->state & PLX_STATE_SYN) || f->isn != s->pkt.seq;
	return s->reply && f->verdict == PLX_VERDICT_DENIED && !(f->state & PLX_STATE_PASSED);
}

/* One CPU at a time writes a verdict; none waits for another. */
static __always_inline bool claim(struct plx_flow *f)
{
	return !(__sync_fetch_and_or(&f->state, PLX_STATE_DECIDING) & PLX_STATE_DECIDING);
}

static __always_inline void release(struct plx_flow *f)
{
	__sync_fetch_and_and(&f->state, ~PLX_STATE_DECIDING);
}

/* Makes the responder the initiator. */
static __always_inline void turn(struct plx_flow *f)
{
	__u64 packets = __sync_lock_test_and_set(&f->packets[0], 0), bytes = __sync_lock_test_and_set(&f->bytes[0], 0);
	__u32 state = f->state;

	packets = __sync_lock_test_and_set(&f->packets[1], packets);
	bytes = __sync_lock_test_and_set(&f->bytes[1], bytes);
	__sync_fetch_and_add(&f->packets[0], packets);
	__sync_fetch_and_add(&f->bytes[0], bytes);
	state = (state & ~(PLX_STATE_FIN_INIT | PLX_STATE_FIN_RESP | PLX_STATE_ASKED_INIT | PLX_STATE_ASKED_RESP)) |
		(state & PLX_STATE_FIN_INIT ? PLX_STATE_FIN_RESP : 0) |
		(state & PLX_STATE_FIN_RESP ? PLX_STATE_FIN_INIT : 0) |
		(state & PLX_STATE_ASKED_INIT ? PLX_STATE_ASKED_RESP : 0) |
		(state & PLX_STATE_ASKED_RESP ? PLX_STATE_ASKED_INIT : 0);
	f->state = state ^ (PLX_STATE_INIT_HI | PLX_STATE_INIT_EGRESS | PLX_STATE_PID_RESPONDER);
	f->l7_side = 0;
}

/* Writes a new verdict. What was counted under the old one is reported first if the one denies and the other does not:
 * counters never mix, unless the ring is full. */
static __noinline int write_verdict(struct plx_flow *f, struct plx_seen *s, __u64 answer, __u32 generation)
{
	__u32 old_rule = f->rule, rule = rule_of(answer);
	__u8 old = f->verdict, verdict = verdict_of(answer);
	bool turns = !!(answer & PLX_ANSWER_REPLY) != s->reply;

	if (turns || old != verdict || old_rule != rule) {
		if (has_counted(f) && (turns || old == PLX_VERDICT_DENIED || verdict == PLX_VERDICT_DENIED))
			report(f, s, old == PLX_VERDICT_DENIED ? PLX_KIND_DROP : PLX_KIND_UPDATE);
		if (turns) {
			turn(f);
			set_reply(s, f);
		}
		f->verdict = verdict;
		f->rule = rule;
		s->decided = is_reportable(rule) || is_reportable(old_rule);
	}
	if (verdict != PLX_VERDICT_DENIED &&
	    !(__sync_fetch_and_or(&f->state, PLX_STATE_PASSED) & PLX_STATE_PASSED))
		s->fresh = 1;
	__sync_lock_test_and_set(&f->generation, generation); /* last: now the verdict answers */
	return 0;
}

/* Decides on a packet that begins another connection than the entry's, and whether the entry becomes that one's. */
static __noinline int begin_other(struct plx_flow *f, struct plx_seen *s, __u32 generation)
{
	__u64 answer = decide_first(s);

	s->answer = answer;
	if (verdict_of(answer) == PLX_VERDICT_DENIED) {
		/* Who repeats what is denied, and be it with other sequence numbers, is denied the same. */
		if (f->verdict == PLX_VERDICT_DENIED && !(f->state & PLX_STATE_PASSED)) {
			if (!s->reply && claim(f)) {
				f->isn = s->pkt.seq;
				write_verdict(f, s, answer, generation);
				release(f);
			}
			return PLX_COURSE_ENTRY;
		}
		/* A forged SYN must not end a connection that is allowed the other way. */
		if (s->reply && !(f->state & PLX_STATE_CLOSED))
			return PLX_COURSE_DROP;
	}
	if (!claim(f))
		return verdict_of(answer) == PLX_VERDICT_DENIED ? PLX_COURSE_DROP : PLX_COURSE_ENTRY;
	if (begins_other(f, s))
		restart(f, s, answer, generation);
	release(f);
	return PLX_COURSE_ENTRY;
}

/* Decides anew on the entry's connection, for its initiator; of TCP whose begin was not seen, for either. */
static __noinline int decide_again(struct plx_flow *f, struct plx_seen *s, __u32 generation)
{
	__u64 answer;

	if (s->pkt.proto == IPPROTO_TCP && !(f->state & PLX_STATE_SYN))
		answer = decide_either(s, s->reply);
	else
		answer = plx_decide(s, s->reply) | (s->reply ? PLX_ANSWER_REPLY : 0);
	s->answer = answer;
	if (claim(f)) {
		write_verdict(f, s, answer, generation);
		release(f);
	} else if (verdict_of(answer) == PLX_VERDICT_DENIED) {
		return PLX_COURSE_DROP;
	}
	return PLX_COURSE_ENTRY;
}

/* Brings the entry's verdict up to date for a packet that is_settled does not know to be covered by it. */
static __noinline int settle(struct plx_flow *f, struct plx_seen *s, __u32 generation)
{
	if (s->exempt)
		return PLX_COURSE_ENTRY;
	if (!is_owned(s->ifindex)) {
		if (claim(f)) {
			write_verdict(f, s, s->reply ? PLX_ANSWER_REPLY : 0, generation);
			release(f);
		}
		if (is_restart(f, s))
			restart(f, s, sent_by_responder(&s->pkt) ? PLX_ANSWER_REPLY : 0, generation);
		return PLX_COURSE_ENTRY;
	}
	if (!agrees(f, s)) {
		s->answer = plx_decide(s, 0);
		if (verdict_of(s->answer) == PLX_VERDICT_DENIED)
			return PLX_COURSE_DROP;
		return f->verdict == PLX_VERDICT_DENIED ? PLX_COURSE_PASS : PLX_COURSE_ENTRY;
	}
	if (begins_other(f, s))
		return begin_other(f, s, generation);
	return f->generation == generation ? PLX_COURSE_ENTRY : decide_again(f, s, generation);
}

/* Has the packet dropped, in a way that the drop program recognizes. */
static __always_inline int refuse(struct __sk_buff *skb)
{
	skb->cb[0] = plx_drop_mark;
	skb->cb[1] = plx_drop_mark >> 32;
	return TCX_DROP;
}

/* A packet of a connection that is denied; its entry has counted it. */
static __noinline int deny(struct __sk_buff *skb, struct plx_flow *f, struct plx_seen *s)
{
	if (s->fresh || s->decided || is_due(f, s, plx_drop_interval_ns))
		report(f, s, PLX_KIND_DROP);
	return refuse(skb);
}

/* Carries out s->answer. */
static __noinline int answer_untracked(struct __sk_buff *skb, struct plx_seen *s)
{
	__u64 answer = s->answer;
	__u32 slot = s->ifindex % PLX_UNTRACKED;
	bool denied = verdict_of(answer) == PLX_VERDICT_DENIED;
	struct plx_flow *f;

	if (!denied && verdict_of(answer) != PLX_VERDICT_AUDIT)
		return TCX_NEXT;
	f = bpf_map_lookup_elem(&untracked, &slot);
	if (f && (!f->last_report || is_due(f, s, plx_drop_interval_ns))) {
		s->reply = (answer & PLX_ANSWER_REPLY) != 0;
		f->last_report = s->now;
		f->first_ts = bpf_ktime_get_boot_ns();
		f->verdict = verdict_of(answer);
		f->rule = rule_of(answer);
		f->tcp_flags = s->pkt.tcp_flags;
		f->role = PLX_ROLE_NONE;
		f->state = 0;
		f->cookie = 0;
		f->pid = 0;
		__builtin_memset(f->comm, 0, sizeof(f->comm));
		attribute(skb, f, s);
		report(f, s, denied ? PLX_KIND_DROP : PLX_KIND_VERDICT);
	}
	return denied ? refuse(skb) : TCX_NEXT;
}

#endif
