/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The life of a TCP connection (RFC 9293 section 3.3.2), as far as a bystander can tell. */
#ifndef PARALLAX_TCP_H
#define PARALLAX_TCP_H

#include "vmlinux.h"
#include "event.h"
#include "flowtable.h"
#include "read.h"

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

#endif
