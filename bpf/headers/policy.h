/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What policy looks up. User space writes these maps (policy.Compiled is them, key for key); numbers of tables, sets,
 * identities and rules are its own. */
#ifndef PARALLAX_POLICY_H
#define PARALLAX_POLICY_H

#include "vmlinux.h"
#include "event.h"
#include "read.h"
#include <bpf/bpf_helpers.h>

/* Rules that no policy wrote; policy.RuleNone and the following. */
#define PLX_RULE_NONE		0	/* the interface is not owned */
#define PLX_RULE_ITSELF		1	/* an endpoint may speak with itself */
#define PLX_RULE_UNISOLATED	2	/* no policy isolates the endpoint in this direction */
#define PLX_RULE_OWN_NODE	3	/* the endpoint's own node reaches it */

#define PLX_IDENTITY_HOST	1	/* the own node */
#define PLX_IDENTITY_FIRST	256	/* identities from here on are those of pods */

/* Bits of plx_policy_record.flags. */
enum plx_policy_flag {
	PLX_POLICY_AUDIT = 1 << 0,	/* say what would be denied, deny nothing */
	PLX_POLICY_SKIP_PODS = 1 << 1,	/* blocks of addresses do not match identities of pods */
};

/* All that decides for an owned interface. It is replaced as a whole. */
struct plx_policy_record {
	__u64 table[2];	/* rules of [0] ingress to the endpoint, [1] egress from it; 0: no policy isolates it */
	__u32 deny[2];	/* rule to report where the table allows nothing */
	__u32 identity;	/* of the endpoint */
	__u32 flags;	/* enum plx_policy_flag */
};

struct plx_policy_block {
	__u32 prefixlen;	/* 96 + bits of the address: pad and table count */
	__u32 pad;
	__u64 table;
	__u8 addr[16];
};

enum plx_policy_peer {
	PLX_PEER_ANY = 0,
	PLX_PEER_IDENTITY = 1,
	PLX_PEER_SET = 2,	/* of blocks */
	PLX_PEER_SERVICE = 3,
};

/* A port of a service's virtual address, which the node rewrites behind this hook. */
struct plx_policy_service {
	__u8 addr[16];
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct plx_policy_rule {
	__u32 prefixlen;	/* 104, + 8 if the protocol counts, + bits of the port: 104 + policy.Entry.Bits */
	__u32 peer;		/* identity, set or service, 0 of PLX_PEER_ANY */
	__u64 table;
	__u8 kind;		/* enum plx_policy_peer */
	__u8 proto;
	__be16 port;
	__u32 pad;
};

/* ifindex -> record; an interface that has none is not owned */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct plx_policy_record);
} policy_records SEC(".maps");

/* address -> identity; one that is missing is the world */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, __u8[16]);
	__type(value, __u32);
} policy_peers SEC(".maps");

/* address within a table -> set of the blocks that allow it, 0: none */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct plx_policy_block);
	__type(value, __u32);
} policy_blocks SEC(".maps");

/* protocol and port within a table and peer -> rule that allows */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct plx_policy_rule);
	__type(value, __u32);
} policy_rules SEC(".maps");

/* port of a virtual address -> service */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct plx_policy_service);
	__type(value, __u32);
} policy_services SEC(".maps");

/* Changes behind each change of the maps above, so that a verdict in the flow table is asked anew. User space writes it.
 * 0: there is no policy, and none of these maps is looked at. */
volatile __u64 plx_policy_generation;

/* An answer is rule << 8 | who is the initiator | verdict, so that it fits a register. */
#define PLX_ANSWER_REPLY 0x10	/* the packet's sender is the responder */

static __always_inline __u64 plx_answer(__u32 rule, __u8 verdict)
{
	return (__u64)rule << 8 | verdict;
}

static __always_inline __u8 verdict_of(__u64 answer)
{
	return answer & 0xf;
}

static __always_inline __u32 rule_of(__u64 answer)
{
	return answer >> 8;
}

static __always_inline bool is_owned(__u32 ifindex)
{
	return plx_policy_generation && bpf_map_lookup_elem(&policy_records, &ifindex);
}

static __always_inline __u32 rule_for(struct plx_policy_rule *at)
{
	__u32 *rule = bpf_map_lookup_elem(&policy_rules, at);

	return rule ? *rule : 0;
}

