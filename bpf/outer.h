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
	const __be16 first = bpf_htons(0x4500), flags = bpf_htons(0x4000);
	const __be16 ttl_protocol = bpf_htons(OUTER_TTL << 8 | IPPROTO_UDP), length = bpf_htons(total);
	__u64 sum = (__u64)from + to + first + flags + ttl_protocol + length;

	/* Written in words, and summed up before: what is read back in other pieces than it was written in has to wait. */
	((__be16 *)ip)[0] = first;
	ip->tot_len = length;
	ip->id = 0;
	ip->frag_off = flags;
	((__be16 *)ip)[4] = ttl_protocol;
	ip->check = ~fold(sum);
	ip->saddr = from;
	ip->daddr = to;
}

#endif
