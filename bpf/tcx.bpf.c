//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Flow table, connection events and L7 payload at an interface: tcx from Linux 6.6, clsact classifier below. The
 * programs only look: every packet goes on with TCX_NEXT, which is TC_ACT_UNSPEC. */
#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "maps.h"
#include "parse.h"
#include "process.h"

#define TCX_NEXT (-1)
#define EEXIST 17

#define PLX_NET_OFF_UNKNOWN 0xff
#define PLX_PULL 256			/* bytes made linear where headers are not; IPv6 with many extension headers */
#define PLX_L7_MISSES 16
#define PLX_PAYLOAD_CAP 4096		/* upper limit of plx_payload_max; a power of two */
#define PLX_PORT_WELL_KNOWN 1024
#define PLX_PORT_DNS 53
#define PLX_PORT_MDNS 5353

/* Values of flow.L7Protocol. */
#define PLX_L7_HTTP 1
#define PLX_L7_DNS 2

const volatile __u64 plx_interval_ns = 5000000000;
const volatile __u32 plx_payload_max = 1024;
const volatile __u8 plx_l7_http = 1;
const volatile __u8 plx_l7_dns = 1;

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

/* Addresses of endpoints whose own interface is observed: their L7 payload is taken there and nowhere else. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct plx_addr);
	__type(value, __u32);
} local_eps SEC(".maps");

/* Ports of datagrams whose later fragments have none. */
struct plx_frag_key {
	struct plx_addr saddr;
	struct plx_addr daddr;
	__u32 id;
	__u8 proto;
	__u8 pad[3];
};

struct plx_ports {
	__u16 sport;
	__u16 dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct plx_frag_key);
	__type(value, struct plx_ports);
} frags SEC(".maps");

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

/* A packet on its way through the program. */
struct plx_seen {
	struct plx_packet pkt;
	__u64 now;		/* CLOCK_MONOTONIC_COARSE */
	__u32 segs;
	__u32 payload_len;
	__u32 ifindex;
	__u8 egress;
	__u8 from_hi;		/* the sender is the key's hi side */
	__u8 reply;		/* the sender is the responder */
	__u8 pad;
};

static long load_net(void *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/* Link layers: ifindex << 8 | bytes before the network header, learnt from the first packet of a flow. One word for
 * each slot, so that no lock is needed; two interfaces on one slot only cost time. */
#define PLX_LINKS 256
__u64 plx_links[PLX_LINKS];

#define ETH_HLEN 14

/* The common packet, TCP or UDP over IP without options, read in place. Only where the device is known to have Ethernet headers: on one without, the
 * bytes of an address could look like an ethertype. 0: it is another packet. */
static __always_inline int parse_direct(struct __sk_buff *skb, struct plx_packet *p, __u32 ifindex)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct plx_tcp4 *v4 = data + ETH_HLEN;
	struct plx_tcp6 *v6 = data + ETH_HLEN;
	__be16 *proto = data + ETH_HLEN - sizeof(*proto);
	__u8 *udp = (void *)(&v4->ip + 1);

	if (plx_links[ifindex % PLX_LINKS] != ((__u64)ifindex << 8 | ETH_HLEN) || (void *)(udp + 8) > end ||
	    *proto != (__be16)skb->protocol)
		return 0;
	if (*proto == bpf_htons(ETH_P_IP)) {
		if (!plx_is_plain4(&v4->ip))
			return 0;
		if (v4->ip.protocol == IPPROTO_TCP && (void *)(v4 + 1) <= end)
			return plx_parse_tcp4(p, v4, 0, skb->len);
		if (v4->ip.protocol == IPPROTO_UDP && plx_parse_v4(p, &v4->ip, 0, skb->len) == PLX_PARSED_L4)
			return plx_parse_short(p, udp, 0);
	} else if (*proto == bpf_htons(ETH_P_IPV6) && (void *)(v6 + 1) <= end && v6->ip.nexthdr == IPPROTO_TCP) {
		return plx_parse_tcp6(p, v6, 0, skb->len);
	}
	return 0;
}