/* The rule of a table that allows the traffic, 0: none does. As policy.Compiled.Decide. */
static __noinline __u32 allowing_rule(struct plx_policy_rule *at, struct plx_policy_block *block, __u32 identity, __u32 flags)
{
	bool pod = identity >= PLX_IDENTITY_FIRST;
	__u32 rule, *set;

	rule = rule_for(at);
	if (rule)
		return rule;
	if (pod) {
		at->kind = PLX_PEER_IDENTITY;
		at->peer = identity;
		rule = rule_for(at);
		if (rule || flags & PLX_POLICY_SKIP_PODS)
			return rule;
	}
	set = bpf_map_lookup_elem(&policy_blocks, block);
	if (!set || !*set)
		return 0;
	at->kind = PLX_PEER_SET;
	at->peer = *set;
	return rule_for(at);
}

/* The service that an endpoint connects to, NULL: none. */
static __always_inline __u32 *service_of(const struct plx_policy_rule *at, const struct plx_policy_block *peer)
{
	struct plx_policy_service key = { .port = at->port, .proto = at->proto };

	__builtin_memcpy(key.addr, peer->addr, 16);
	return bpf_map_lookup_elem(&policy_services, &key);
}

/* Asks about the packet's connection, as if its sender had begun it or, with reply, the receiver. Which end is the
 * endpoint says the hook: what leaves by egress goes to it, what comes by ingress is from it. Global, so that the
 * verifier looks at it once and not in each state of its callers. */
__noinline __u64 plx_decide(struct plx_seen *s, __u32 reply)
{
	struct plx_policy_rule at = { .prefixlen = 128 };
	struct plx_policy_block block = { .prefixlen = 96 + 128 };
	struct plx_policy_record *r;
	__u32 *identity, *service, ifindex, rule;
	bool to_endpoint;

	if (!s)
		return 0;
	ifindex = s->ifindex;
	r = bpf_map_lookup_elem(&policy_records, &ifindex);
	if (!r)
		return plx_answer(PLX_RULE_NONE, PLX_VERDICT_NONE);
	if (s->pkt.saddr.d[0] == s->pkt.daddr.d[0] && s->pkt.saddr.d[1] == s->pkt.daddr.d[1])
		return plx_answer(PLX_RULE_ITSELF, PLX_VERDICT_ALLOWED);
	to_endpoint = (s->egress ^ reply) & 1; /* the initiator's packets leave by egress */
	at.table = to_endpoint ? r->table[0] : r->table[1];
	if (!at.table)
		return plx_answer(PLX_RULE_UNISOLATED, PLX_VERDICT_ALLOWED);
	block.table = at.table;
	if (s->egress)
		__builtin_memcpy(block.addr, &s->pkt.saddr, 16);
	else
		__builtin_memcpy(block.addr, &s->pkt.daddr, 16);
	identity = bpf_map_lookup_elem(&policy_peers, block.addr);
	if (to_endpoint && identity && *identity == PLX_IDENTITY_HOST)
		return plx_answer(PLX_RULE_OWN_NODE, PLX_VERDICT_ALLOWED);
	at.proto = s->pkt.proto;
	/* The identifier of an ICMP echo stands where ports do, and is none. */
	if (at.proto != IPPROTO_ICMP && at.proto != IPPROTO_ICMPV6)
		at.port = bpf_htons(reply ? s->pkt.sport : s->pkt.dport);
	service = to_endpoint ? NULL : service_of(&at, &block);
	if (service) {
		/* The address is nobody's and the port is not the target's: only what user space worked out for the
		 * backends counts. */
		at.prefixlen = 104;
		at.kind = PLX_PEER_SERVICE;
		at.peer = *service;
		rule = rule_for(&at);
	} else {
		rule = allowing_rule(&at, &block, identity ? *identity : 0, r->flags);
	}
	if (rule)
		return plx_answer(rule, PLX_VERDICT_ALLOWED);
	return plx_answer(to_endpoint ? r->deny[0] : r->deny[1],
			  r->flags & PLX_POLICY_AUDIT ? PLX_VERDICT_AUDIT : PLX_VERDICT_DENIED);
}

#endif
