//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The network sensor: connections and who has them.
 *
 * TCP is followed by inet_sock_set_state (since 4.16), which sees every way to
 * connect and to end. SYN_SENT is set in the caller's context: there the socket
 * gets its owner, and what happens to it later, in whatever context, is told as
 * that one's. UDP and ping sockets are followed by the packets that pass the
 * root of the cgroups: a peer is new when the first one is sent to it.
 */
/* What is told of a socket is often told in an interrupt, where speak may not
 * be used: the process is told of where it acts itself. */
#define SPEAKS_ITSELF
#include "sensor.bpf.h"
#include "syscall.bpf.h"
#include "window.bpf.h"
#include "packet.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind {
	KIND_CONNECT = 1,
	KIND_ACCEPT,
	KIND_LISTEN,
	KIND_CLOSE,
	KIND_RAW,
	KIND_FLOW, /* many packets at once; of a flow that goes on */
	KIND_UNIX, /* struct local_connection */
	KIND_STDIO,
};

enum flag {
	FLAG_INCOMING = 1 << 8,
	FLAG_RESUMED = 1 << 9,
};

struct connection {
	struct header head;
	struct place place;
	u16 protocol;
	u16 family; /* for KIND_RAW; for KIND_STDIO the descriptor */
	u32 error;
	u64 ending; /* id of struct endings that sums up what is alike */
	u64 sent;
	u64 received;
	u64 packets_sent;
	u64 packets_received;
	u64 duration;
};

/* What makes two events alike. Ports that are chosen anew for every connection
 * are zero in it. */
struct peer_key {
	struct cgroup_key cgroup; /* of the container; zeros for the host */
	u64 doer;
	u8 address[16];
	u16 port;
	u16 error;
	u16 protocol;
	u8 kind;
	u8 incoming;
};

WINDOW(struct peer_key, 8192);

enum phase { PHASE_CONNECTING = 1, PHASE_OPEN };

/* A socket that is followed, or a flow of packets. It holds the record that is
 * sent in the end, because then the running process is anyone. */
struct tracked {
	struct connection r;
	struct cgroup_key cgroup;
	u64 doer;
	u64 since; /* when it was opened; 0: before the sensor */
	u64 last;  /* when a packet was counted; of flows */
	u32 phase;
	u32 looked; /* of flows: packets_sent, cut, when it was last looked at */
};

/* TCP sockets that are connecting or open, by address. An entry ends with its
 * connection. When it is full, what is new is counted as lost. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, u64);
	__type(value, struct tracked);
} socks SEC(".maps");

/* Sockets, by inode, whose failure to connect was told by their state: connect
 * returns it as well, then or at the next call. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u8);
} failures SEC(".maps");

/* Connections that ended and are alike: the first one is told with its own
 * numbers, those of the others are added up. The loader tells and removes them
 * by the same rules as in window.bpf.h. */
struct endings {
	u64 id;
	u64 since;
	u64 last;
	u64 count; /* raised last: the sums of what it counts are there */
	u64 sent;
	u64 received;
	u64 packets_sent;
	u64 packets_received;
	u64 duration;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct peer_key);
	__type(value, struct endings);
} ended SEC(".maps");

/* A socket by address and inode: addresses are used again. */
struct socket_key {
	u64 sock;
	u64 inode; /* 0: without a file, as those that MPTCP has below */
};

