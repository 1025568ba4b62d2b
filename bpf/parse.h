/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * From the link header to the inner packet: what is where, and whether it is whole. Nothing is changed here.
 */
#ifndef HOLDFAST_PARSE_H
#define HOLDFAST_PARSE_H

#include <linux/in.h>
#include "packet.h"

#define ETH_P_8021Q_BE bpf_htons(ETH_P_8021Q)
#define VLAN_TAG 4

#define L2TP_T 0x8000
#define L2TP_L 0x4000
#define L2TP_S 0x0800
#define L2TP_O 0x0200
#define L2TP_P 0x0100
#define L2TP_VERSION 0x000f
#define L2TP_HEADER 6
#define MOST_TO_REMOVE 1024	/* octets before the inner packet; more is for the daemon */

#define PPP_ADDRESS_CONTROL 0xff03
#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_LCP 0xc021

#define IP_MORE_OR_OFFSET bpf_htons(0x3fff)
#define IP_OFFSET bpf_htons(0x1fff)

/* A data message: offsets count from the start of the frame. */
struct message {
	__u32 start;	/* of the L2TP header */
	__u32 end;	/* of the message */
	__u32 ppp;	/* of the information of the PPP frame */
	__u16 flags;
	__u16 protocol;	/* of the PPP frame */
	struct hf_ids ids;
};

/* An IP packet, inner or to be. */
struct ip {
	__u32 at;
	__u32 total;
	__u32 header;	/* its length */
	__u8 version;
	__u8 ttl;
	__u8 protocol;
	__u8 tos;
	bool options;	/* that routers have to look at */
	bool fragment;	/* other than the first */
};

/* The link header with at most one VLAN tag. False if there is none. */
static __always_inline bool parse_link(struct packet *p)
{
	struct ethhdr *eth = p->data;

	if ((void *)(eth + 1) > p->end)
		return false;
	p->protocol = eth->h_proto;
	p->ip = sizeof(*eth);
	if (p->hook == XDP && p->protocol == ETH_P_8021Q_BE) {
		__be16 *tag = (void *)(eth + 1);

		if ((void *)(tag + 2) > p->end)
			return false;
		p->protocol = tag[1];
		p->ip += VLAN_TAG;
	}
	return true;
}

/* The IPv4 packet at `at`, of at most `room` octets. False if there is no whole one. */
static __always_inline bool parse_ipv4(const struct packet *p, __u32 at, __u32 room, struct ip *ip)
{
	struct iphdr *header = p->data + (at & REACH);
	__u32 size;

	if ((void *)(header + 1) > p->end || room < sizeof(*header) || header->version != 4)
		return false;
	size = header->ihl * 4;
	ip->at = at;
	ip->header = size;
	ip->total = bpf_ntohs(header->tot_len);
	ip->version = 4;
	ip->ttl = header->ttl;
	ip->protocol = header->protocol;
	ip->tos = header->tos;
	ip->options = size > sizeof(*header);
	ip->fragment = header->frag_off & IP_OFFSET;
	return size >= sizeof(*header) && size <= ip->total && ip->total <= room;
}

/* The same of IPv6. */
static __always_inline bool parse_ipv6(const struct packet *p, __u32 at, __u32 room, struct ip *ip)
{
	struct ipv6hdr *header = p->data + (at & REACH);

	if ((void *)(header + 1) > p->end || room < sizeof(*header) || header->version != 6)
		return false;
	ip->at = at;
	ip->header = sizeof(*header);
	ip->total = sizeof(*header) + bpf_ntohs(header->payload_len);
	ip->version = 6;
	ip->ttl = header->hop_limit;
	ip->protocol = header->nexthdr;
	ip->tos = 0;
	ip->options = header->nexthdr == IPPROTO_HOPOPTS;
	ip->fragment = false;
	return ip->total <= room;
}

/*
 * The data message as nearly all are: IPv4 in it, no optional field before that, nothing compressed. Everything else takes
 * the long way.
 */
static __always_inline bool parse_plain_message(const struct packet *p, __u32 size, struct message *m)
{
	const __be16 *words = p->data + (m->start & REACH);

	if (size < L2TP_HEADER + 4 || (void *)(words + 5) > p->end || words[0] != bpf_htons(2) || !words[1] || !words[2] ||
	    words[3] != bpf_htons(PPP_ADDRESS_CONTROL) || words[4] != bpf_htons(PPP_IPV4))
		return false;
	m->flags = 2;
	m->ids.tunnel = words[1];
	m->ids.session = words[2];
	m->end = m->start + size;
	m->ppp = m->start + L2TP_HEADER + 4;
	m->protocol = PPP_IPV4;
	return true;
}

/*
 * The L2TP header and the start of the PPP frame in the `size` octets at m->start (RFC 2661 3.1, RFC 1661 2).
 * Returns CONTINUE for a data message that is whole so far, else the reason why it is for the daemon or nobody.
 */
static __always_inline int parse_message(const struct packet *p, __u32 size, struct message *m)
{
	int flags, word, at = m->start + 2;
	__u32 start = L2TP_HEADER;

	if (size < 1)
		return HF_RX_MALFORMED;
	flags = octet_at(p, m->start);
	if (flags >= 0 && flags & (L2TP_T >> 8))
		return HF_RX_CONTROL;
	if (size < L2TP_HEADER)
		return HF_RX_MALFORMED;
	flags = word_at(p, m->start);
	if (flags < 0 || (flags & L2TP_VERSION) != 2)
		return HF_RX_UNUSUAL;
	m->flags = flags;
	m->end = m->start + size;
	start += (flags & L2TP_L ? 2 : 0) + (flags & L2TP_S ? 4 : 0) + (flags & L2TP_O ? 2 : 0);
	if (size < start)
		return HF_RX_MALFORMED;
	if (flags & L2TP_L) {
		word = word_at(p, at);
		if (word < 0)
			return HF_RX_UNUSUAL;
		if (word < (int)start || word > (int)size)
			return HF_RX_MALFORMED;
		m->end = m->start + word;
		at += 2;
	}
	word = word_at(p, at);
	m->ids.tunnel = bpf_htons(word);
	if (word <= 0)
		return HF_RX_MALFORMED;
	word = word_at(p, at + 2);
	m->ids.session = bpf_htons(word);
	if (word <= 0)
		return HF_RX_MALFORMED;
	start += m->start;
	if (flags & L2TP_O) {
		word = word_at(p, start - 2);
		if (word < 0)
			return HF_RX_UNUSUAL;
		start += word;
		if (start > m->end)
			return HF_RX_MALFORMED;
		if (start > MOST_TO_REMOVE)
			return HF_RX_UNUSUAL;
	}
	if (start + 2 <= m->end && word_at(p, start) == PPP_ADDRESS_CONTROL)
		start += 2;
	if (start >= m->end)
		return HF_RX_MALFORMED;
	word = octet_at(p, start);
	m->ppp = start + 1;
	if (word >= 0 && !(word & 1)) {
		if (m->ppp >= m->end)
			return HF_RX_MALFORMED;
		word = word_at(p, start);
		m->ppp++;
	}
	m->protocol = word;
	return word < 0 ? HF_RX_UNUSUAL : CONTINUE;
}

#endif
