/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Lowering the MSS that a SYN announces to what a session carries (RFC 6691), with its checksum kept right by the
 * difference (RFC 1624), also where the checksum is only begun and the hardware is to finish it (tc).
 */
#ifndef HOLDFAST_MSS_H
#define HOLDFAST_MSS_H

#include <linux/tcp.h>
#include "parse.h"

#define TCP_FLAGS 13
#define TCP_SYN 0x02
#define TCP_CHECKSUM 16
#define TCP_HEADER 20
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTIONS 40

static __always_inline int load(const struct packet *p, __u32 at, void *to, __u32 size)
{
	return p->hook == XDP ? bpf_xdp_load_bytes(p->ctx, at, to, size) : bpf_skb_load_bytes(p->ctx, at, to, size);
}

struct tcp_options {
	__u8 octets[TCP_OPTIONS];
};

/*
 * Where the value of the MSS option begins among `size` octets of options, 0 if there is none. This is a function that
 * is not inlined and has no static in front: the verifier then follows the ways in which options may lie once, and not
 * for each way that leads here.
 */
__noinline __u32 hf_find_mss(const struct tcp_options *options, __u32 size)
{
	__u32 at = 0;

	if (!options)
		return 0;
	for (int i = 0; i < TCP_OPTIONS; i++) {
		__u8 kind, length;

		if (at + 4 > size || at > TCP_OPTIONS - 4)
			break;
		kind = options->octets[at];
		length = options->octets[at + 1];
		if (kind == TCP_OPTION_MSS && length == 4)
			return at + 2;
		if (kind == TCP_OPTION_NOP)
			at++;
		else if (kind == 0 || length < 2)
			break;
		else
			at += length;
	}
	return 0;
}

/* Writes `most` at `at` if that is less, and corrects the checksum of the TCP header at `tcp`. */
static __always_inline void lower_mss(struct packet *p, __u32 tcp, __u32 at, __u16 most)
{
	__be16 *mss = p->data + (at & REACH), *sum = p->data + ((tcp + TCP_CHECKSUM) & REACH);
	__be16 from, to = bpf_htons(most);

	if ((void *)(mss + 1) > p->end || (void *)(sum + 1) > p->end || bpf_ntohs(*mss) <= most)
		return;
	from = *mss;
	*mss = to;
	if ((at - tcp) & 1) { /* it straddles two words of the sum */
		from = __builtin_bswap16(from);
		to = __builtin_bswap16(to);
	}
	if (p->hook == XDP)
		*sum = ~fold((__u64)(__u16)~*sum + (__u16)~from + to);
	else
		bpf_l4_csum_replace(p->ctx, tcp + TCP_CHECKSUM, from, to, sizeof(to));
}

/* Does nothing to what is no SYN, and to options that make no sense. Leaves data and end fresh. */
static __always_inline void clamp_mss(struct packet *p, const struct ip *ip, __u16 mtu)
{
	__u32 tcp = ip->at + ip->header, end = ip->at + ip->total;
	__u32 least = ip->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct tcp_options options = { 0 };
	__u32 size, at;
	int flags, words;

	if (ip->protocol != IPPROTO_TCP || ip->fragment || tcp + TCP_HEADER >= end)
		return;
	words = octet_at(p, tcp + TCP_FLAGS - 1);
	flags = octet_at(p, tcp + TCP_FLAGS);
	if (words < 0 || flags < 0 || !(flags & TCP_SYN))
		return;
	size = (words >> 4) * 4;
	if (size <= TCP_HEADER)
		return;
	size -= TCP_HEADER;
	if (size > end - tcp - TCP_HEADER)
		size = end - tcp - TCP_HEADER;
	if (size == 0 || size > TCP_OPTIONS || load(p, tcp + TCP_HEADER, &options, size))
		return;
	at = hf_find_mss(&options, size);
	if (at)
		lower_mss(p, tcp, tcp + TCP_HEADER + at, mtu - least - TCP_HEADER);
	reload(p);
}

#endif
