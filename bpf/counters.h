/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The traffic of a session, in inner IP packets. A burst that one buffer holds counts as the packets it becomes.
 */
#ifndef HOLDFAST_COUNTERS_H
#define HOLDFAST_COUNTERS_H

#include "parse.h"

struct traffic {
	__u32 packets;
	__u32 bytes;
};

static __always_inline void count_rx(__u32 slot, const struct traffic *traffic)
{
	struct hf_counters *counter = bpf_map_lookup_elem(&counters, &slot);

	if (counter) {
		counter->rx_packets += traffic->packets;
		counter->rx_bytes += traffic->bytes;
	}
}

static __always_inline void count_tx(__u32 slot, const struct traffic *traffic)
{
	struct hf_counters *counter = bpf_map_lookup_elem(&counters, &slot);

	if (counter) {
		counter->tx_packets += traffic->packets;
		counter->tx_bytes += traffic->bytes;
	}
}

#endif