/* Those that wait for others and were told: by the call that made them so, or
 * by the iterator, whichever saw it first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct socket_key);
	__type(value, u8);
} listeners SEC(".maps");

/* Who bound a UDP socket to a port. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct socket_key);
	__type(value, struct tracked);
} bindings SEC(".maps");

const enum kind *unused_kind __attribute__((unused));
const enum flag *unused_flag __attribute__((unused));
const struct connection *unused_connection __attribute__((unused));
const struct tracked *unused_tracked __attribute__((unused));
const struct endings *unused_endings __attribute__((unused));
const struct peer_key *unused_peer_key __attribute__((unused));

static __always_inline void count_lost(void)
{
	u32 which = COUNT_LOST;
	u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* Where what the running process does is put together: it does not fit on the
 * stack beside what finds the container. Tracepoints run with preemption off,
 * and what interrupts them never uses it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tracked);
} slots SEC(".maps");

/* speak_first tells the beginning of the running process, if that is not told. */
static __always_inline void speak_first(void)
{
	struct task_struct *leader = current_leader();

	speak(BPF_CORE_READ(leader, start_boottime), BPF_CORE_READ(leader, tgid));
}

/* set_owner makes a process the owner of what t follows. */
static __always_inline void set_owner(struct tracked *t, struct task_struct *leader)
{
	struct container *c = find_container(leader);

	fill_read(&t->r.head, SENSOR_NETWORK, leader, c);
	if (c)
		t->cgroup = c->cgroup;
	/* Of the host by program: it talks too much to be told by process. */
	t->doer = c ? doer(leader) : BPF_CORE_READ(leader, mm, exe_file, f_inode, i_ino);
}

/* own_current returns what is the running process's; NULL never happens. */
static __always_inline struct tracked *own_current(void)
{
	u32 zero = 0;
	struct tracked *t = bpf_map_lookup_elem(&slots, &zero);

	if (!t)
		return NULL;
	__builtin_memset(t, 0, sizeof(*t));
	speak_first();
	set_owner(t, current_leader());
	return t;
}

static __always_inline void set_key(struct peer_key *key, struct tracked *t, enum kind kind)
{
	bool incoming = t->r.head.flags & FLAG_INCOMING;

	__builtin_memset(key, 0, sizeof(*key));
	key->cgroup = t->cgroup;
	key->doer = t->doer;
	if (kind != KIND_LISTEN && kind != KIND_RAW)
		__builtin_memcpy(key->address, t->r.place.remote, 16);
	key->port = incoming || kind == KIND_LISTEN ? t->r.place.local_port :
						      t->r.place.remote_port;
	if (kind == KIND_RAW)
		key->port = t->r.family;
	key->error = t->r.error;
	key->protocol = t->r.protocol;
	key->kind = kind;
	key->incoming = kind == KIND_STDIO ? t->r.family : incoming;
}

/* tell sends what t says, unless it was told a moment ago. */
static __noinline int tell(struct tracked *t, u32 kind)
{
	struct peer_key key;
	u64 id;

	if (!t)
		return 0;
	set_key(&key, t, kind);
	id = once(&window, &key);
	if (id == COUNTED)
		return 0;
	t->r.head.kind = kind;
	t->r.head.time = bpf_ktime_get_boot_ns();
	submit_once(&window, &key, id, &t->r, sizeof(t->r));
	return 0;
}

/* -- TCP: the end ----------------------------------------------------------- */

static __always_inline void set_bytes(struct connection *r, struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;

	r->sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
	r->received = BPF_CORE_READ(tcp, bytes_received);
	/* The kernel counts the peer's FIN as one byte. */
	if (r->received && BPF_CORE_READ(sk, __sk_common.skc_flags) & (1 << SOCK_DONE))
		r->received--;
	r->packets_sent = BPF_CORE_READ(tcp, segs_out);
	r->packets_received = BPF_CORE_READ(tcp, segs_in);
}

