/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Packets of sessions that somebody traces, for the daemon to read. Others pay for a test of flags that are at hand.
 * Functions of their own, so that what nobody uses is not in the way of every packet.
 */
#ifndef HOLDFAST_CAPTURE_H
#define HOLDFAST_CAPTURE_H

#include "parse.h"

/* A capture of the packet that begins at `at` of a frame of `length` octets, all but its data; NULL if it is none. */
static __always_inline struct hf_capture *begin_capture(__u32 at, __u32 length, __u32 ids, __u32 to_peer)
{
	__u32 key = 0;
	struct hf_capture *capture = bpf_map_lookup_elem(&capturing, &key);

	if (!capture || length <= at)
		return NULL;
	length -= at;
	capture->tunnel = ids >> 16;
	capture->session = ids;
	capture->length = length;
	capture->at_ns = bpf_ktime_get_ns();
	capture->captured = length < HF_SNAP ? length : HF_SNAP;
	capture->to_peer = to_peer;
	return capture;
}

static __always_inline void end_capture(struct hf_capture *capture, __u32 size)
{
	if (bpf_ringbuf_output(&captures, capture, offsetof(struct hf_capture, data) + size, 0))
		capture->missed++;
}

static __noinline int capture_xdp(struct xdp_md *ctx, __u32 at, __u32 length, __u32 ids, __u32 to_peer)
{
	struct hf_capture *capture = begin_capture(at, length, ids, to_peer);
	__u32 size = capture ? capture->captured : 0;

	if (capture && size && size <= HF_SNAP && !bpf_xdp_load_bytes(ctx, at, capture->data, size))
		end_capture(capture, size);
	return 0;
}

static __noinline int capture_skb(struct __sk_buff *ctx, __u32 at, __u32 length, __u32 ids, __u32 to_peer)
{
	struct hf_capture *capture = begin_capture(at, length, ids, to_peer);
	__u32 size = capture ? capture->captured : 0;

	if (capture && size && size <= HF_SNAP && !bpf_skb_load_bytes(ctx, at, capture->data, size))
		end_capture(capture, size);
	return 0;
}

static __always_inline void capture(const struct packet *p, __be16 tunnel, __be16 session, bool to_peer)
{
	__u32 ids = (__u32)tunnel << 16 | session;

	if (p->hook == XDP)
		capture_xdp(p->ctx, p->ip, p->length, ids, to_peer);
	else
		capture_skb(p->ctx, p->ip, p->length, ids, to_peer);
}

/* What came from a peer, as it came. */
static __always_inline void show_rx(const struct packet *p, const struct message *m, const struct hf_session *session)
{
	if (__builtin_expect(session->flags & HF_TRACE, 0))
		capture(p, m->ids.tunnel, m->ids.session, false);
}

/* What goes to a peer, as it goes. */
static __always_inline void show_tx(const struct packet *p, const struct hf_subscriber *s)
{
	if (__builtin_expect(s->flags & HF_TRACE, 0))
		capture(p, s->local_tunnel, s->local_session, true);
}

#endif
