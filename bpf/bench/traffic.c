// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * What the benchmark puts around the programs: a generator, a sink, the floor (a program that only redirects), and a
 * frame that is made anew for every run of a program alone. Python's side is src/holdfast/lab/bench/dataplane/traffic.py.
 *
 * Up is an L2TP data message with a UDP packet of the subscriber inside, down a UDP packet for the subscriber. Session
 * n has the session id n and the address of the template plus n; sessions take turns.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TEMPLATE 72	/* Ethernet 14, outer IPv4 20, UDP 8, L2TP 6, PPP 4, inner IPv4 20 */
#define UP_SESSION 46
#define UP_CHECKSUM 62
#define UP_ADDRESS 66	/* the lower half of the inner source */
#define DOWN_CHECKSUM 24
#define DOWN_ADDRESS 32	/* the lower half of the destination */
#define ROOM 64		/* octets before a frame that is sent, for headers */
#define CHUNK 512	/* packets between two times that the sink notes; both numbers are powers of two */
#define CHUNKS 1024

struct stream {
	__u32 out_ifindex;
	__u32 sessions;
	__u32 next;
	__u32 sum;	/* of the IP header with the address that changes, without its lower half and the checksum */
	__u32 length;	/* of a frame */
	__u32 unused;
	__u64 header[TEMPLATE / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stream);
} stream SEC(".maps");

/* Where the floor redirects to. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} away SEC(".maps");

/* The length of the frames that the sink expects. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} expected SEC(".maps");

/* What the sink got: 0 frames of that length, 1 others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* When the sink had got so many frames as expected: in place n the latest multiple of CHUNK that is n modulo CHUNKS. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CHUNKS);
	__type(key, __u32);
	__type(value, __u64);
} times SEC(".maps");

/* The program that runs alone. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} alone SEC(".maps");

static __always_inline struct stream *get_stream(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&stream, &key);
}

static __always_inline __u32 length_of(const struct xdp_md *ctx)
{
	__u64 length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	barrier_var(length); /* else clang computes with halves of pointers */
	return length;
}

/* Writes the headers of the next session's packet: others have changed them since. */
static __always_inline bool fill(struct xdp_md *ctx, struct stream *s, bool up)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 number = s->next + 1, sum = s->sum + number;
	__u64 *to = data;

	if (data + TEMPLATE > end)
		return false;
	s->next = number < s->sessions ? number : 0;
#pragma unroll
	for (int i = 0; i < TEMPLATE / 8; i++)
		to[i] = s->header[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(__be16 *)(data + (up ? UP_CHECKSUM : DOWN_CHECKSUM)) = bpf_htons(~sum);
	*(__be16 *)(data + (up ? UP_ADDRESS : DOWN_ADDRESS)) = bpf_htons(number);
	if (up)
		*(__be16 *)(data + UP_SESSION) = bpf_htons(number);
	return true;
}

static __always_inline int generate(struct xdp_md *ctx, bool up)
{
	struct stream *s = get_stream();

	if (!s || bpf_xdp_adjust_head(ctx, ROOM) || !fill(ctx, s, up))
		return XDP_ABORTED;
	return bpf_redirect(s->out_ifindex, 0);
}

SEC("xdp")
int generate_up(struct xdp_md *ctx)
{
	return generate(ctx, true);
}

SEC("xdp")
int generate_down(struct xdp_md *ctx)
{
	return generate(ctx, false);
}

/* A frame as it was before the program moved its head, and then the program. */
static __always_inline int again(struct xdp_md *ctx, bool up)
{
	struct stream *s = get_stream();

	if (!s || bpf_xdp_adjust_head(ctx, (int)length_of(ctx) - (int)s->length) || !fill(ctx, s, up))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &alone, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int again_up(struct xdp_md *ctx)
{
	return again(ctx, true);
}

SEC("xdp")
int again_down(struct xdp_md *ctx)
{
	return again(ctx, false);
}

SEC("xdp")
int nothing(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

SEC("xdp")
int only_redirect(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 key = 0, *to = bpf_map_lookup_elem(&away, &key);

	return to ? bpf_redirect(*to, 0) : XDP_ABORTED;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u32 key = 0, *wanted = bpf_map_lookup_elem(&expected, &key);
	__u64 *counter, *time;

	key = !wanted || length_of(ctx) != *wanted;
	counter = bpf_map_lookup_elem(&seen, &key);
	if (!counter)
		return XDP_DROP;
	*counter += 1;
	if (key == 0 && *counter % CHUNK == 0) {
		key = *counter / CHUNK % CHUNKS;
		time = bpf_map_lookup_elem(&times, &key);
		if (time)
			*time = bpf_ktime_get_ns();
	}
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
