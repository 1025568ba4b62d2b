/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * From a peer: data messages of our sessions lose their tunnel headers and go to the next hop. What needs the kernel's
 * attention (it is for ourselves, its TTL ends, no neighbour is known, ...) is left to the kernel decapsulated; in tc
 * it then seems to come from the TUN device, as if the daemon had forwarded it.
 */
#ifndef HOLDFAST_DECAP_H
#define HOLDFAST_DECAP_H

#include "capture.h"
#include "counters.h"
#include "daemon.h"
#include "echo.h"
#include "flows.h"
#include "mss.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV6 /* Linux 6.3; older headers do not name it */
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

static __always_inline enum hf_reason reason_of(enum obstacle obstacle)
{
	switch (obstacle) {
	case NO_NEIGHBOUR:
		return HF_RX_KERNEL_NEIGHBOUR;
	case TOO_BIG:
		return HF_RX_KERNEL_TOO_BIG;
	case NO_PORT:
		return HF_RX_KERNEL_PORT;
	default:
		return HF_RX_KERNEL_LOCAL;
	}
}

/* The TTL is one less, and the header's checksum right. The IP header begins at `at`. */
static __always_inline void decrease_ttl(struct packet *p, __u32 at, __u8 version)
{
	if (version == 4) {
		struct iphdr *ip = p->data + (at & REACH);
		__u32 check;

		if ((void *)(ip + 1) > p->end)
			return;
		check = ip->check + bpf_htons(0x0100);
		ip->check = check + (check >= 0xffff);
		ip->ttl--;
	} else {
		struct ipv6hdr *ip = p->data + (at & REACH);

		if ((void *)(ip + 1) <= p->end)
			ip->hop_limit--;
	}
}

/*
 * Removes all between the link header and the inner packet, and all behind the inner packet, which then begins at
 * p->ip. False if the kernel would not. Leaves data and end fresh.
 *
 * Without `keep_link`, in XDP, the link header with its tag goes too, and there is room for one without.
 */
static __always_inline bool remove_tunnel(struct packet *p, const struct ip *ip, bool keep_link)
{
	__u32 remove = ip->at - p->ip;
	struct ethhdr link, *eth = p->data;
	__be32 tag = 0, *to;
	__be16 protocol = ip->version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

	if (p->hook == XDP && !keep_link) {
		p->ip = sizeof(struct ethhdr);
		if (bpf_xdp_adjust_head(p->ctx, (int)ip->at - (int)p->ip))
			return false;
		reload(p);
	} else if (p->hook == XDP) {
		if ((void *)(eth + 1) > p->end)
			return false;
		link = *eth;
		if (p->ip != sizeof(link)) {
			to = (void *)(eth + 1);
			if ((void *)(to + 1) > p->end)
				return false;
			tag = *to;
		}
		if (bpf_xdp_adjust_head(p->ctx, remove))
			return false;
		reload(p);
		eth = p->data;
		if ((void *)(eth + 1) > p->end)
			return false;
		*eth = link;
		if (p->ip != sizeof(link)) {
			to = (void *)(eth + 1);
			if ((void *)(to + 1) > p->end)
				return false;
			*to = tag;
			((__be16 *)to)[1] = protocol;
		} else {
			eth->h_proto = protocol;
		}
	} else {
		__u64 flags = ip->version == 6 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV6 : 0;

		if (bpf_skb_adjust_room(p->ctx, -(int)remove, BPF_ADJ_ROOM_MAC, flags))
			return false;
		reload(p);
		eth = p->data;
		if ((void *)(eth + 1) > p->end)
			return false;
		eth->h_proto = protocol;
	}
	return !trim(p, p->ip + ip->total);
}

/* A VLAN tag belongs to the link that a packet came by. Leaves data and end fresh. */
static __always_inline int forget_tag(struct packet *p)
{
	int failed = 0;

	if (p->hook == XDP) {
		if (p->ip != sizeof(struct ethhdr)) {
			failed = bpf_xdp_adjust_head(p->ctx, VLAN_TAG);
			reload(p);
		}
	} else {
		struct __sk_buff *skb = p->ctx;

		if (skb->vlan_present) {
			failed = bpf_skb_vlan_pop(skb);
			reload(p);
		}
	}
	return failed;
}

/* To the kernel, decapsulated: by the interface that it came by, or as if it came from the TUN device. */
static __always_inline int finish_in_kernel(struct packet *p, enum hf_reason reason)
{
	if (p->hook == TC && p->config->tun_ifindex) {
		if (forget_tag(p))
			return drop(p, HF_RX_REFUSED);
		count(reason);
		return bpf_redirect(p->config->tun_ifindex, BPF_F_INGRESS);
	}
	return pass(p, reason);
}

