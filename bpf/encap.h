/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * To a peer: packets for a subscriber get their tunnel headers. On ingress (XDP, tc) what cannot be finished is passed
 * unmodified; the kernel answers it or routes it to the TUN device. There (TUN) this is done once more, with the
 * kernel finding the neighbour, and what remains is left to the daemon that reads the device.
 */
#ifndef HOLDFAST_ENCAP_H
#define HOLDFAST_ENCAP_H

#include "counters.h"
#include "decap.h"
#include "flows.h"
#include "mss.h"
#include "outer.h"

#define MOST_OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr) + 12)

/* The reasons at ingress and at the TUN device, which knows fewer. */
#define REASON(p, name, slow) ((p)->hook == TUN ? HF_SLOW_##slow : HF_TX_##name)

/*
 * What a burst becomes: its number of packets, and their octets with a header each. `segment` is then the length of the
 * longest packet. False if this is a burst that cannot be cut inside a tunnel.
 */
static __always_inline bool segments(const struct packet *p, const struct ip *ip, struct traffic *traffic,
				     __u32 *segment)
{
	__u32 headers = ip->header;
	int size;

	traffic->packets = 1;
	traffic->bytes = *segment = ip->total;
	if (!p->gso_size)
		return true;
	if (ip->fragment)
		return false;
	if (ip->protocol == IPPROTO_UDP) {
		headers += sizeof(struct udphdr);
	} else if (ip->protocol == IPPROTO_TCP) {
		size = octet_at(p, ip->at + headers + TCP_FLAGS - 1);
		if (size < 0)
			return false;
		headers += (size >> 4) * 4;
	} else {
		return false;
	}
	if (headers >= ip->total)
		return false;
	*segment = headers + p->gso_size;
	traffic->packets = (ip->total - headers + p->gso_size - 1) / p->gso_size;
	traffic->bytes += (traffic->packets - 1) * headers;
	return true;
}

/* Octets of L2TP and PPP before an IP packet. Without branches, each of which doubles the verifier's work. */
static __always_inline __u32 tunnel_size(const struct hf_subscriber *s)
{
	_Static_assert(HF_LENGTH >> 4 == 2 && HF_ACFC >> 2 == 2 && HF_PFC >> 4 == 1, "octets that a flag stands for");
	return L2TP_HEADER + 4 + ((s->flags & HF_LENGTH) >> 4) - ((s->flags & HF_ACFC) >> 2) -
	       ((s->flags & HF_PFC) >> 4);
}

/* Makes `size` octets of room for outer headers before the IP packet, which then begins at ip->at. */
static __always_inline bool make_room(struct packet *p, struct ip *ip, __u32 size)
{
	__u32 link = p->hook == TUN ? 0 : sizeof(struct ethhdr);

	if (p->hook == XDP) {
		if (bpf_xdp_adjust_head(p->ctx, (int)p->ip - (int)link - (int)size))
			return false;
	} else {
		__u64 inner = size - sizeof(struct iphdr) - sizeof(struct udphdr);
		__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
			      BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(inner);

		if (bpf_skb_adjust_room(p->ctx, size, BPF_ADJ_ROOM_MAC, flags))
			return false;
	}
	p->ip = link;
	ip->at = link + size;
	reload(p);
	return true;
}

/* The outer headers, in the room before the inner packet of `total` octets. False if they do not fit in. */
static __always_inline bool write_tunnel(struct packet *p, const struct hf_subscriber *s, __u32 total)
{
	struct iphdr *ip = p->data + p->ip;
	struct udphdr *udp = (void *)(ip + 1);
	__be16 *l2tp = (void *)(udp + 1);
	__u32 length = tunnel_size(s) + total;
	__u8 *ppp;

	if ((void *)ip + MOST_OVERHEAD > p->end) /* the inner header is longer than what is missing to the most */
		return false;
	write_outer_ip(ip, s->local_ip, s->peer_ip, sizeof(*ip) + sizeof(*udp) + length);
	udp->source = s->local_port;
	udp->dest = s->peer_port;
	udp->len = bpf_htons(sizeof(*udp) + length);
	udp->check = 0;
	if (s->flags & HF_LENGTH) {
		*l2tp++ = bpf_htons(L2TP_L | 2);
		*l2tp++ = bpf_htons(length);
	} else {
		*l2tp++ = bpf_htons(2);
	}
	*l2tp++ = s->peer_tunnel;
	*l2tp++ = s->peer_session;
	ppp = (void *)l2tp;
	if (!(s->flags & HF_ACFC)) {
		*ppp++ = PPP_ADDRESS_CONTROL >> 8;
		*ppp++ = PPP_ADDRESS_CONTROL & 0xff;
	}
	if (!(s->flags & HF_PFC))
		*ppp++ = 0;
	*ppp = p->protocol == bpf_htons(ETH_P_IP) ? PPP_IPV4 : PPP_IPV6;
	return true;
}

/*
 * Sends the datagram from the TUN device, to a neighbour that the kernel finds. It also looks up the route again: were
 * it told the next hop, a packet that waits for an unknown neighbour would keep its route to the TUN device, and leave
 * without a link header once the neighbour answers.
 */
