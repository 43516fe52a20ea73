/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records that leave the kernel. collector/decode reads them; a layout test holds both sides together.
 * All integers are in host byte order unless said otherwise; addresses are 16 bytes in network order, IPv4 mapped. */
#ifndef PARALLAX_EVENT_H
#define PARALLAX_EVENT_H

enum plx_event_type {
	PLX_EVENT_FLOW = 1,	/* struct plx_flow_event */
	PLX_EVENT_DROP = 2,	/* struct plx_drop_event */
	PLX_EVENT_PAYLOAD = 3,	/* struct plx_payload_event, followed by hdr.len - sizeof bytes of payload */
};

/* Values are those of flow.Kind. */
enum plx_kind {
	PLX_KIND_NEW = 1,
	PLX_KIND_STATE = 2,
	PLX_KIND_UPDATE = 3,
	PLX_KIND_CLOSE = 4,
	PLX_KIND_DROP = 5,	/* packets of a connection that policy denies, those since the last record; none: a packet
				 * without connection, which counts in STAT_UNPARSED or STAT_LOST_TABLE */
	PLX_KIND_VERDICT = 7,	/* policy decided on a connection, or decided anew and otherwise; no packets */
};

/* What policy said of a connection. */
enum plx_verdict {
	PLX_VERDICT_NONE = 0,	/* nothing: no policy decides here */
	PLX_VERDICT_ALLOWED = 1,
	PLX_VERDICT_DENIED = 2,
	PLX_VERDICT_AUDIT = 3,	/* would be denied, but only audits */
};

/* What an interface is, from user space through the ifaces map. */
enum plx_role {
	PLX_ROLE_NONE = 0,	/* not observed */
	PLX_ROLE_ENDPOINT = 1,	/* host side of a pod's veth: ingress comes from the endpoint */
	PLX_ROLE_NETWORK = 2,	/* NIC or uplink: ingress comes from the network */
	PLX_ROLE_HOST = 3,	/* loopback of the host */
	PLX_ROLE_OVERLAY = 4,	/* tunnel device */
};

struct plx_hdr {
	__u8 type;	/* enum plx_event_type */
	__u8 version;	/* PLX_EVENT_VERSION */
	__u16 len;	/* bytes of the whole record, this header included */
	__u32 netns;	/* inode number of the network namespace, 0 if unknown */
};
#define PLX_EVENT_VERSION 2

/* The connection as its initiator sees it: s is the initiator, d the responder. In a drop: s is the packet's sender. */
struct plx_tuple {
	__u8 saddr[16];
	__u8 daddr[16];
	__u16 sport;	/* host order; ICMP echo: the identifier in both */
	__u16 dport;
	__u8 proto;	/* IP protocol number, behind IPv6 extension headers */
	__u8 pad[3];
	__u32 ifindex;
};

struct plx_flow_event {
	struct plx_hdr hdr;
	__u64 ts;		/* bpf_ktime_get_boot_ns of the event */
	__u64 first_ts;		/* same clock: first packet of the connection at this interface */
	__u64 packets[2];	/* since the last event: [0] initiator to responder, [1] back */
	__u64 bytes[2];		/* layer 3 bytes */
	__u64 cookie;		/* socket cookie of a local socket, 0 if none was seen */
	struct plx_tuple tuple;
	__u32 pid;		/* process that made the local socket, 0 if unknown */
	__u32 handshake_us;	/* SYN to the handshake's last ACK, 0 if unknown */
	__u32 synack_us;	/* SYN to SYN-ACK: the responder's part of the handshake, 0 if unknown */
	__u8 kind;		/* enum plx_kind */
	__u8 role;		/* enum plx_role of the interface */
	__u8 egress;		/* 1: the packet that caused the event left by the interface's egress hook */
	__u8 reply;		/* 1: that packet went from responder to initiator */
	__u8 tcp_flags;		/* of that packet; UPDATE and CLOSE: all seen since the last event, both directions */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pid_responder;	/* 1: pid and cookie belong to the responder's socket, 0: to the initiator's */
	__u8 comm[16];		/* command name of pid, zero padded */
	__u32 rule;		/* DROP and VERDICT: number of the rule that decided; else 0 */
	__u8 verdict;		/* DROP and VERDICT: enum plx_verdict; else 0 */
	__u8 pad[3];
};

struct plx_drop_event {
	struct plx_hdr hdr;
	__u64 ts;
	__u64 location;		/* address of the kernel function that freed the packet */
	struct plx_tuple tuple;
	__u32 reason;		/* enum skb_drop_reason of the running kernel */
	__u32 bytes;		/* layer 3 bytes of the packet */
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad;
};

struct plx_payload_event {
	struct plx_hdr hdr;
	__u64 ts;
	__u64 cookie;
	struct plx_tuple tuple;	/* s is the initiator, whatever way the packet went */
	__u32 seq;		/* TCP sequence number of the first payload byte, 0 for UDP */
	__u32 payload_len;	/* bytes of payload in the packet; the record may carry fewer */
	__u32 pid;
	__u32 pad;
	__u8 role;
	__u8 egress;
	__u8 reply;		/* 1: responder to initiator */
	__u8 l7;		/* what the first bytes looked like: 1 HTTP/1.x, 2 DNS (values of flow.L7Protocol) */
};

/* Per-CPU counters, index of the stats map. Events produced = STAT_EVENTS; of these LOST_RING never reached the ring. */
enum plx_stat {
	PLX_STAT_EVENTS = 0,		/* events that the programs tried to send */
	PLX_STAT_LOST_RING = 1,		/* no room in the ring buffer */
	PLX_STAT_LOST_TABLE = 2,	/* packets not tracked: flow table full, or against an entry (plx_course) */
	PLX_STAT_PACKETS = 3,		/* packets seen by the tcx programs */
	PLX_STAT_UNPARSED = 4,		/* packets that are not IP, or cut or malformed */
	PLX_STAT_DROPS = 5,		/* kfree_skb calls that were taken as drops */
	PLX_STAT_LOST_HINT = 6,		/* socket makers and fragment ports that found no room: a flow lacks its process or ports */
	PLX_STAT_MAX = 7,
};

_Static_assert(sizeof(struct plx_hdr) == 8, "hdr");
_Static_assert(sizeof(struct plx_tuple) == 44, "tuple");
_Static_assert(sizeof(struct plx_flow_event) == 152, "flow event");
_Static_assert(sizeof(struct plx_drop_event) == 80, "drop event");
_Static_assert(sizeof(struct plx_payload_event) == 88, "payload event");

#endif