/* Global, so that the verifier looks at it once and not in each state of its callers. */
__noinline int plx_parse_skb(struct __sk_buff *skb, struct plx_packet *p)
{
	if (!p)
		return PLX_PARSED_NONE;
	return plx_parse(p, skb, load_net, skb->protocol, skb->len);
}

static __noinline void remember_ports(struct plx_packet *p)
{
	struct plx_frag_key key = { .saddr = p->saddr, .daddr = p->daddr, .id = p->frag_id, .proto = p->proto };
	struct plx_ports *found, ports = { .sport = p->sport, .dport = p->dport };

	if (p->frag_first) {
		if (bpf_map_update_elem(&frags, &key, &ports, BPF_ANY))
			plx_count_shared(PLX_STAT_LOST_HINT, 1);
		return;
	}
	found = bpf_map_lookup_elem(&frags, &key);
	if (found) {
		p->sport = found->sport;
		p->dport = found->dport;
	}
}

/* Where the network header is, from the start of the packet: no context field tells, so the bytes are compared. */
static __noinline __u8 network_offset(struct __sk_buff *skb)
{
	__u64 want[3] = {}, got[3];

	if (load_net(skb, 0, want, 20))
		return PLX_NET_OFF_UNKNOWN;
	for (int i = 0; i < 4; i++) {
		__u32 off = i == 0 ? 14 : i == 1 ? 0 : i == 2 ? 18 : 22;

		got[2] = 0;
		if (bpf_skb_load_bytes(skb, off, got, 20) == 0 &&
		    got[0] == want[0] && got[1] == want[1] && got[2] == want[2])
			return off;
	}
	return PLX_NET_OFF_UNKNOWN;
}

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
	struct plx_flow init = {};
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
	if (err && err != -EEXIST /* made on another CPU just now */) {
		plx_count(PLX_STAT_PACKETS, s->segs);
		plx_count(PLX_STAT_LOST_TABLE, s->segs);
		return NULL;
	}
	return bpf_map_lookup_elem(&flows, key);
}

static __always_inline void fill_tuple(struct plx_tuple *t, const struct plx_seen *s)
{
	const struct plx_packet *p = &s->pkt;

	if (s->reply) {
		__builtin_memcpy(t->saddr, &p->daddr, 16);
		__builtin_memcpy(t->daddr, &p->saddr, 16);
		t->sport = p->dport;
		t->dport = p->sport;
	} else {
		__builtin_memcpy(t->saddr, &p->saddr, 16);
		__builtin_memcpy(t->daddr, &p->daddr, 16);
		t->sport = p->sport;
		t->dport = p->dport;
	}
	t->proto = p->proto;
	t->pad[0] = t->pad[1] = t->pad[2] = 0;
	t->ifindex = s->ifindex;
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
	__builtin_memset(f->comm, 0, sizeof(f->comm));
	return 0;
}

static __always_inline __u32 us_since_first(const struct plx_flow *f)
{
	return f->state & PLX_STATE_SYN ? (bpf_ktime_get_boot_ns() - f->first_ts) / 1000 : 0;
}

/* Moves the connection's state on; returns the event that this makes, 0 for none. Each bit is set by one CPU only. */
static __noinline __u32 advance(struct plx_flow *f, struct plx_seen *s)
{
	const __u32 fins = PLX_STATE_FIN_INIT | PLX_STATE_FIN_RESP;
	__u32 flags = s->pkt.tcp_flags, state = f->state, kind = 0;

	if (flags & TCP_RST)
		return __sync_fetch_and_or(&f->state, PLX_STATE_CLOSED) & PLX_STATE_CLOSED ? 0 : PLX_KIND_CLOSE;
	if (flags & TCP_SYN) {
		if (flags & TCP_ACK && !(__sync_fetch_and_or(&f->state, PLX_STATE_SYNACK) & PLX_STATE_SYNACK))
			f->synack_us = us_since_first(f);
		return 0;
	}
	if (!(flags & TCP_ACK))
		return 0;
	if (state & (PLX_STATE_SYN | PLX_STATE_SYNACK) && !(state & PLX_STATE_ESTABLISHED) && !s->reply &&
	    !(__sync_fetch_and_or(&f->state, PLX_STATE_ESTABLISHED) & PLX_STATE_ESTABLISHED)) {
		f->handshake_us = us_since_first(f);
		kind = PLX_KIND_STATE;
	}
	if (flags & TCP_FIN) {
		__u32 fin = s->reply ? PLX_STATE_FIN_RESP : PLX_STATE_FIN_INIT;

		return __sync_fetch_and_or(&f->state, fin) & fins ? kind : PLX_KIND_STATE;
	}
	if ((state & fins) == fins && !(__sync_fetch_and_or(&f->state, PLX_STATE_CLOSED) & PLX_STATE_CLOSED))
		return PLX_KIND_CLOSE;
	return kind;
}