/* tell_end sends the end of a connection, or adds it to those like it. */
static __noinline int tell_end(struct tracked *t)
{
	u64 now = bpf_ktime_get_boot_ns(), length = window_length();
	struct endings fresh = {}, *e;
	struct peer_key key;

	if (!t)
		return 0;
	set_key(&key, t, KIND_CLOSE);
	t->r.head.kind = KIND_CLOSE;
	t->r.head.time = now;
	t->r.head.repeat = 0; /* it still is that of the beginning */
	t->r.duration = t->since ? now - t->since : 0;
	e = length ? bpf_map_lookup_elem(&ended, &key) : NULL;
	if (e && e->since && now - e->since < length) {
		__sync_fetch_and_add(&e->sent, t->r.sent);
		__sync_fetch_and_add(&e->received, t->r.received);
		__sync_fetch_and_add(&e->packets_sent, t->r.packets_sent);
		__sync_fetch_and_add(&e->packets_received, t->r.packets_received);
		__sync_fetch_and_add(&e->duration, t->r.duration);
		e->last = now;
		__sync_fetch_and_add(&e->count, 1);
		return 0;
	}
	if (e) {
		e->since = now;
		t->r.ending = e->id;
	} else if (length) {
		fresh.id = ((u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32()) | 1;
		fresh.since = now;
		fresh.last = now;
		if (!bpf_map_update_elem(&ended, &key, &fresh, BPF_NOEXIST))
			t->r.ending = fresh.id;
	}
	if (submit(&t->r, sizeof(t->r)) || !t->r.ending)
		return 0;
	e = bpf_map_lookup_elem(&ended, &key);
	if (e)
		e->since = 0; /* the next like it is to be sent */
	return 0;
}

/* tell_failure tells why a connection was not made. What connect returns at
 * once is left to on_connect, which is told by nothing else. */
static __noinline int tell_failure(struct tracked *t, u64 address)
{
	struct sock *sk = (void *)address;
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);
	u64 inode = inode_of(sk);
	u8 yes = 1;

	if (!t)
		return 0;
	t->r.error = BPF_CORE_READ(sk, sk_err);
	if (t->r.error && inode)
		bpf_map_update_elem(&failures, &inode, &yes, BPF_ANY);
	if (!t->r.error) {
		if (socket && BPF_CORE_READ(socket, state) == SS_UNCONNECTED)
			return 0;
		t->r.error = ECANCELED; /* the process gave up */
	}
	return tell(t, KIND_CONNECT);
}

/* finish ends what is known of a socket. The first to remove it tells: it can
 * close while accept is still being looked at. */
static __noinline int finish(u64 address)
{
	struct tracked *known = bpf_map_lookup_elem(&socks, &address);
	struct tracked t;

	if (!known)
		return 0;
	__builtin_memcpy(&t, known, sizeof(t));
	if (bpf_map_delete_elem(&socks, &address))
		return 0;
	if (t.phase == PHASE_CONNECTING)
		return tell_failure(&t, address);
	set_bytes(&t.r, (void *)address);
	return tell_end(&t);
}

/* -- TCP: the beginning ----------------------------------------------------- */

/* connecting follows a socket that the running process connects. */
static __noinline int connecting(u64 address)
{
	struct sock *sk = (void *)address;
	struct tracked *t;

	t = own_current();
	if (!t)
		return 0;
	set_place(&t->r.place, sk);
	t->r.protocol = IPPROTO_TCP;
	t->phase = PHASE_CONNECTING;
	if (bpf_map_update_elem(&socks, &address, t, BPF_ANY))
		count_lost();
	return 0;
}

static __noinline int opened(u64 address)
{
	struct tracked *t = bpf_map_lookup_elem(&socks, &address);

	if (!t || t->phase != PHASE_CONNECTING)
		return 0;
	set_place(&t->r.place, (void *)address);
	t->since = bpf_ktime_get_boot_ns();
	t->phase = PHASE_OPEN;
	return tell(t, KIND_CONNECT);
}

/* tell_listener tells of a socket that waits for others, once. */
static __noinline int tell_listener(struct tracked *t, u64 address)
{
	struct socket_key key = { address, inode_of((struct sock *)address) };
	u8 yes = 1;

	if (!t || bpf_map_update_elem(&listeners, &key, &yes, BPF_NOEXIST))
		return 0;
	return tell(t, KIND_LISTEN);
}

