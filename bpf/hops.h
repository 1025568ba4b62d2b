/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Where a packet goes next: the kernel's routing tables, and a cache of their answers.
 *
 * The lookup is most of the price of a packet. An answer holds for a second or so (hop_life) on the CPU that asked,
 * for the same pair of addresses on the same interface, so that routes by source keep their meaning. An old one is
 * asked for again by the program itself: nobody has to live for that.
 */
#ifndef HOLDFAST_HOPS_H
#define HOLDFAST_HOPS_H

#include "packet.h"

#define AF_INET 2
#define AF_INET6 10

/* What stands between a packet and its next hop. */
enum obstacle {
	NONE,
	NO_ROUTE,	/* or one that is not for unicast forwarding: to ourselves, to nowhere */
	NO_NEIGHBOUR,
	TOO_BIG,
	NO_PORT,
};

/* The next hop of one packet. */
struct next {
	__u32 ifindex;
	struct hf_link link;
};

static __always_inline struct hf_port *port_of(__u32 ifindex)
{
	__u32 key = ifindex % HF_PORTS;
	struct hf_port *port = bpf_map_lookup_elem(&ports, &key);

	return port && port->ifindex == ifindex ? port : NULL;
}

/* Asks the kernel about the packet that `fib` describes, and fills `next` if there is no obstacle. */
static __always_inline enum obstacle look_up(const struct packet *p, struct bpf_fib_lookup *fib, struct next *next)
{
	struct hf_port *port;
	long result;

	fib->ifindex = p->ifindex;
	result = bpf_fib_lookup(p->ctx, fib, sizeof(*fib), 0);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return NO_NEIGHBOUR;
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return TOO_BIG;
	if (result)
		return NO_ROUTE;
	if (p->hook == XDP) {
		port = port_of(fib->ifindex);
		if (!port || !port->redirect)
			return NO_PORT;
	}
	next->ifindex = fib->ifindex;
	__builtin_memcpy(next->link.words, fib->dmac, ETH_ALEN);
	__builtin_memcpy((__u8 *)next->link.words + ETH_ALEN, fib->smac, ETH_ALEN);
	return NONE;
}

/*
 * The place of a pair of addresses in `hops`: the subscribers of a pool, whose addresses follow each other, have places
 * that follow each other for every destination, so that they do not get in each other's way.
 */
static __always_inline __u32 place_of(__be32 source, __be32 destination)
{
	return bpf_ntohl(source) + (bpf_ntohl(destination) * 0x9e3779b1U >> 8);
}

/* The same of IPv4, by way of the cache. */
static __always_inline enum obstacle look_up_cached(const struct packet *p, struct bpf_fib_lookup *fib,
						    struct next *next)
{
	const struct hf_config *config = p->config;
	__u32 key = place_of(fib->ipv4_src, fib->ipv4_dst) & config->hop_mask;
	__u32 now, length = fib->tot_len;
	struct hf_hop *kept;
	enum obstacle obstacle;

	if (!config->hop_life)
		return look_up(p, fib, next);
	kept = bpf_map_lookup_elem(&hops, &key);
	if (!kept)
		return look_up(p, fib, next);
	now = bpf_jiffies64();
	if (kept->source == fib->ipv4_src && kept->destination == fib->ipv4_dst &&
	    kept->in_ifindex == p->ifindex && kept->generation == config->generation &&
	    now - kept->stamp < config->hop_life) {
		if (kept->mtu && length > kept->mtu)
			return TOO_BIG;
		next->ifindex = kept->out_ifindex;
		next->link = kept->link;
		return NONE;
	}
	obstacle = look_up(p, fib, next);
	if (obstacle == NONE) {
		kept->source = fib->ipv4_src;
		kept->destination = fib->ipv4_dst;
		kept->in_ifindex = p->ifindex;
		kept->out_ifindex = next->ifindex;
		kept->generation = config->generation;
		kept->stamp = now;
		kept->link = next->link;
		kept->mtu = fib->mtu_result;
	}
	return obstacle;
}

/* Writes the link header of the next hop at the front of the packet. False if it does not fit in. */
static __always_inline bool write_link(struct packet *p, const struct hf_link *link, __be16 protocol)
{
	struct ethhdr *eth = p->data;
	struct hf_link *to = p->data;

	if ((void *)(eth + 1) > p->end)
		return false;
	*to = *link;
	eth->h_proto = protocol;
	return true;
}

#endif
