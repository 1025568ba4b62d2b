// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * XDP: frames as they come from the driver. The hook sees also those for other hosts, so it compares the MAC.
 */
#include "ingress.h"

static __always_inline bool is_to_us(const struct packet *p)
{
	struct hf_port *port = port_of(p->ifindex);
	const void *to = p->data;

	if (!port || to + ETH_ALEN > p->end)
		return false;
	return *(const __u32 *)to == *(const __u32 *)port->mac &&
	       *(const __u16 *)(to + 4) == *(const __u16 *)(port->mac + 4);
}

SEC("xdp")
int hf_xdp(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.config = get_config(),
		.ifindex = ctx->ingress_ifindex,
		.hook = XDP,
	};

	reload(&p);
	if (!p.config || !is_to_us(&p) || !parse_link(&p))
		return pass(&p, HF_NOT_TO_US);
	return ingress(&p);
}