static __noinline int listening(u64 address)
{
	struct tracked *t;

	t = own_current();
	if (!t)
		return 0;
	set_place(&t->r.place, (void *)address);
	t->r.protocol = IPPROTO_TCP;
	return tell_listener(t, address);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	u64 address = (u64)sk;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
		return connecting(address) & 0;
	case TCP_ESTABLISHED:
		if (old == TCP_SYN_SENT || old == TCP_SYN_RECV)
			opened(address);
		return 0;
	case TCP_SYN_RECV:
		/* A new socket where there may have been one whose end was missed. */
		if (old == TCP_LISTEN)
			bpf_map_delete_elem(&socks, &address);
		return 0;
	case TCP_LISTEN:
		return listening(address) & 0;
	case TCP_CLOSE:
		if (old != TCP_LISTEN)
			finish(address);
		else
			bpf_map_delete_elem(&listeners, &(struct socket_key){ address, 0 });
		return 0;
	}
	return 0;
}

/* -- Connections in the place of input and output --------------------------- */

#define STREAMS 3

/* given tells that the running process has a connection as one of its first three
 * descriptors now. */
static __noinline int given(u64 address, u32 fd)
{
	struct sock *sk = (void *)address;
	struct tracked *t, *known;

	if (!BPF_CORE_READ(sk, __sk_common.skc_dport) || !find_container(current_leader()))
		return 0;
	t = own_current();
	if (!t)
		return 0;
	set_place(&t->r.place, sk);
	t->r.protocol = BPF_CORE_READ(sk, sk_protocol);
	if (t->r.protocol == (u16)IPPROTO_MPTCP)
		t->r.protocol = IPPROTO_TCP;
	t->r.family = fd;
	known = bpf_map_lookup_elem(&socks, &address);
	if (known && known->r.head.flags & FLAG_INCOMING)
		t->r.head.flags |= FLAG_INCOMING;
	return tell(t, KIND_STDIO);
}

/* look_at_stream looks at what has that number now, if it is one of the first three. */
static __always_inline void look_at_stream(u64 fd)
{
	struct sock *sk;

	if (fd >= STREAMS)
		return;
	sk = socket_of(file_of(fd));
	if (sk && is_inet(sk))
		given((u64)sk, fd);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_dup, struct pt_regs *regs, long ret)
{
	look_at_stream(ret);
	return 0;
}

/* include/uapi/linux/fcntl.h */
#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

SEC("tp_btf/sys_exit")
int BPF_PROG(on_fcntl, struct pt_regs *regs, long ret)
{
	u32 command;

	if ((unsigned long)ret >= STREAMS)
		return 0;
	command = call_arg(regs, 1);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		look_at_stream(ret);
	return 0;
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs___returned { /* what kernel.bpf.h leaves out */
#if defined(__TARGET_ARCH_x86)
	unsigned long ax;
#else
	u64 regs[31];
#endif
};

#pragma clang attribute pop

static __always_inline u64 returned(struct pt_regs *regs)
{
	struct pt_regs___returned *r = (void *)regs;

#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(r, ax);
#else
	return BPF_CORE_READ(r, regs[0]);
#endif
}

/* What comes by SCM_RIGHTS: __receive_fd (fs/file.c, since 5.9; receive_fd from 6.7 on)
 * returns the number that a descriptor got. No call that everybody makes is looked at for
 * it. */
SEC("kretprobe/__receive_fd")
int on_received(struct pt_regs *regs)
{
	look_at_stream((u32)returned(regs));
	return 0;
}

/* accepted follows a socket that the running process accepted. It returns its
 * address if it had ended before it was followed, for the caller to finish: the
 * verifier adds up the stacks of all that call each other. */
static __noinline u64 accepted(u64 address)
{
	struct sock *sk = (void *)address;
	struct tracked *t;

	if (!sk || !is_inet(sk))
		return 0;
	/* A connection of several paths is followed by its first. */
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP &&
	    bpf_core_field_exists(struct mptcp_sock, first))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	address = (u64)sk;
	t = own_current();
	if (!t)
		return 0;
	set_place(&t->r.place, sk);
	if (!t->r.place.local_port) /* it has ended already */
		t->r.place.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	t->r.protocol = IPPROTO_TCP;
	t->r.head.flags |= FLAG_INCOMING;
	t->since = bpf_ktime_get_boot_ns();
	t->phase = PHASE_OPEN;
	if (bpf_map_update_elem(&socks, &address, t, BPF_ANY))
		count_lost();
	tell(t, KIND_ACCEPT);
	return BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE ? address : 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_accept, struct pt_regs *regs, long ret)
{
	u64 over;

	if (has_failed(ret))
		return 0;
	over = accepted((u64)socket_of(file_of(ret)));
	look_at_stream(ret); /* one was closed before */
	if (over)
		finish(over);
	return 0;
}

