/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What policy looks up. User space writes these maps (policy.Compiled is them, key for key); numbers of tables, sets,
 * identities and rules are its own. */
#ifndef PARALLAX_POLICY_H
#define PARALLAX_POLICY_H

#include "vmlinux.h"
#include "event.h"
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
};

struct plx_policy_rule {
	__u32 prefixlen;	/* 104, + 8 if the protocol counts, + bits of the port: 104 + policy.Entry.Bits */
	__u32 peer;		/* identity or set, 0 of PLX_PEER_ANY */
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
	__uint(max_entries, 65536);
	__type(key, __u8[16]);
	__type(value, __u32);
} policy_peers SEC(".maps");

/* address within a table -> set of the blocks that allow it, 0: none */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct plx_policy_block);
	__type(value, __u32);
} policy_blocks SEC(".maps");

/* protocol and port within a table and peer -> rule that allows */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct plx_policy_rule);
	__type(value, __u32);
} policy_rules SEC(".maps");

/* Changes behind each change of the maps above, so that a verdict in the flow table is asked anew. User space writes it. */
volatile __u64 plx_policy_generation;

#endif
