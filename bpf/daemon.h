/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What is for the daemon goes up unmodified to its socket. While none listens (the daemon is dead and nobody keeps its
 * socket) the kernel would answer with ICMP port unreachable, which a peer may take for the end of the tunnel: so it
 * is dropped and counted.
 */
#ifndef HOLDFAST_DAEMON_H
#define HOLDFAST_DAEMON_H

#include "packet.h"

static __always_inline int to_daemon(struct packet *p, const struct iphdr *ip, const struct udphdr *udp,
				     enum hf_reason reason)
{
	struct bpf_sock_tuple tuple = {
		.ipv4 = {
			.saddr = ip->saddr,
			.daddr = ip->daddr,
			.sport = udp->source,
			.dport = udp->dest,
		},
	};
	struct bpf_sock *socket = bpf_sk_lookup_udp(p->ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);

	if (!socket)
		return drop(p, HF_RX_UNHEARD);
	bpf_sk_release(socket);
	return pass(p, reason);
}

#endif
