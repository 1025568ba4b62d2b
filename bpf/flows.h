/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What was found out about a packet, kept for those that are like it: the session and the next hop. All that depends on
 * the packet itself is looked at again.
 *
 * The lookups are most of the price of a packet. What they said holds for a second or so (flow_life) on the CPU that
 * asked, unless the daemon changes any session: it then takes the next generation, and what was looked up before that,
 * perhaps just before, is of the last one. For rx it is kept by pair of inner addresses, so that routes by source keep
 * their meaning. An old answer is asked for again by the program itself: nobody has to live for that.
 */
#ifndef HOLDFAST_FLOWS_H
#define HOLDFAST_FLOWS_H

#include "hops.h"
#include "parse.h"

static __always_inline bool holds(const struct packet *p, const struct hf_hop *hop)
{
	return hop->in_ifindex == p->ifindex && hop->generation == p->generation &&
	       (__u32)bpf_jiffies64() - hop->stamp < p->config->flow_life;
}

/*
 * The place of a pair of addresses. The addresses of a pool follow each other, and so do their places, for every
 * destination: the subscribers do not get in each other's way.
 */
static __always_inline struct hf_rx_flow *rx_place(const struct packet *p, __be32 source, __be32 destination)
{
	__u32 key = bpf_ntohl(source) + (bpf_ntohl(destination) * 0x9e3779b1U >> 8);

	key &= p->config->flow_mask;
	return bpf_map_lookup_elem(&rx_flows, &key);
}

/* What holds for an IPv4 packet in a data message, NULL if that has to be found out. */
static __always_inline const struct hf_rx_flow *known_rx(const struct packet *p, const struct message *m)
{
	const struct iphdr *inner = p->data + (m->ppp & REACH);
	const struct hf_rx_flow *flow;

	if (m->protocol != PPP_IPV4 || (void *)(inner + 1) > p->end)
		return NULL;
	flow = rx_place(p, inner->saddr, inner->daddr);
	if (!flow || flow->ids.tunnel != m->ids.tunnel || flow->ids.session != m->ids.session ||
	    flow->session.address != inner->saddr || flow->destination != inner->daddr || !holds(p, &flow->hop))
		return NULL;
	return flow;
}

static __always_inline void remember_rx(const struct packet *p, const struct message *m,
					const struct hf_session *session, __be32 destination, const struct hf_hop *hop)
{
	struct hf_rx_flow *flow = p->config->flow_life ? rx_place(p, session->address, destination) : NULL;

	if (!flow)
		return;
	flow->ids = m->ids;
	flow->destination = destination;
	flow->session = *session;
	flow->hop = *hop;
}

/* `key` is an IPv4 address, or the first half of an IPv6 address: no prefix is longer. */
static __always_inline struct hf_tx_flow *tx_place(const struct packet *p, __u64 key, __u8 version)
{
	__u32 place = version == 4 ? bpf_ntohl(key) : (__u32)(key * 0x9e3779b97f4a7c15ULL >> 40);

	place &= p->config->flow_mask;
	return bpf_map_lookup_elem(&tx_flows, &place);
}

/* What holds for a packet to the subscriber with that key, NULL if that has to be found out. */
static __always_inline const struct hf_tx_flow *known_tx(const struct packet *p, __u64 key, __u8 version)
{
	const struct hf_tx_flow *flow = p->hook == TUN ? NULL : tx_place(p, key, version);

	return flow && flow->key == key && flow->version == version && holds(p, &flow->hop) ? flow : NULL;
}

static __always_inline void remember_tx(const struct packet *p, __u64 key, __u8 version, const struct hf_subscriber *s,
					const struct hf_hop *hop)
{
	struct hf_tx_flow *flow = p->hook != TUN && p->config->flow_life ? tx_place(p, key, version) : NULL;

	if (!flow)
		return;
	flow->key = key;
	flow->version = version;
	flow->subscriber = *s;
	flow->hop = *hop;
}

#endif