/* -- Connections that fail at once ------------------------------------------ */

/* is_failure leaves out what says that connecting goes on, or that nothing was
 * tried at all. */
static __always_inline bool is_failure(u32 error)
{
	switch (error) {
	case EINTR:
	case EBADF:
	case EAGAIN:
	case EFAULT:
	case ENOTSOCK:
	case EISCONN:
	case EALREADY:
	case EINPROGRESS:
		return false;
	}
	return error < ERESTARTSYS;
}

struct sockaddr {
	u16 family;
	__be16 port;
	__be32 ip4; /* of IPv6: flow information */
	u8 ip6[16];
};

/* asked_for reads the address that connect was given, as the process claims it
 * when connect returns. */
static __always_inline bool asked_for(struct place *p, u64 user, u32 len)
{
	struct sockaddr a = {};

	if (bpf_probe_read_user(&a, 8, (void *)user))
		return false;
	p->remote_port = bpf_ntohs(a.port);
	if (a.family == AF_INET) {
		map_ip4(p->remote, a.ip4);
		return true;
	}
	return a.family == AF_INET6 && len >= sizeof(a) &&
	       !bpf_probe_read_user(p->remote, 16, (void *)user + 8);
}

#include "unix.bpf.h"

/* not_connected tells of a connection that was refused at once. */
static __noinline int not_connected(u64 address, u32 error, u64 asked, u32 asked_len)
{
	struct sock *sk = (void *)address;
	u64 inode = inode_of(sk);
	struct tracked *t;

	if (!bpf_map_delete_elem(&failures, &inode))
		return 0;
	t = own_current();
	if (!t)
		return 0;
	set_place(&t->r.place, sk);
	if (!asked_for(&t->r.place, asked, asked_len))
		return 0;
	t->r.protocol = BPF_CORE_READ(sk, sk_protocol);
	if (t->r.protocol == (u16)IPPROTO_MPTCP)
		t->r.protocol = IPPROTO_TCP;
	t->r.error = error;
	return tell(t, KIND_CONNECT);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_connect, struct pt_regs *regs, long ret)
{
	u64 fd = call_arg(regs, 0);
	struct sock *sk;

	/* Made where one of the first three was closed before. */
	if (!ret || ret == -EINPROGRESS)
		look_at_stream((u32)fd);
	if (has_failed(ret) && !is_failure(-ret))
		return 0;
	sk = socket_of(file_of(fd));
	if (!sk)
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		was_joined(sk, ret, call_arg(regs, 1), call_arg(regs, 2));
	else if (has_failed(ret) && is_inet(sk))
		not_connected((u64)sk, -ret, call_arg(regs, 1), call_arg(regs, 2));
	return 0;
}

/* -- Sockets that are more than a connection -------------------------------- */

/* is_rare tells sockets that netguard.bpf.c and guard_privilege.bpf.h hold when they are
 * made. Those that have no name of their own are told when there is one: some programs
 * ask the kernel for each family that it might know. */
