/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Where a packet goes next, by the kernel's routing tables.
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

/*
 * Asks the kernel about the packet that `fib` describes, and fills `hop` if there is no obstacle. Where only the neighbour
 * is not known, it says where that would be.
 */
static __always_inline enum obstacle look_up(const struct packet *p, struct bpf_fib_lookup *fib, struct hf_hop *hop)
{
	struct hf_port *port;
	long result;

	fib->ifindex = p->ifindex;
	result = bpf_fib_lookup(p->ctx, fib, sizeof(*fib), 0);
	hop->out_ifindex = fib->ifindex;
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
	hop->in_ifindex = p->ifindex;
	hop->stamp = bpf_jiffies64();
	__builtin_memcpy(hop->link, fib->dmac, ETH_ALEN);
	__builtin_memcpy((__u8 *)hop->link + ETH_ALEN, fib->smac, ETH_ALEN);
	hop->generation = p->generation;
	hop->mtu = fib->mtu_result;
	return NONE;
}

/* Writes the link header of the next hop at the front of the packet. False if it does not fit in. */
static __always_inline bool write_link(struct packet *p, const struct hf_hop *hop, __be16 protocol)
{
	struct ethhdr *eth = p->data;
	__u32 *words = p->data;

	if ((void *)(eth + 1) > p->end)
		return false;
	words[0] = hop->link[0];
	words[1] = hop->link[1];
	words[2] = hop->link[2];
	eth->h_proto = protocol;
	return true;
}

#endif
