/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What the programs and the daemon share: keys and values of the maps, reasons, limits.
 *
 * Every structure has fixed widths, no hidden padding, and first its fields in network order (__be*), then
 * those in host order. Python's view is src/holdfast/dataplane/ebpf/abi.py; tests/dataplane/test_abi.py compares
 * every offset, size and number. A change of any of it raises HF_LAYOUT: maps of another layout are never read, but for
 * the counters of those that count alike (COUNTED_ALIKE there).
 *
 * Maps (names as in maps.h):
 *   sessions     HASH          hf_ids -> hf_session             by our own ids, for what comes from a peer
 *   subscribers  HASH          __be32 -> hf_subscriber          by IPv4 address, for what goes to a peer
 *   prefixes     LPM_TRIE      hf_prefix -> hf_subscriber       the same by IPv6 prefix
 *   counters     PERCPU_ARRAY  slot -> hf_counters              traffic of a session
 *   reasons      PERCPU_ARRAY  enum hf_reason -> __u64          what became of packets
 *   locals       HASH          __be32 -> __u32 (1)              our IPv4 addresses on which the daemon takes L2TP
 *   ports        ARRAY         ifindex % HF_PORTS -> hf_port    interfaces between which XDP may redirect
 *   rx_flows     PERCPU_ARRAY  hash -> hf_rx_flow               what was looked up, kept by the programs alone
 *   tx_flows     PERCPU_ARRAY  hash -> hf_tx_flow
 *   config       ARRAY         0 -> hf_config                   in memory that the daemon maps
 *   captures     RINGBUF       hf_capture                       packets of sessions that are traced
 *   capturing    PERCPU_ARRAY  0 -> hf_capture                  where they are put together
 */
#ifndef HOLDFAST_ABI_H
#define HOLDFAST_ABI_H

#include <linux/types.h>

#define HF_LAYOUT 2
#define HF_PORTS 256
#define HF_SNAP 2048		/* octets of a packet that a trace shows at most */
#define HF_CAPTURES (1 << 20)	/* octets of `captures` */

/* The ids in a data message that we receive. */
struct hf_ids {
	__be16 tunnel;
	__be16 session;
};

/* Flags of hf_session and hf_subscriber. */
enum hf_flag {
	HF_TO_DAEMON = 1,	/* sequenced, or otherwise not for the programs: all its packets go to the daemon */
	HF_CLAMP_MSS = 2,	/* lower the MSS of SYNs to what mtu carries */
	HF_ANSWER_ECHO = 4,	/* LCP is open: answer Echo-Requests, with magic */
	HF_ACFC = 8,		/* the peer takes frames without address and control (RFC 1661 6.6) */
	HF_PFC = 16,		/* the peer takes a protocol of one octet (RFC 1661 6.5) */
	HF_LENGTH = 32,		/* data headers to the peer carry Length (RFC 2661 3.1) */
	HF_TRACE = 64,		/* its packets are shown in `captures` */
};

/* A session seen from its peer. */
struct hf_session {
	__be32 peer_ip;
	__be32 local_ip;
	__be16 peer_port;
	__be16 local_port;
	__be16 peer_tunnel;
	__be16 peer_session;
	__be32 address;		/* the subscriber's, 0 for none: the only source of its IPv4 packets */
	__be32 magic;		/* ours, of LCP, 0 if none was agreed */
	__be64 prefix;		/* the subscriber's IPv6 prefix, its first 64 bits */
	__u32 slot;		/* of its counters */
	__u16 mtu;		/* the largest IP packet that the session carries */
	__u8 prefix_length;	/* 1 to 64; 0 while IPv6 is not open */
	__u8 flags;
};

/* A session seen from the core. */
struct hf_subscriber {
	__be32 local_ip;
	__be32 peer_ip;
	__be16 local_port;
	__be16 peer_port;
	__be16 peer_tunnel;
	__be16 peer_session;
	__be16 local_tunnel;	/* whose this address is: the key of its hf_session */
	__be16 local_session;
	__u32 slot;
	__u16 mtu;
	__u16 flags;
};

/* A key of `prefixes`; length counts the bits of address. */
struct hf_prefix {
	__u32 length;
	__u8 address[16];
};

/* Inner packets and their octets: rx from the peer, tx to it. */
struct hf_counters {
	__u64 rx_packets;
	__u64 rx_bytes;
	__u64 tx_packets;
	__u64 tx_bytes;
};

/* An interface of the fast path. XDP takes no frames on others, none for another MAC, and redirects to no others. */
struct hf_port {
	__u32 ifindex;
	__u8 mac[6];
	__u16 redirect;		/* 1: XDP frames may be redirected to it */
};

/* Where a packet goes, as bpf_fib_lookup said less than flow_life ago. */
struct hf_hop {
	__u32 in_ifindex;
	__u32 out_ifindex;
	__u32 stamp;		/* when, in jiffies */
	__u32 link[3];		/* the link addresses of its frame, destination first; words are moved faster than octets */
	__u16 generation;	/* of hf_config then, its lower half */
	__u16 mtu;		/* of the path, 0 for none known */
};