static __always_inline bool is_rare(u32 family, u32 type, u32 protocol, u64 error)
{
	switch (family) {
	case AF_UNIX:
	case AF_NETLINK:
		return false;
	case AF_PACKET:
	case AF_VSOCK:
	case AF_ALG:
		return true;
	}
	if ((type & 0xf) == SOCK_RAW) /* without SOCK_CLOEXEC and SOCK_NONBLOCK */
		return true;
	if (error)
		return false;
	if (family != AF_INET && family != AF_INET6)
		return true;
	return protocol && !is_asked_about(protocol) && protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6; /* pings */
}

static __noinline int made(u64 family, u64 type, u64 protocol, u64 error)
{
	struct tracked *t;

	family = family_made(family, type);
	if (!is_rare(family, type, protocol, error))
		return 0;
	t = own_current();
	if (!t)
		return 0;
	t->r.family = family;
	t->r.protocol = family == AF_PACKET ? bpf_ntohs(protocol) : protocol;
	t->r.error = error;
	t->r.place.netns = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), nsproxy,
					net_ns, ns.inum);
	return tell(t, KIND_RAW);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_socket, struct pt_regs *regs, long ret)
{
	made(call_arg(regs, 0), call_arg(regs, 1), call_arg(regs, 2), has_failed(ret) ? -ret : 0);
	return 0;
}

/* Of 32-bit programs: all calls of sockets in one, with the arguments in
 * memory (include/uapi/linux/net.h). Failed ones are not told. */
enum { SYS_SOCKET = 1, SYS_CONNECT = 3, SYS_ACCEPT = 5, SYS_ACCEPT4 = 18 };