/* False for a packet that cannot change its connection's state: the usual one. */
static __always_inline bool may_advance(const struct plx_flow *f, const struct plx_packet *p)
{
	__u32 pending = f->state & (PLX_STATE_SYN | PLX_STATE_SYNACK | PLX_STATE_ESTABLISHED | PLX_STATE_FIN_INIT |
				    PLX_STATE_FIN_RESP | PLX_STATE_CLOSED);

	if (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
		return true;
	return pending && !(pending & PLX_STATE_CLOSED) &&
	       (pending & (PLX_STATE_ESTABLISHED | PLX_STATE_FIN_INIT | PLX_STATE_FIN_RESP)) != PLX_STATE_ESTABLISHED;
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
		if (plx_l7_http && f->l7_misses < PLX_L7_MISSES) {
			s->payload_len = (p->l3_len ?: skb->len - f->net_off) - p->hdr_len;
			if (s->payload_len)
				inspect_tcp(skb, f, s);
		}
	} else if (p->proto == IPPROTO_UDP && plx_l7_dns && (is_dns_port(p->sport) || is_dns_port(p->dport))) {
		s->payload_len = (p->l3_len ?: skb->len - f->net_off) - p->hdr_len;
		send_payload(skb, f, s, PLX_L7_DNS);
	}
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

static __always_inline __u32 segments(struct __sk_buff *skb, const struct plx_packet *p)
{
	__u32 segs = skb->gso_segs, size = skb->gso_size;

	if (segs)
		return segs;
	/* A guest's packet has a size and no count (SKB_GSO_DODGY). */
	if (size && p->l3_len > p->hdr_len)
		return (p->l3_len - p->hdr_len + size - 1) / size;
	return 1;
}

static __always_inline int observe(struct __sk_buff *skb, __u8 egress)
{
	struct plx_flow_key key = {};
	struct plx_seen s = {};
	struct plx_flow *f;
	__u32 kind = 0, asked;
	bool fresh = false;
	int parsed;

	s.egress = egress;
	s.ifindex = skb->ifindex;
	parsed = parse_direct(skb, &s.pkt, s.ifindex);
	if (!parsed)
		parsed = plx_parse_skb(skb, &s.pkt);
	if (parsed != PLX_PARSED_L4 && skb->len > skb->data_end - skb->data) {
		__builtin_memset(&s.pkt, 0, sizeof(s.pkt));
		if (bpf_skb_pull_data(skb, skb->len < PLX_PULL ? skb->len : PLX_PULL) == 0)
			parsed = plx_parse_skb(skb, &s.pkt);
	}
	s.segs = segments(skb, &s.pkt);
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
		fresh = true;
		set_reply(&s, f);
	} else {
		if (f->role == PLX_ROLE_HOST && !egress)
			return TCX_NEXT;
		set_reply(&s, f);
		if (is_restart(f, &s)) {
			restart(f, &s);
			fresh = true;
			set_reply(&s, f);
		}
	}
	plx_count(PLX_STAT_PACKETS, s.segs);
	account(f, &s, skb->len);
	asked = s.reply ? PLX_STATE_ASKED_RESP : PLX_STATE_ASKED_INIT;
	if (!(f->state & asked))
		attribute(skb, f, &s);
	if (fresh)
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