static __always_inline int send_to_neighbour(struct packet *p, __u32 ifindex)
{
	if (bpf_skb_change_head(p->ctx, sizeof(struct ethhdr), 0))
		return drop(p, HF_SLOW_REFUSED);
	count(HF_SLOW_FORWARDED);
	return bpf_redirect_neigh(ifindex, NULL, 0, 0);
}

/* Asks the kernel where the subscriber's peer is. */
static __always_inline enum obstacle find_peer(const struct packet *p, const struct hf_subscriber *s, __u32 length,
					       struct hf_hop *hop)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.tot_len = length,
		.ipv4_src = s->local_ip,
		.ipv4_dst = s->peer_ip,
	};

	return look_up(p, &fib, hop);
}

/* An IP packet for the subscriber `s`. `flow`: what is known of its like, or NULL; then it is kept by `key`. */
static __always_inline int encapsulate(struct packet *p, const struct hf_subscriber *s, struct ip *ip,
				       const struct hf_tx_flow *flow, __u64 key)
{
	__u32 overhead = sizeof(struct iphdr) + sizeof(struct udphdr) + tunnel_size(s), segment;
	struct traffic traffic;
	enum obstacle obstacle = NONE;
	const struct hf_hop *hop;
	struct hf_hop found;

	if (s->flags & HF_TO_DAEMON)
		return pass(p, REASON(p, TO_DAEMON, TO_DAEMON));
	if (p->hook != TUN && ip->ttl <= 1)
		return pass(p, HF_TX_TTL);
	if (p->hook != TUN && ip->options)
		return pass(p, HF_TX_OPTIONS);
	if (!segments(p, ip, &traffic, &segment) || (p->gso_size && s->flags & HF_LENGTH))
		return pass(p, REASON(p, UNUSUAL, UNUSUAL));
	if (segment > s->mtu)
		return pass(p, REASON(p, TOO_BIG, TOO_BIG));
	if (flow) {
		hop = &flow->hop;
		if (hop->mtu && segment + overhead > hop->mtu)
			obstacle = TOO_BIG;
	} else {
		hop = &found;
		obstacle = find_peer(p, s, segment + overhead, &found);
		if (obstacle == NONE)
			remember_tx(p, key, ip->version, s, &found);
	}
	if (obstacle == TOO_BIG)
		return pass(p, REASON(p, TOO_BIG, TOO_BIG));
	if (obstacle == NO_ROUTE || (p->hook == TUN && hop->out_ifindex == p->ifindex))
		return pass(p, REASON(p, NO_ROUTE, NO_ROUTE));
	if (p->hook != TUN && obstacle == NO_NEIGHBOUR)
		return pass(p, HF_TX_NEIGHBOUR);
	if (obstacle == NO_PORT)
		return pass(p, HF_TX_PORT);
	if (s->flags & HF_CLAMP_MSS) /* before there is room: the kernel corrects checksums at even places only */
		clamp_mss(p, ip, s->mtu);
	if (trim(p, ip->at + ip->total) || !make_room(p, ip, overhead))
		return pass(p, REASON(p, UNUSUAL, UNUSUAL));
	if (p->hook == TC && forget_tag(p))
		return drop(p, HF_TX_REFUSED);
	if (!write_tunnel(p, s, ip->total))
		return drop(p, REASON(p, REFUSED, REFUSED));
	if (p->hook != TUN)
		decrease_ttl(p, ip->at, ip->version);
	show_tx(p, s);
	count_tx(s->slot, &traffic);
	if (p->hook == TUN)
		return send_to_neighbour(p, hop->out_ifindex);
	if (!write_link(p, hop, bpf_htons(ETH_P_IP)))
		return drop(p, HF_TX_REFUSED);
	return send(hop->out_ifindex, HF_TX_FORWARDED);
}

static __always_inline int to_peer_ipv4(struct packet *p, struct ip *ip)
{
	struct iphdr *header = p->data + p->ip;
	const struct hf_tx_flow *flow;
	const struct hf_subscriber *s;
	__u64 key;

	if ((void *)(header + 1) > p->end)
		return pass(p, p->hook == TUN ? HF_SLOW_UNUSUAL : HF_NOT_OURS);
	key = header->daddr;
	flow = known_tx(p, key, 4);
	s = flow ? &flow->subscriber : bpf_map_lookup_elem(&subscribers, &header->daddr);
	if (!s)
		return pass(p, p->hook == TUN ? HF_SLOW_NO_SESSION : HF_NOT_OURS);
	return encapsulate(p, s, ip, flow, key);
}

static __always_inline int to_peer_ipv6(struct packet *p, struct ip *ip)
{
	struct ipv6hdr *header = p->data + p->ip;
	struct hf_prefix prefix = { .length = 128 };
	const struct hf_tx_flow *flow;
	const struct hf_subscriber *s;
	__u64 key;

	if ((void *)(header + 1) > p->end)
		return pass(p, p->hook == TUN ? HF_SLOW_UNUSUAL : HF_NOT_OURS);
	__builtin_memcpy(prefix.address, &header->daddr, sizeof(prefix.address));
	__builtin_memcpy(&key, &header->daddr, sizeof(key));
	flow = known_tx(p, key, 6);
	s = flow ? &flow->subscriber : bpf_map_lookup_elem(&prefixes, &prefix);
	if (!s)
		return pass(p, p->hook == TUN ? HF_SLOW_NO_SESSION : HF_NOT_OURS);
	return encapsulate(p, s, ip, flow, key);
}

#endif
