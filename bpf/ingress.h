/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What both ingress hooks do with a frame: L2TP for us is decapsulated, what is for a subscriber is encapsulated,
 * everything else passes as it came.
 */
#ifndef HOLDFAST_INGRESS_H
#define HOLDFAST_INGRESS_H

#include "decap.h"
#include "encap.h"

static __always_inline struct hf_config *get_config(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&config, &key);
}

static __always_inline int ingress(struct packet *p)
{
	struct ip ip;
	int verdict;

	p->generation = p->config->generation;
	if (p->protocol == bpf_htons(ETH_P_IP)) {
		if (!parse_ipv4(p, p->ip, p->length - p->ip, &ip))
			return pass(p, HF_NOT_OURS);
		if (ip.protocol == IPPROTO_UDP && from_peer(p, &ip, &verdict))
			return verdict;
		return to_peer_ipv4(p, &ip);
	}
	if (p->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!parse_ipv6(p, p->ip, p->length - p->ip, &ip))
			return pass(p, HF_NOT_OURS);
		return to_peer_ipv6(p, &ip);
	}
	return pass(p, HF_NOT_OURS);
}

#endif
