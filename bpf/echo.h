/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * LCP Echo-Requests (RFC 1661 5.8) of sessions whose LCP is open, answered where they arrive: subscribers keep their
 * sessions while the daemon is away. The request becomes the reply in place, so its data come back as they came.
 */
#ifndef HOLDFAST_ECHO_H
#define HOLDFAST_ECHO_H

#include "capture.h"
#include "outer.h"

#define ECHO_REQUEST 9
#define ECHO_REPLY 10

struct echo {
	__u8 code;
	__u8 id;
	__be16 length;
	__be32 magic;
} __attribute__((packed));

/*
 * The UDP checksum after a change of the payload. XDP cannot know whether it is finished (on a veth it is not), so there
 * it goes: 0 is for none. Leaves data and end fresh.
 */
static __always_inline void change_udp_checksum(struct packet *p, __u32 udp, __u32 difference)
{
	__u32 at = udp + offsetof(struct udphdr, check);

	if (p->hook == XDP) {
		__be16 *sum = p->data + (at & REACH);

		if ((void *)(sum + 1) <= p->end)
			*sum = 0;
	} else {
		bpf_l4_csum_replace(p->ctx, at, 0, difference, BPF_F_MARK_MANGLED_0);
		reload(p);
	}
}

/* Of two words. */
static __always_inline __u64 sum_of(const __be16 *words)
{
	return (__u64)words[0] + words[1];
}

/* Whether this is a request that can be answered here. */
static __always_inline bool is_echo_request(struct packet *p, const struct message *m, const struct hf_session *session)
{
	struct echo *echo = p->data + (m->ppp & REACH);
	__u32 length;

	if (!(session->flags & HF_ANSWER_ECHO) || m->protocol != PPP_LCP || m->flags & (L2TP_S | L2TP_O) ||
	    (void *)(echo + 1) > p->end)
		return false;
	length = bpf_ntohs(echo->length);
	if (echo->code != ECHO_REQUEST || length < sizeof(*echo) || length > m->end - m->ppp)
		return false;
	return !echo->magic || echo->magic != session->magic; /* our own: the link is looped back */
}

/* Answers an Echo-Request; the IP header has no options. */
static __always_inline int answer_echo(struct packet *p, const struct message *m, const struct hf_session *session)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = p->data + p->ip;
	struct udphdr *udp = (void *)(ip + 1);
	__be16 *ids = (__be16 *)(udp + 1) + (m->flags & L2TP_L ? 2 : 1);
	struct echo *echo = p->data + (m->ppp & REACH);
	__u16 *words = (void *)echo;
	__u8 mac[ETH_ALEN];
	__be16 port;
	__u64 difference;

	if ((void *)(eth + 1) > p->end || (void *)(ids + 2) > p->end || (void *)(echo + 1) > p->end)
		return drop(p, HF_RX_REFUSED);
	show_rx(p, m, session);
	difference = sum_of(ids) + sum_of(words) + sum_of(words + 2);
	difference = (__u16)~fold(difference);
	ids[0] = session->peer_tunnel;
	ids[1] = session->peer_session;
	echo->code = ECHO_REPLY;
	echo->magic = session->magic;
	difference += sum_of(ids) + sum_of(words) + sum_of(words + 2);
	port = udp->source;
	udp->source = udp->dest;
	udp->dest = port;
	write_outer_ip(ip, ip->daddr, ip->saddr, bpf_ntohs(ip->tot_len));
	__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	change_udp_checksum(p, p->ip + sizeof(*ip), fold(difference));
	if (__builtin_expect(session->flags & HF_TRACE, 0))
		capture(p, m->ids.tunnel, m->ids.session, true);
	count(HF_RX_ECHO);
	return p->hook == XDP ? XDP_TX : bpf_redirect(p->ifindex, 0);
}

#endif
