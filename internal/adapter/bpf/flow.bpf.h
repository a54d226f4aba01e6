/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Flows of the network sensor: what goes between a socket without connections
 * (UDP, ping) and one peer. It is a part of network.bpf.c, with what that
 * declares before.
 */
#ifndef CASTELLAN_FLOW_BPF_H
#define CASTELLAN_FLOW_BPF_H

/* What goes between a socket without connections and one peer. The loader
 * removes flows that are idle, and tells their bytes. */
struct flow_key {
	u64 cookie; /* of the socket: never used again */
	u8 address[16];
	u16 port; /* 0: the peer began, and its ports are not told apart */
	u16 protocol;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct flow_key);
	__type(value, struct tracked);
} flows SEC(".maps");

/* A flow to begin with: what is put together on the stack of a program that
 * looks at packets must be small. Never written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tracked);
} blank SEC(".maps");

/* new_flow follows what goes between a socket and a peer that it had nothing to
 * do with yet. What comes to a socket belongs to whoever bound it; if nobody
 * did, it is an answer to what was sent before the sensor. */
static __always_inline struct tracked *new_flow(struct flow_key *key, struct packet *p,
						struct sock *sk, bool sends)
{
	struct socket_key binding = { (u64)sk, 0 };
	struct tracked *t, *by;
	u32 zero = 0;

	if (sends) {
		by = bpf_map_lookup_elem(&blank, &zero);
	} else {
		binding.inode = inode_of(sk);
		by = bpf_map_lookup_elem(&bindings, &binding);
	}
	if (!by)
		return NULL;
	if (bpf_map_update_elem(&flows, key, by, BPF_NOEXIST)) {
		count_lost();
		return NULL;
	}
	t = bpf_map_lookup_elem(&flows, key);
	if (!t)
		return NULL;
	set_place(&t->r.place, sk);
	__builtin_memcpy(t->r.place.remote, key->address, 16);
	__builtin_memcpy(t->r.place.local, sends ? p->from : p->to, 16);
	t->r.place.remote_port = sends ? key->port : p->from_port;
	t->r.protocol = key->protocol;
	if (!sends)
		t->r.head.flags |= FLAG_INCOMING;
	t->since = bpf_ktime_get_boot_ns();
	t->last = t->since;
	return t;
}

/* set_peer writes the address that a connected socket has as its peer's, as it
 * was asked for, before any translation; false for one that is not connected. */
static __always_inline bool set_peer(struct flow_key *key, struct sock *sk)
{
	key->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET)
		map_ip4(key->address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else if (bpf_core_field_exists(struct sock_common, skc_v6_daddr))
		bpf_core_read(key->address, 16, &sk->__sk_common.skc_v6_daddr);
	return key->port || has_address(key->address);
}

static __always_inline void set_flow_key(struct flow_key *key, struct sock *sk, struct packet *p,
					 bool sends)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->protocol = p->protocol;
	if (!set_peer(key, sk)) {
		__builtin_memcpy(key->address, sends ? p->to : p->from, 16);
		key->port = sends ? p->to_port : p->from_port;
	}
	if (p->protocol != IPPROTO_UDP)
		key->port = 0; /* ping has none */
}

/* find_flow leaves the port in the key as it was, unless the peer began. */
static __always_inline struct tracked *find_flow(struct flow_key *key)
{
	struct tracked *t = bpf_map_lookup_elem(&flows, key);
	u16 port = key->port;

	if (t || !port)
		return t;
	key->port = 0;
	t = bpf_map_lookup_elem(&flows, key);
	if (!t)
		key->port = port;
	return t;
}

/* How a flow is looked at while it goes on: at the end of each so many packets, if
 * they took no longer than BURST_TIME (1,000 a second), and hardly one in ten was
 * answered. Then they are told, of each flow once in that time. */
#define BURST_PACKETS 10000
#define BURST_TIME 10000000000ull

/* A flow as it was when last looked at. One that is pushed out begins anew. */
struct burst {
	u64 at;
	u64 told;
	u64 sent;
	u64 received;
	u64 packets_sent;
	u64 packets_received;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow_key);
	__type(value, struct burst);
} bursts SEC(".maps");

/* tell_burst sends what went since the flow was last looked at. There is no place
 * for it but the ring: what is sent can interrupt what is sent. */
static __always_inline bool tell_burst(struct tracked *t, struct burst *was, u64 now)
{
	u32 which = COUNT_SENT;
	struct connection *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	u64 *n;

	if (!r) {
		count_lost();
		return false;
	}
	__builtin_memcpy(r, &t->r, sizeof(*r));
	r->head.kind = KIND_FLOW;
	r->head.time = now;
	r->head.repeat = 0;
	r->sent -= was->sent;
	r->received -= was->received;
	r->packets_sent -= was->packets_sent;
	r->packets_received -= was->packets_received;
	r->duration = now - was->at;
	bpf_ringbuf_submit(r, 0);
	n = bpf_map_lookup_elem(&counters, &which);
	if (n)
		__sync_fetch_and_add(n, 1);
	return true;
}

/* look_at_burst is called for one of some BURST_PACKETS packets. */
static __noinline int look_at_burst(struct flow_key *key, struct tracked *t)
{
	u64 now = bpf_ktime_get_boot_ns(), packets, answers;
	struct burst fresh = {}, *was;

	if (!key || !t)
		return 0;
	t->looked = t->r.packets_sent;
	was = bpf_map_lookup_elem(&bursts, key);
	if (!was) {
		fresh.at = t->since ? t->since : now;
		was = &fresh;
	}
	packets = t->r.packets_sent - was->packets_sent;
	answers = t->r.packets_received - was->packets_received;
	if (now - was->at < BURST_TIME && answers * 10 <= packets &&
	    (!was->told || now - was->told >= BURST_TIME) && tell_burst(t, was, now))
		was->told = now;
	fresh.at = now;
	fresh.told = was->told;
	fresh.sent = t->r.sent;
	fresh.received = t->r.received;
	fresh.packets_sent = t->r.packets_sent;
	fresh.packets_received = t->r.packets_received;
	bpf_map_update_elem(&bursts, key, &fresh, BPF_ANY);
	return 0;
}

static __always_inline void count_packet(struct tracked *t, u32 bytes, u32 packets, bool sends)
{
	t->last = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(sends ? &t->r.sent : &t->r.received, bytes);
	__sync_fetch_and_add(sends ? &t->r.packets_sent : &t->r.packets_received, packets);
}

/* follow counts a packet, and returns the flow if it is a new one. */
static __noinline struct tracked *follow(struct __sk_buff *skb, u32 at, u32 protocol, bool sends)
{
	struct packet p = { .protocol = protocol };
	struct tracked *t, *fresh = NULL;
	struct flow_key key;
	struct sock *sk;

	if (!skb->sk)
		return NULL;
	sk = address_of(skb->sk);
	if (BPF_CORE_READ(sk, sk_type) != SOCK_DGRAM || !read_packet(skb, at, &p))
		return NULL;
	set_flow_key(&key, sk, &p, sends);
	key.cookie = bpf_get_socket_cookie(skb);
	t = find_flow(&key);
	if (!t) {
		if (!sends)
			key.port = 0;
		t = fresh = new_flow(&key, &p, sk, sends);
	}
	if (!t)
		return NULL;
	count_packet(t, skb->len - at - 8, skb->gso_segs ? skb->gso_segs : 1, sends);
	if (sends && (u32)t->r.packets_sent - t->looked >= BURST_PACKETS)
		look_at_burst(&key, t);
	return fresh;
}

#endif