/* socketcall_connected looks at a connect with the arguments at that address. */
static __always_inline void socketcall_connected(u64 user)
{
	u32 args[3]; /* descriptor, address, length */
	struct sock *sk;

	if (bpf_probe_read_user(args, sizeof(args), (void *)user))
		return;
	look_at_stream(args[0]);
	sk = socket_of(file_of(args[0]));
	if (sk && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		joined((u64)sk, args[1], args[2]);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_socketcall, struct pt_regs *regs, long ret)
{
	u64 call = call_arg(regs, 0), over;
	struct sock *sk;

	if (!ret && call == SYS_CONNECT) {
		socketcall_connected(call_arg(regs, 1));
		return 0;
	}
	if (has_failed(ret) || (call != SYS_SOCKET && call != SYS_ACCEPT && call != SYS_ACCEPT4))
		return 0;
	sk = socket_of(file_of(ret));
	if (!sk)
		return 0;
	if (call == SYS_SOCKET)
		return made(BPF_CORE_READ(sk, __sk_common.skc_family), BPF_CORE_READ(sk, sk_type),
			    BPF_CORE_READ(sk, sk_protocol), 0) & 0;
	over = accepted((u64)sk);
	look_at_stream(ret);
	if (over)
		finish(over);
	return 0;
}

/* -- UDP and ping: who waits for others ------------------------------------- */

static __noinline int bound(u64 address, struct tracked *t)
{
	struct sock *sk = (void *)address;
	struct socket_key key = { address, inode_of(sk) };

	if (!t)
		return 0;
	set_place(&t->r.place, sk);
	t->r.protocol = IPPROTO_UDP;
	bpf_map_update_elem(&bindings, &key, t, BPF_NOEXIST);
	return tell_listener(t, address);
}

/* is_bound tells whether a UDP socket has a port that was asked for. */
static __always_inline bool is_bound(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_UDP && is_inet(sk) &&
	       BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_bind, struct pt_regs *regs, long ret)
{
	struct tracked *t;
	struct sock *sk;

	if (has_failed(ret))
		return 0;
	sk = socket_of(file_of(call_arg(regs, 0)));
	if (!sk || !is_bound(sk))
		return 0;
	t = own_current();
	if (!t)
		return 0;
	bound((u64)sk, t);
	return 0;
}

/* -- UDP and ping: packets -------------------------------------------------- */

#include "flow.bpf.h"

const struct flow_key *unused_flow_key __attribute__((unused));

/* chained says that other sensors look at packets after this one: set by the
 * loader, where the kernel lets a program with functions jump to another one. */
const volatile bool chained = false;

static __always_inline int pass_on(struct __sk_buff *skb, void *handlers)
{
	if (chained)
		bpf_tail_call(skb, handlers, PACKET_DNS);
	return 1;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	u32 at = 0;
	u8 protocol = protocol_of(skb, &at);
	struct tracked *t;

	if (!by_packets(protocol))
		return 1;
	t = follow(skb, at, protocol, true);
	if (t) {
		speak_first();
		set_owner(t, current_leader());
		tell(t, KIND_CONNECT);
	}
	return pass_on(skb, &packets_out);
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	u32 at = 0;
	u8 protocol = protocol_of(skb, &at);

	if (by_packets(protocol))
		follow(skb, at, protocol, false);
	return pass_on(skb, &packets_in);
}

/* -- What there was before -------------------------------------------------- */

/* resume_tcp follows a connection that was open. Which side began is not kept
 * by the kernel, but a socket that was accepted has its listener's backlog. It
 * returns what accepted does. */
static __noinline u64 resume_tcp(u64 address, struct tracked *t)
{
	struct sock *sk = (void *)address;
	u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	bool incoming = BPF_CORE_READ(sk, sk_max_ack_backlog);

	if (!t)
		return 0;
	t->r.protocol = IPPROTO_TCP;
	if (state == TCP_LISTEN) {
		tell_listener(t, address);
		return 0;
	}
	if (state == TCP_CLOSE || state == TCP_SYN_RECV)
		return 0;
	t->phase = state == TCP_SYN_SENT ? PHASE_CONNECTING : PHASE_OPEN;
	if (incoming)
		t->r.head.flags |= FLAG_INCOMING;
	if (bpf_map_update_elem(&socks, &address, t, BPF_NOEXIST))
		return 0; /* seen to begin */
	if (t->phase == PHASE_OPEN)
		tell(t, incoming ? KIND_ACCEPT : KIND_CONNECT);
	return BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE ? address : 0;
}

static __noinline int resume_udp(u64 address, struct tracked *t)
{
	struct sock *sk = (void *)address;
	struct flow_key key = {};

	if (!t)
		return 0;
	t->r.protocol = BPF_CORE_READ(sk, sk_protocol);
	if (is_bound(sk))
		return bound(address, t);
	key.cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!key.cookie || !has_address(t->r.place.remote))
		return 0;
	__builtin_memcpy(key.address, t->r.place.remote, 16);
	key.port = t->r.place.remote_port;
	key.protocol = t->r.protocol;
	t->last = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&flows, &key, t, BPF_NOEXIST))
		return 0;
	return tell(t, KIND_CONNECT);
}

/* Where the iterator, of which one runs at a time, puts a socket together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tracked);
} workbench SEC(".maps");

/* meet tells of a socket that a process has open; it returns what accepted does. */
static __noinline u64 meet(u64 leader, u64 address, u32 protocol)
{
	struct tracked *t;
	u32 zero = 0;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	t = bpf_map_lookup_elem(&workbench, &zero);
	if (!t)
		return 0;
	__builtin_memset(t, 0, sizeof(*t));
	set_owner(t, (void *)leader);
	t->r.head.flags |= FLAG_RESUMED;
	set_place(&t->r.place, (void *)address);
	if (protocol == IPPROTO_TCP)
		return resume_tcp(address, t);
	resume_udp(address, t);
	return 0;
}

SEC("iter/task_file")
int resume_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sock *sk;
	u64 over;

	if (!task || !file || task->pid != task->tgid)
		return 0;
	sk = socket_of(file);
	if (!sk || !is_inet(sk))
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP &&
	    bpf_core_field_exists(struct mptcp_sock, first))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	over = meet((u64)task, (u64)sk, BPF_CORE_READ(sk, sk_protocol));
	if (over)
		finish(over);
	return 0;
}
