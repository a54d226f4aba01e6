/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets and packets: the kernel's types of them, as in kernel.bpf.h, and how
 * addresses are read. All addresses are 16 bytes; those of IPv4 are mapped
 * (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2).
 */
#ifndef CASTELLAN_SOCKET_BPF_H
#define CASTELLAN_SOCKET_BPF_H

#include "family.bpf.h"
#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/* include/linux/in.h, tcp_states.h: never changed. */
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define IPPROTO_MPTCP 262
#define DNS_PORT 53 /* RFC 1035 section 4.2 */
#define SOCK_BINDPORT_LOCK 8 /* include/net/sock.h: the port was asked for */
#define SOCK_DONE 1	     /* bit of sk_flags: the peer's FIN came */
#define SOCKFS_MAGIC 0x534F434B
#define S_IFMT 00170000
#define S_IFSOCK 0140000

/* include/uapi/asm-generic/errno*.h and include/linux/errno.h */
#define EINTR 4
#define EBADF 9
#define EAGAIN 11
#define EFAULT 14
#define ENOTSOCK 88
#define EISCONN 106
#define EALREADY 114
#define EINPROGRESS 115
#define ECANCELED 125
#define ERESTARTSYS 512 /* the first of those that no process sees */

enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

typedef enum { SS_FREE, SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED } socket_state;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	s64 counter;
} atomic64_t;

struct net {
	struct ns_common ns;
};

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr; /* with CONFIG_IPV6 */
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	unsigned int sk_userlocks : 4; /* a byte of its own since 5.15 */
	int sk_err;
	struct socket *sk_socket;
	u16 sk_protocol;
	u16 sk_type;
	u32 sk_max_ack_backlog;
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	u32 segs_in;
	u32 segs_out;
	u64 bytes_received;
	u64 bytes_sent;	   /* retransmissions included */
	u64 bytes_retrans;
};

struct mptcp_sock { /* since 5.6, with CONFIG_MPTCP */
	struct sock *first;
};

struct socket {
	socket_state state;
	struct file *file;
	struct sock *sk;
};

struct bpf_iter__task_file { /* since 5.8 */
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* include/uapi/linux/bpf.h: what programs of packets are given. The layout is
 * the kernel's interface. */
struct bpf_sock;

struct __sk_buff {
	u32 len;
	u32 skipped[18];
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 socks[13];
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	struct bpf_sock *sk;
};

_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "include/uapi/linux/bpf.h");
_Static_assert(__builtin_offsetof(struct __sk_buff, data_meta) == 140, "include/uapi/linux/bpf.h");
_Static_assert(__builtin_offsetof(struct __sk_buff, sk) == 168, "include/uapi/linux/bpf.h");

/* One end of a connection or both, as records have them. */
struct place {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u32 netns;
};

static __always_inline void map_ip4(u8 *address, __be32 ip)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &ip, 4);
}

/* set_place reads where a socket is. Its own port is skc_num, which is zero
 * again when it is closed. */
static __always_inline void set_place(struct place *p, struct sock *sk)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	p->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	p->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		map_ip4(p->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		map_ip4(p->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else if (bpf_core_field_exists(struct sock_common, skc_v6_daddr)) {
		bpf_core_read(p->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(p->remote, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

/* socket_of returns the socket of an open file, or NULL for another file. */
static __always_inline struct sock *socket_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK ||
	    BPF_CORE_READ(inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline bool is_inet(struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	return family == AF_INET || family == AF_INET6;
}

/* inode_of returns the number of a socket's inode: it is given to no other
 * socket for four thousand million. 0 when no file has it any more. */
static __always_inline u64 inode_of(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
}

static __always_inline bool has_address(const u8 *address)
{
	const u64 *half = (const void *)address;

	return half[1] != bpf_cpu_to_be64(0xffffull << 32) && (half[0] || half[1]);
}

/* is_asked_about tells the protocols of which programs of cgroups are asked whom a socket
 * connects with and sends to. */
static __always_inline bool is_asked_about(u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_MPTCP;
}

/* What a packet says, ports in host order. */
struct packet {
	u8 from[16];
	u8 to[16];
	u16 from_port;
	u16 to_port;
	u32 payload; /* where it begins, from the IP header */
	u8 protocol;
};

struct ip_head {
	u8 version_and_words;
	u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	u8 ttl;
	u8 protocol;
	__be16 checksum;
	__be32 from;
	__be32 to;
};

struct ip6_head {
	__be32 version;
	__be16 length;
	u8 next;
	u8 hops;
	u8 from[16];
	u8 to[16];
};

#define MORE_OR_OFFSET 0x3fff /* of ip_head.fragment: not the whole datagram */
#define IP4_HEAD 20
#define IP6_HEAD 40

/* protocol_of returns the protocol of a packet and where its head begins; 0
 * when it is of no interest. Extension headers of IPv6 are not followed. It
 * comes first for every packet of the host, so it does as little as it can. */
static __always_inline u8 protocol_of(struct __sk_buff *skb, u32 *at)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ip_head *ip = data;

	if ((void *)(ip + 1) > end)
		return 0;
	if (ip->version_and_words >> 4 == 4) {
		*at = (ip->version_and_words & 0xf) * 4;
		return ip->protocol;
	}
	*at = IP6_HEAD;
	return ((struct ip6_head *)data)->next;
}

/* read_packet reads addresses and the first four bytes of what is at "at",
 * which are the ports of TCP and UDP. */
static __always_inline bool read_packet(struct __sk_buff *skb, u32 at, struct packet *p)
{
	struct ip_head ip;
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return false;
	if (ip.version_and_words >> 4 == 4) {
		if (ip.fragment & bpf_htons(MORE_OR_OFFSET))
			return false;
		map_ip4(p->from, ip.from);
		map_ip4(p->to, ip.to);
	} else if (bpf_skb_load_bytes(skb, 8, p->from, 16) ||
		   bpf_skb_load_bytes(skb, 24, p->to, 16)) {
		return false;
	}
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return false;
	p->from_port = bpf_ntohs(ports[0]);
	p->to_port = bpf_ntohs(ports[1]);
	return true;
}

/* address_of returns a pointer as a number: those of the context may not be
 * reckoned with. */
static __always_inline struct sock *address_of(struct bpf_sock *sk)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return (struct sock *)address;
}

#endif
