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

static __always_inline struct hf_port *port_of(__u32 ifindex)
{
	__u32 key = ifindex % HF_PORTS;
	struct hf_port *port = bpf_map_lookup_elem(&ports, &key);

	return port && port->ifindex == ifindex ? port : NULL;
}

/* The link addresses that bpf_fib_lookup found; the stack only allows aligned access (they begin at 2 mod 4). */
static __always_inline void keep_hop(struct hf_hop *hop, const struct bpf_fib_lookup *fib)
{
	const __u16 *from = (const void *)fib->smac, *to = (const void *)fib->dmac;
	__u16 *source = (void *)hop->source_mac, *destination = (void *)hop->destination_mac;

#pragma unroll
	for (int i = 0; i < ETH_ALEN / 2; i++) {
		source[i] = from[i];
		destination[i] = to[i];
	}
	hop->out_ifindex = fib->ifindex;
	hop->mtu = fib->mtu_result;
}

/* Asks the kernel about the packet that `fib` describes, and fills `hop` if there is no obstacle. */
static __always_inline enum obstacle look_up(const struct packet *p, struct bpf_fib_lookup *fib, struct hf_hop *hop)
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
	keep_hop(hop, fib);
	return NONE;
}

/* The same of IPv4, by way of the cache. */
static __always_inline enum obstacle look_up_cached(const struct packet *p, struct bpf_fib_lookup *fib,
						    struct hf_hop *hop)
{
	struct hf_config *config = p->config;
	__u32 key = fib->ipv4_src ^ fib->ipv4_dst * 0x9e3779b1;
	__u32 now, length = fib->tot_len;
	struct hf_hop *kept;
	enum obstacle obstacle;

	if (!config->hop_life)
		return look_up(p, fib, hop);
	key = (key ^ key >> 15) * 0x85ebca6b;
	key = (key ^ key >> 16) & config->hop_mask;
	kept = bpf_map_lookup_elem(&hops, &key);
	if (!kept)
		return look_up(p, fib, hop);
	now = bpf_ktime_get_coarse_ns() >> 20;
	if (kept->source == fib->ipv4_src && kept->destination == fib->ipv4_dst &&
	    kept->in_ifindex == p->ifindex && kept->generation == config->generation &&
	    now - kept->stamp < config->hop_life) {
		if (kept->mtu && length > kept->mtu)
			return TOO_BIG;
		*hop = *kept;
		return NONE;
	}
	obstacle = look_up(p, fib, hop);
	if (obstacle == NONE) {
		hop->source = fib->ipv4_src;
		hop->destination = fib->ipv4_dst;
		hop->in_ifindex = p->ifindex;
		hop->generation = config->generation;
		hop->stamp = now;
		hop->unused = 0;
		*kept = *hop;
	}
	return obstacle;
}

/* Writes the link header of the next hop at the front of the packet. False if it does not fit in. */
static __always_inline bool write_link(struct packet *p, const struct hf_hop *hop, __be16 protocol)
{
	struct ethhdr *eth = p->data;

	if ((void *)(eth + 1) > p->end)
		return false;
	__builtin_memcpy(eth->h_dest, hop->destination_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, hop->source_mac, ETH_ALEN);
	eth->h_proto = protocol;
	return true;
}

#endif
