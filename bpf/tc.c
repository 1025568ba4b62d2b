// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * tc: packets as the kernel has them, with checksums that are yet to be finished and bursts that are yet to be cut.
 * hf_tc is for the ingress of interfaces, hf_tun for the egress of the TUN device.
 */
#include "ingress.h"

/* Makes the headers readable that a driver may have left outside the linear part. Leaves data and end fresh. */
static __always_inline void pull_headers(struct packet *p)
{
	__u32 wanted = p->length < HEADERS ? p->length : HEADERS;

	if (p->data + HEADERS > p->end && p->end - p->data < wanted) {
		bpf_skb_pull_data(p->ctx, wanted);
		reload(p);
	}
}

SEC("tc")
int hf_tc(struct __sk_buff *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.config = get_config(),
		.ifindex = ctx->ifindex,
		.gso_size = ctx->gso_size,
		.hook = TC,
	};

	reload(&p);
	if (!p.config || ctx->pkt_type != 0) /* PACKET_HOST */
		return pass(&p, HF_NOT_TO_US);
	pull_headers(&p);
	if (!parse_link(&p))
		return pass(&p, HF_NOT_TO_US);
	return ingress(&p);
}

SEC("tc")
int hf_tun(struct __sk_buff *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.config = get_config(),
		.ifindex = ctx->ifindex,
		.protocol = ctx->protocol,
		.gso_size = ctx->gso_size,
		.hook = TUN,
	};
	struct ip ip;

	reload(&p);
	pull_headers(&p);
	if (p.config && p.protocol == bpf_htons(ETH_P_IP) && parse_ipv4(&p, 0, p.length, &ip))
		return to_peer_ipv4(&p, &ip);
	if (p.config && p.protocol == bpf_htons(ETH_P_IPV6) && parse_ipv6(&p, 0, p.length, &ip))
		return to_peer_ipv6(&p, &ip);
	return pass(&p, HF_SLOW_UNUSUAL);
}