static __always_inline bool link_local(const struct in6_addr *address)
{
	return (address->s6_addr32[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* Asks the kernel where an inner packet goes, and remembers it. */
static __always_inline enum obstacle find_out(const struct packet *p, const struct message *m,
					      const struct hf_session *session, const struct ip *ip, struct hf_hop *hop)
{
	struct bpf_fib_lookup fib = { .l4_protocol = ip->protocol, .tot_len = ip->total };
	const struct iphdr *v4 = p->data + (ip->at & REACH);
	const struct ipv6hdr *v6 = p->data + (ip->at & REACH);
	enum obstacle obstacle;

	if (ip->version == 4 && (void *)(v4 + 1) <= p->end) {
		fib.family = AF_INET;
		fib.tos = ip->tos;
		fib.ipv4_src = v4->saddr;
		fib.ipv4_dst = v4->daddr;
	} else if ((void *)(v6 + 1) <= p->end) {
		fib.family = AF_INET6;
		fib.flowinfo = *(const __be32 *)v6 & bpf_htonl(0x0fffffff);
		__builtin_memcpy(fib.ipv6_src, &v6->saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &v6->daddr, sizeof(fib.ipv6_dst));
	}
	obstacle = look_up(p, &fib, hop);
	if (obstacle == NONE && ip->version == 4)
		remember_rx(p, m, session, fib.ipv4_dst, hop);
	return obstacle;
}

/* The inner packet goes to the next hop. `flow`: what is known of its like, or NULL. */
static __always_inline int forward_inner(struct packet *p, const struct message *m, const struct hf_session *session,
					 struct ip *ip, const struct hf_rx_flow *flow)
{
	const struct traffic traffic = { .packets = 1, .bytes = ip->total };
	__be16 protocol = ip->version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	enum obstacle obstacle;
	enum hf_reason reason = HF_RX_FORWARDED;
	const struct hf_hop *hop;
	struct hf_hop found;

	if (ip->ttl <= 1) {
		reason = HF_RX_KERNEL_TTL;
	} else if (ip->options) {
		reason = HF_RX_KERNEL_OPTIONS;
	} else if (flow) {
		hop = &flow->hop;
		if (hop->mtu && ip->total > hop->mtu)
			reason = HF_RX_KERNEL_TOO_BIG;
	} else {
		hop = &found;
		obstacle = find_out(p, m, session, ip, &found);
		if (obstacle != NONE)
			reason = reason_of(obstacle);
	}
	show_rx(p, m, session);
	if (!remove_tunnel(p, ip, reason != HF_RX_FORWARDED))
		return drop(p, HF_RX_REFUSED);
	ip->at = p->ip;
	if (session->flags & HF_CLAMP_MSS)
		clamp_mss(p, ip, session->mtu);
	count_rx(session->slot, &traffic);
	if (reason != HF_RX_FORWARDED)
		return finish_in_kernel(p, reason);
	decrease_ttl(p, p->ip, ip->version);
	if (forget_tag(p) || !write_link(p, hop, protocol))
		return drop(p, HF_RX_REFUSED);
	return send(hop->out_ifindex, reason);
}

/* A packet of a session is dropped. */
static __always_inline int refuse(struct packet *p, const struct message *m, const struct hf_session *session,
				  enum hf_reason reason)
{
	show_rx(p, m, session);
	return drop(p, reason);
}

/* Inner IPv4: only from the subscriber's address. */
static __always_inline int decapsulate_ipv4(struct packet *p, const struct message *m, const struct iphdr *outer,
					    const struct udphdr *udp, const struct hf_session *session,
					    const struct hf_rx_flow *flow)
{
	struct iphdr *inner = p->data + (m->ppp & REACH);
	struct ip ip;

	if (!parse_ipv4(p, m->ppp, m->end - m->ppp, &ip) || (void *)(inner + 1) > p->end)
		return refuse(p, m, session, HF_RX_MALFORMED);
	if (inner->saddr != session->address)
		return refuse(p, m, session, HF_RX_SPOOFED);
	if ((inner->daddr & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000)) /* multicast, broadcast */
		return to_daemon(p, outer, udp, HF_RX_PPP);
	return forward_inner(p, m, session, &ip, flow);
}

/* Inner IPv6: only from the subscriber's prefix. What stays on its link (RFC 5072) is for the daemon. */
static __always_inline int decapsulate_ipv6(struct packet *p, const struct message *m, const struct iphdr *outer,
					    const struct udphdr *udp, const struct hf_session *session)
{
	struct ipv6hdr *inner = p->data + (m->ppp & REACH);
	__u64 prefix;
	struct ip ip;

	if (!parse_ipv6(p, m->ppp, m->end - m->ppp, &ip) || (void *)(inner + 1) > p->end)
		return refuse(p, m, session, HF_RX_MALFORMED);
	if (inner->daddr.s6_addr[0] == 0xff || link_local(&inner->daddr) || link_local(&inner->saddr))
		return to_daemon(p, outer, udp, HF_RX_PPP);
	prefix = (__u64)bpf_ntohl(inner->saddr.s6_addr32[0]) << 32 | bpf_ntohl(inner->saddr.s6_addr32[1]);
	if ((prefix ^ bpf_be64_to_cpu(session->prefix)) >> ((64 - session->prefix_length) & 63))
		return refuse(p, m, session, HF_RX_SPOOFED);
	return forward_inner(p, m, session, &ip, NULL);
}

static __always_inline bool is_local(__be32 address)
{
	return bpf_map_lookup_elem(&locals, &address);
}

/* A data message of a session, from wherever it came. */
static __always_inline int from_session(struct packet *p, const struct message *m, const struct iphdr *ip,
					const struct udphdr *udp, const struct hf_session *session,
					const struct hf_rx_flow *flow)
{
	if (session->peer_ip != ip->saddr || session->peer_port != udp->source)
		return drop(p, HF_RX_WRONG_PEER);
	if (session->flags & HF_TO_DAEMON)
		return to_daemon(p, ip, udp, HF_RX_TO_DAEMON);
	if (m->protocol == PPP_IPV4 && session->address)
		return decapsulate_ipv4(p, m, ip, udp, session, flow);
	if (m->protocol == PPP_IPV6 && session->prefix_length)
		return decapsulate_ipv6(p, m, ip, udp, session);
	if (is_echo_request(p, m, session))
		return answer_echo(p, m, session);
	return to_daemon(p, ip, udp, HF_RX_PPP);
}

/* A fragment of what may be L2TP to us: only the first shows its ports. The kernel puts them together. */
static __always_inline bool from_peer_in_fragments(struct packet *p, const struct iphdr *ip, int *verdict)
{
	struct udphdr *udp = (void *)(ip + 1);

	if (!is_local(ip->daddr))
		return false;
	if (ip->frag_off & IP_OFFSET) {
		*verdict = pass(p, HF_RX_FRAGMENT);
		return true;
	}
	if (ip->ihl != 5 || (void *)(udp + 1) > p->end || udp->dest != p->config->port)
		return false;
	*verdict = to_daemon(p, ip, udp, HF_RX_FRAGMENT);
	return true;
}

/* Whether an IPv4 packet that carries UDP, described by `outer`, is L2TP for us; then there is a verdict on it. */
static __always_inline bool from_peer(struct packet *p, const struct ip *outer, int *verdict)
{
	struct message m = { 0 };
	struct iphdr *ip = p->data + p->ip;
	struct udphdr *udp;
	const struct hf_session *session = NULL;
	const struct hf_rx_flow *flow = NULL;
	int problem;
	__u32 size;

	if ((void *)(ip + 1) > p->end)
		return false;
	if (ip->frag_off & IP_MORE_OR_OFFSET)
		return from_peer_in_fragments(p, ip, verdict);
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > p->end || udp->dest != p->config->port)
		return false;
	size = bpf_ntohs(udp->len);
	m.start = p->ip + ip->ihl * 4 + sizeof(*udp);
	if (size < sizeof(*udp) || size > outer->total - ip->ihl * 4)
		problem = HF_RX_MALFORMED;
	else if (p->gso_size || outer->options)
		problem = HF_RX_UNUSUAL;
	else if (parse_plain_message(p, size - sizeof(*udp), &m))
		problem = CONTINUE;
	else
		problem = parse_message(p, size - sizeof(*udp), &m);
	if (problem == CONTINUE) {
		flow = known_rx(p, &m);
		session = flow ? &flow->session : bpf_map_lookup_elem(&sessions, &m.ids);
	}
	if (session && (session->local_ip != ip->daddr || session->local_port != udp->dest))
		session = NULL;
	if (!session && !is_local(ip->daddr))
		return false;
	if (problem == HF_RX_MALFORMED)
		*verdict = drop(p, HF_RX_MALFORMED);
	else if (problem != CONTINUE)
		*verdict = to_daemon(p, ip, udp, problem);
	else if (!session)
		*verdict = to_daemon(p, ip, udp, HF_RX_NO_SESSION);
	else
		*verdict = from_session(p, &m, ip, udp, session, flow);
	return true;
}

#endif
