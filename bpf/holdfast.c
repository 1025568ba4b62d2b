// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * All programs in one object, so that they share maps. Only the stable structures of linux/ headers are used: one object
 * serves every kernel.
 */
#include "xdp.c"
#include "tc.c"

char _license[] SEC("license") = "Dual BSD/GPL";
