/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * A packet at one of our three hooks, and the little in which the hooks differ: how to pass, drop, move the head, cut
 * the tail and send. `hook` is a constant where everything is inlined, so the branches on it cost nothing.
 *
 * data and end delimit what can be read at once (of a tc packet the linear part); length is the whole frame.
 * Every function that says so leaves data and end fresh, and older pointers into the packet void.
 */
#ifndef HOLDFAST_PACKET_H
#define HOLDFAST_PACKET_H

#include <stdbool.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

#define CONTINUE (-1)	/* no reason yet to stop */
#define HEADERS 192		/* octets that the programs look at, nearly always */
#define REACH 0x7ff		/* how far into a packet they look; no offset is larger, and the verifier sees so */

enum hook {
	XDP,	/* ingress of an interface */
	TC,	/* the same */
	TUN,	/* egress of the TUN device: packets without a link header */
};

struct packet {
	void *ctx;
	void *data;
	void *end;
	struct hf_config *config;
	__u32 length;
	__u32 ifindex;
	__u32 ip;	/* where the outermost IP header begins */
	__be16 protocol; /* what begins there, an Ethernet type */
	__u16 generation; /* of hf_config, its lower half, before anything was looked up */
	__u16 gso_size;	/* of a burst that one buffer holds (tc): the payload of each segment */
	enum hook hook;
};

static __always_inline void reload(struct packet *p)
{
	if (p->hook == XDP) {
		struct xdp_md *xdp = p->ctx;

		p->data = (void *)(long)xdp->data;
		p->end = (void *)(long)xdp->data_end;
		p->length = p->end - p->data;
	} else {
		struct __sk_buff *skb = p->ctx;

		p->data = (void *)(long)skb->data;
		p->end = (void *)(long)skb->data_end;
		p->length = skb->len;
	}
}

static __always_inline void count(enum hf_reason reason)
{
	__u32 key = reason;
	__u64 *counter = bpf_map_lookup_elem(&reasons, &key);

	if (counter)
		*counter += 1;
}

static __always_inline int pass(const struct packet *p, enum hf_reason reason)
{
	count(reason);
	return p->hook == XDP ? XDP_PASS : TC_ACT_UNSPEC;
}

static __always_inline int drop(const struct packet *p, enum hf_reason reason)
{
	count(reason);
	return p->hook == XDP ? XDP_DROP : TC_ACT_SHOT;
}

/* Sends the frame, whose link header is complete, from another interface. */
static __always_inline int send(__u32 ifindex, enum hf_reason reason)
{
	count(reason);
	return bpf_redirect(ifindex, 0);
}

/* Cuts what follows the first `length` octets. Leaves data and end fresh. */
static __always_inline int trim(struct packet *p, __u32 length)
{
	int failed = 0;

	if (p->length > length) {
		if (p->hook == XDP)
			failed = bpf_xdp_adjust_tail(p->ctx, (int)length - (int)p->length);
		else
			failed = bpf_skb_change_tail(p->ctx, length, 0);
		reload(p);
	}
	return failed;
}

/* An octet of the packet, or -1 if it is not to be read. */
static __always_inline int octet_at(const struct packet *p, __u32 at)
{
	__u8 *octet = p->data + (at & REACH);

	return (void *)(octet + 1) > p->end ? -1 : *octet;
}

/* The same of two octets. */
static __always_inline int word_at(const struct packet *p, __u32 at)
{
	__be16 *word = p->data + (at & REACH);

	if ((void *)(word + 1) > p->end)
		return -1;
	return bpf_ntohs(*word);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

#endif
