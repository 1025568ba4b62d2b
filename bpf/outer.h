/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The IPv4 header of what we send to a peer. DF is set, as Linux does on UDP sockets; the UDP checksum is 0, which
 * RFC 2661 8.1 allows for data.
 */
#ifndef HOLDFAST_OUTER_H
#define HOLDFAST_OUTER_H

#include "parse.h"

#define OUTER_TTL 64

static __always_inline void write_outer_ip(struct iphdr *ip, __be32 from, __be32 to, __u16 total)
{
	__be16 *words = (void *)ip;
	__u64 sum = 0;

	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = 0;
	ip->tot_len = bpf_htons(total);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = OUTER_TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = from;
	ip->daddr = to;
#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = ~fold(sum);
}

#endif
