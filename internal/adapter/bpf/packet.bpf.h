/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets: what passes the root of the cgroups, and who looks at it.
 *
 * One program for each direction sits there (packet.bpf.c) and jumps to the
 * handlers of what is not plain TCP. Handlers are programs of cgroups like it.
 * They stand in the order of packet_handler, and each jumps to the next.
 */
#ifndef CASTELLAN_PACKET_BPF_H
#define CASTELLAN_PACKET_BPF_H

#include "socket.bpf.h"

enum packet_handler { PACKET_NETWORK, PACKET_DNS, PACKET_HANDLERS };

/* A table for each direction: newer kernels keep programs of different
 * directions apart. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PACKET_HANDLERS);
	__type(key, u32);
	__type(value, u32);
} packets_out SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PACKET_HANDLERS);
	__type(key, u32);
	__type(value, u32);
} packets_in SEC(".maps");

/* by_packets tells protocols that are followed by their packets; TCP is not. */
static __always_inline bool by_packets(u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* is_stream tells packets of TCP that may carry DNS. It runs for every one. */
static __always_inline bool is_stream(struct __sk_buff *skb, u32 at)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __be32 docker = bpf_htonl(0x7f00000b);
	struct ip_head *ip = data;
	__be16 *ports;

	at &= 0x3f; /* it is so: the verifier wants to see it */
	ports = data + at;
	if ((void *)(ports + 2) > end || (void *)(ip + 1) > end)
		return false;
	if (ports[0] == bpf_htons(DNS_PORT) || ports[1] == bpf_htons(DNS_PORT))
		return true;
	return at < IP6_HEAD && (ip->from == docker || ip->to == docker);
}

#endif
