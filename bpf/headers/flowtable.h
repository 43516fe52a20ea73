/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table: one entry for both directions of a connection at one interface. User space reads and expires it, so
 * the layout is as fixed as event.h. */
#ifndef PARALLAX_FLOWTABLE_H
#define PARALLAX_FLOWTABLE_H

#include "vmlinux.h"
#include "event.h"
#include <bpf/bpf_helpers.h>

#define PLX_NET_OFF_UNKNOWN 0xff

/* The two ends are ordered (by address as two little-endian words, then port), so that both directions find the entry. */
struct plx_flow_key {
	__u8 lo[16] __attribute__((aligned(8)));
	__u8 hi[16];
	__u16 lo_port;	/* host order */
	__u16 hi_port;
	__u32 ifindex;
	__u8 proto;
	__u8 exempt;	/* 1: ICMP that passes where policy decides, whatever it says of other ICMP between these ends */
	__u8 pad[6];
};

/* Bits of plx_flow.state. */
enum plx_state {
	PLX_STATE_INIT_HI = 1 << 0,		/* the initiator is the key's hi side */
	PLX_STATE_SYN = 1 << 1,			/* the connection began with a SYN that was seen */
	PLX_STATE_SYNACK = 1 << 2,
	PLX_STATE_ESTABLISHED = 1 << 3,		/* the handshake's last ACK was seen */
	PLX_STATE_FIN_INIT = 1 << 4,		/* FIN by the initiator */
	PLX_STATE_FIN_RESP = 1 << 5,
	PLX_STATE_CLOSED = 1 << 6,		/* RST, or ACK after both FINs; the entry stays for stragglers */
	PLX_STATE_CLOSE_SENT = 1 << 7,		/* the CLOSE event reached the ring */
	PLX_STATE_ASKED_INIT = 1 << 8,		/* the initiator's socket was looked for */
	PLX_STATE_ASKED_RESP = 1 << 9,
	PLX_STATE_PID_RESPONDER = 1 << 10,	/* cookie and pid are the responder's */
	PLX_STATE_INIT_EGRESS = 1 << 11,	/* the initiator's packets leave by the interface's egress hook */
	PLX_STATE_PASSED = 1 << 12,		/* packets of it passed; clear: denied from its first packet on */
	PLX_STATE_DECIDING = 1 << 13,		/* a CPU is writing a new verdict */
};

/* Counters are what no event has carried yet: an event takes them by atomic exchange, after its place in the ring is
 * sure. So what an entry holds when it is removed is exactly the rest. */
struct plx_flow {
	__u64 packets[2];	/* [0] initiator to responder, [1] back; segments of a GSO packet count each */
	__u64 bytes[2];		/* layer 3 */
	__u64 last_seen;	/* CLOCK_MONOTONIC_COARSE, ns: last packet */
	__u64 last_report;	/* same clock: last event */
	__u32 state;		/* enum plx_state */
	__u32 tcp_flags;	/* seen since the last event, both directions */
	__u64 first_ts;		/* bpf_ktime_get_boot_ns of the first packet */
	__u64 cookie;		/* of a local socket, 0 if none was seen */
	__u32 pid;		/* process that made that socket, 0 if unknown */
	__u32 handshake_us;
	__u32 synack_us;
	__u32 isn;		/* sequence number of the SYN */
	__u8 role;		/* enum plx_role, as of the last event */
	__u8 net_off;		/* bytes before the network header, PLX_NET_OFF_UNKNOWN if that could not be told */
	__u8 l7_misses;		/* TCP payloads in a row that were no message start; looking stops at PLX_L7_MISSES */
	__u8 l7_side;		/* of a connection that spoke HTTP: who sent payload last, 1 initiator, 2 responder */
	__u8 icmp_type;		/* of the first packet */
	__u8 icmp_code;
	__u8 verdict;		/* enum plx_verdict */
	__u8 pad;
	__u8 comm[16];
	__u32 rule;		/* number of the rule behind verdict */
	__u32 generation;	/* of the policy that verdict is of: the low bits of plx_policy_generation */
};

_Static_assert(sizeof(struct plx_flow_key) == 48, "flow key");
_Static_assert(sizeof(struct plx_flow) == 120, "flow");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct plx_flow_key);
	__type(value, struct plx_flow);
} flows SEC(".maps");

/* ifindex -> enum plx_role */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} ifaces SEC(".maps");

#endif
