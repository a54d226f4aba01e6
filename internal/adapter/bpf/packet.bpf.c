//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The switchboard of packets: one program a direction for all sensors, because
 * each further one would be paid for by every packet of the host.
 *
 * A jump to a handler that is not there goes on behind it.
 */
#include "packet.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int hand(struct __sk_buff *skb, void *handlers)
{
	u32 at = 0;
	u8 protocol = protocol_of(skb, &at);

	if (protocol == IPPROTO_TCP) {
		if (is_stream(skb, at))
			bpf_tail_call(skb, handlers, PACKET_DNS);
		return 1;
	}
	if (!by_packets(protocol))
		return 1;
	bpf_tail_call(skb, handlers, PACKET_NETWORK);
	bpf_tail_call(skb, handlers, PACKET_DNS);
	return 1;
}

SEC("cgroup_skb/egress")
int on_packet_out(struct __sk_buff *skb)
{
	return hand(skb, &packets_out);
}

SEC("cgroup_skb/ingress")
int on_packet_in(struct __sk_buff *skb)
{
	return hand(skb, &packets_in);
}