/* What was found out about IPv4 packets of a session to one destination. */
struct hf_rx_flow {
	struct hf_ids ids;
	__be32 destination;
	struct hf_session session;
	struct hf_hop hop;
	__u32 unused;
};

/* What was found out about packets to one subscriber. */
struct hf_tx_flow {
	__u64 key;		/* the address, or the first half of an IPv6 address */
	struct hf_subscriber subscriber;
	struct hf_hop hop;
	__u32 version;		/* of IP */
	__u32 unused;
};

struct hf_config {
	__be16 port;		/* the daemon's UDP port */
	__u16 unused;
	__u32 tun_ifindex;	/* decapsulated packets that the kernel must finish seem to arrive there (tc) */
	__u32 generation;	/* to change it empties rx_flows and tx_flows */
	__u32 flow_mask;	/* their entries in use, a power of two, minus 1 */
	__u32 flow_life;	/* how long these hold, in jiffies; 0: everything is looked up for every packet */
};

/*
 * A packet of a session with HF_TRACE, from its outer IP header on. Of `data` only `captured` octets are in the ring.
 * Packets that the daemon gets to see are not here.
 */
struct hf_capture {
	__be16 tunnel;		/* our ids */
	__be16 session;
	__u32 length;		/* of the packet, perhaps with octets of the link behind it */
	__u64 at_ns;		/* CLOCK_MONOTONIC */
	__u64 missed;		/* packets that found the ring full: on this CPU, since the maps were made */
	__u16 captured;
	__u16 to_peer;		/* 1: it goes to the peer */
	__u32 unused;
	__u8 data[HF_SNAP];
};

/*
 * What became of a packet, counted in `reasons`. RX came from a peer, TX goes to one, SLOW are TX packets that the
 * kernel routed to the TUN device. Only packets of *_FORWARDED and RX_KERNEL_* move counters of a session.
 */
enum hf_reason {
	/* From a peer, forwarded: decapsulated and sent to the next hop. */
	HF_RX_FORWARDED,
	/* From a peer, decapsulated, and left to the kernel, which routes or answers it. */
	HF_RX_KERNEL_LOCAL,		/* for ourselves, or no unicast route: the kernel knows what to do */
	HF_RX_KERNEL_TTL,		/* its TTL or hop limit ends here */
	HF_RX_KERNEL_OPTIONS,		/* IPv4 options, IPv6 hop-by-hop options */
	HF_RX_KERNEL_NEIGHBOUR,		/* the next hop's link address is not known */
	HF_RX_KERNEL_TOO_BIG,		/* larger than the path */
	HF_RX_KERNEL_PORT,		/* XDP cannot send on the interface that it leaves by */
	/* From a peer, answered by the program. */
	HF_RX_ECHO,			/* LCP Echo-Request */
	/* From a peer, unmodified to the daemon's socket. */
	HF_RX_CONTROL,			/* a control message */
	HF_RX_PPP,			/* PPP that is not IP of an open protocol, or link-local or multicast IP */
	HF_RX_NO_SESSION,		/* ids of no session */
	HF_RX_TO_DAEMON,		/* a session with HF_TO_DAEMON */
	HF_RX_FRAGMENT,			/* a fragment of an outer packet */
	HF_RX_UNUSUAL,			/* another version, outer IP options, a long pad, a burst of datagrams in one buffer */
	/* From a peer, dropped. */
	HF_RX_MALFORMED,		/* no data message of RFC 2661 3.1, or no whole IP packet in it */
	HF_RX_WRONG_PEER,		/* not from the address and port of the session's peer */
	HF_RX_SPOOFED,			/* the inner source is not the subscriber's */
	HF_RX_UNHEARD,			/* for the daemon, and no socket listens: ICMP must not tell the peer */
	HF_RX_REFUSED,			/* the kernel would not change or send the packet */
	/* To a peer, forwarded: encapsulated and sent to the next hop. */
	HF_TX_FORWARDED,
	/* To a peer, unmodified to the kernel, which answers it or routes it to the TUN device. */
	HF_TX_TTL,
	HF_TX_OPTIONS,
	HF_TX_TOO_BIG,
	HF_TX_NEIGHBOUR,
	HF_TX_NO_ROUTE,			/* the peer cannot be reached by a unicast route */
	HF_TX_PORT,
	HF_TX_TO_DAEMON,
	HF_TX_UNUSUAL,			/* a burst that no tunnel header can be put before, or a header that lies */
	HF_TX_REFUSED,			/* dropped: the kernel would not change or send the packet */
	/* Routed to the TUN device: encapsulated, or left to the daemon that reads the device. */
	HF_SLOW_FORWARDED,
	HF_SLOW_NO_SESSION,
	HF_SLOW_TOO_BIG,
	HF_SLOW_NO_ROUTE,
	HF_SLOW_TO_DAEMON,
	HF_SLOW_UNUSUAL,
	HF_SLOW_REFUSED,		/* dropped */
	/* Not ours: passed unmodified. */
	HF_NOT_OURS,			/* of no subscriber and not for our L2TP, or no IP at all */
	HF_NOT_TO_US,			/* for another MAC, or on an interface that is not in `ports` */
	HF_REASONS,
};

#endif
