/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Unix sockets that processes of containers connect to. It is a part of
 * network.bpf.c, with what that declares before.
 *
 * The name that counts is the one that the listener gave its socket: the kernel
 * shares it with whoever connects, wherever the socket is mounted and whatever it
 * is called there.
 */
#ifndef CASTELLAN_UNIX_BPF_H
#define CASTELLAN_UNIX_BPF_H

#include "pid.bpf.h"

#define UNIX_PATH 108 /* of struct sockaddr_un: the kernel's interface */
#define FAMILY_LEN 2  /* of the same, before the path */

/* Errors of which the name is told: a socket that is not there is asked for all
 * day (nscd). */
#define EPERM 1
#define EACCES 13
#define ECONNREFUSED 111

enum unix_flag {
	FLAG_OUTSIDE = 1 << 10,	 /* the listener is of another container, or of the host */
	FLAG_LISTENER = 1 << 11, /* the listener is of a container: listener_container */
};

struct local_connection {
	struct header head;
	u64 listener_start; /* 0: unknown */
	u32 listener_tgid;
	u32 error;
	u16 path_len;
	u16 asked_len;
	u32 reserved;
	u8 listener_container[CONTAINER_ID_LEN];
	u8 listener_comm[TASK_COMM_LEN];
	u8 path[UNIX_PATH];  /* as the listener bound it; an abstract one begins with a zero */
	u8 asked[UNIX_PATH]; /* as the process named it, and claims it now */
};

const enum unix_flag *unused_unix_flag __attribute__((unused));
const struct local_connection *unused_local_connection __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sockaddr_un {
	u16 sun_family;
};

struct unix_address {
	int len; /* of the whole of name */
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

struct sock___unix { /* struct sock, of which nobody else reads this */
	struct pid *sk_peer_pid;
};

#pragma clang attribute pop

/* Where one is put together, with its key: they do not fit on the stack beside what
 * finds the container. */
struct join {
	struct local_connection r;
	struct peer_key key;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct join);
} joins SEC(".maps");

static __always_inline struct join *get_join(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&joins, &zero);
}

/* name_bytes returns how much of an address of len bytes is a name, as the verifier
 * wants to see it. */
static __always_inline u32 name_bytes(u32 len)
{
	if (len <= FAMILY_LEN)
		return 0;
	len -= FAMILY_LEN;
	if (len > UNIX_PATH)
		len = UNIX_PATH;
	barrier_var(len);
	len &= 127;
	return len > UNIX_PATH ? 0 : len;
}

static __always_inline void set_asked(struct local_connection *r, u64 user, u32 len)
{
	u32 n = name_bytes(len);

	if (n && !bpf_probe_read_user(r->asked, n, (void *)user + FAMILY_LEN))
		r->asked_len = n;
}

static __always_inline void set_path(struct local_connection *r, struct unix_address *address)
{
	u32 n = name_bytes(BPF_CORE_READ(address, len));
	void *name = (void *)address + bpf_core_field_offset(struct unix_address, name);

	if (n && !bpf_probe_read_kernel(r->path, n, name + FAMILY_LEN))
		r->path_len = n;
}

/* listener_of returns the process that called listen, which a socket that connects
 * takes over as its peer (copy_peercred, net/unix/af_unix.c): NULL for datagrams, and
 * when that process has ended. */
static __always_inline struct task_struct *listener_of(struct sock *sk)
{
	struct pid *pid = BPF_CORE_READ((struct sock___unix *)sk, sk_peer_pid);
	struct task_struct *task = pid ? task_of(pid) : NULL;

	return task ? BPF_CORE_READ(task, group_leader) : NULL;
}

/* is_elsewhere tells whether a socket is of another network namespace than the running
 * process: what there is to go by when nobody is known to listen. */
static __always_inline bool is_elsewhere(struct sock *peer)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(peer, __sk_common.skc_net.net, ns.inum) !=
	       BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/* set_listener writes who listens. */
static __always_inline void set_listener(struct local_connection *r, struct task_struct *listener,
					 struct cgroup_key *own)
{
	struct container *c = find_container(listener);

	r->listener_start = BPF_CORE_READ(listener, start_boottime);
	r->listener_tgid = BPF_CORE_READ(listener, tgid);
	bpf_probe_read_kernel(r->listener_comm, sizeof(r->listener_comm), &listener->comm);
	if (c) {
		r->head.flags |= FLAG_LISTENER;
		__builtin_memcpy(r->listener_container, c->id, sizeof(r->listener_container));
	}
	if (!c || c->cgroup.id != own->id || c->cgroup.hierarchy != own->hierarchy)
		r->head.flags |= FLAG_OUTSIDE;
}

/* key_of_asked makes alike what ends alike and fails alike: a key has no room for all
 * of a name. */
static __always_inline void key_of_asked(struct peer_key *key, struct local_connection *r)
{
	u32 from = r->asked_len > sizeof(key->address) ? r->asked_len - sizeof(key->address) : 0;

	barrier_var(from);
	from &= 127;
	if (from <= UNIX_PATH - sizeof(key->address)) /* always */
		__builtin_memcpy(key->address, &r->asked[from], sizeof(key->address));
}

static __always_inline void begin_key(struct peer_key *key, struct task_struct *leader,
				      struct container *c)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->kind = KIND_UNIX;
	key->cgroup = c->cgroup;
	key->doer = doer(leader);
}

/* tell_join sends what is put together. */
static __always_inline void tell_join(struct join *j, u64 id)
{
	j->r.head.kind = KIND_UNIX;
	speak_first();
	submit_once(&window, &j->key, id, &j->r, sizeof(j->r));
}

/* refused tells of a socket that the running process may not connect to, or that
 * nobody listens at. All arguments are numbers, as in find_id. */
__attribute__((noinline)) int refused(u32 error, u64 asked, u32 asked_len)
{
	struct task_struct *leader = current_leader();
	struct container *c = find_container(leader);
	struct join *j = get_join();
	u64 id;

	if (!c || !j)
		return 0;
	__builtin_memset(&j->r, 0, sizeof(j->r));
	set_asked(&j->r, asked, asked_len);
	if (!j->r.asked_len)
		return 0;
	begin_key(&j->key, leader, c);
	j->key.error = error;
	key_of_asked(&j->key, &j->r);
	id = once(&window, &j->key);
	if (id == COUNTED)
		return 0;
	fill_read(&j->r.head, SENSOR_NETWORK, leader, c);
	j->r.error = error;
	tell_join(j, id);
	return 0;
}

/* reached tells that the running process has come to a unix socket: to its peer, whose
 * listener the socket at "with" knows. All arguments are numbers, as in find_id. */
__attribute__((noinline)) int reached(u64 address, u64 with, u64 asked, u32 asked_len)
{
	struct sock *peer = (void *)address;
	struct unix_address *name = BPF_CORE_READ((struct unix_sock *)peer, addr);
	struct task_struct *leader = current_leader(), *listener;
	struct container *c = name ? find_container(leader) : NULL;
	struct join *j = get_join();
	u64 id;

	if (!c || !j)
		return 0;
	listener = listener_of((void *)with);
	begin_key(&j->key, leader, c);
	/* As long as that process has its socket, nothing else is there. */
	((u64 *)j->key.address)[0] = (u64)name;
	((u64 *)j->key.address)[1] = listener ? BPF_CORE_READ(listener, start_boottime) : 0;
	id = once(&window, &j->key);
	if (id == COUNTED)
		return 0;
	__builtin_memset(&j->r, 0, sizeof(j->r));
	fill_read(&j->r.head, SENSOR_NETWORK, leader, c);
	set_path(&j->r, name);
	set_asked(&j->r, asked, asked_len);
	if (listener)
		set_listener(&j->r, listener, &j->key.cgroup);
	else if (is_elsewhere(peer))
		j->r.head.flags |= FLAG_OUTSIDE;
	tell_join(j, id);
	return 0;
}

/* joined tells that the running process has connected a unix socket. The socket that
 * the listener will accept shares its name. */
static __always_inline void joined(u64 address, u64 asked, u32 asked_len)
{
	struct sock *sk = (void *)address;

	reached((u64)BPF_CORE_READ((struct unix_sock *)sk, peer), address, asked, asked_len);
}

/* was_joined looks at a connect of a unix socket that has returned. */
static __always_inline void was_joined(struct sock *sk, long ret, u64 asked, u32 asked_len)
{
	u32 error = has_failed(ret) ? -ret : 0;

	if (!ret)
		joined((u64)sk, asked, asked_len);
	else if (error == EPERM || error == EACCES || error == ECONNREFUSED)
		refused(error, asked, asked_len);
}

/* What no call says. These functions of the kernel are called for nothing but unix
 * sockets, so that no other call pays for being looked at; both exist since 2.6 with these
 * first arguments (include/linux/lsm_hook_defs.h). */

#define PF_IO_WORKER 0x10  /* include/linux/sched.h, since 5.12: threads of an io_uring */
#define IO_URING_ENTER 426 /* on every architecture */

/* The names count, see enum bpf_func_id: since 5.15. */
enum bpf_func_id___unix {
	BPF_FUNC_task_pt_regs___unix = 175,
};

/* call_under_way returns the number of the call that the running process is in; none
 * where the kernel does not say. */
static __always_inline u64 call_under_way(void)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id___unix, BPF_FUNC_task_pt_regs___unix))
		return MAX_CALLS;
	return call_number((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()));
}

/* by_ring tells whether it is an io_uring that acts for the running process. */
static __always_inline bool by_ring(u64 call)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return call == IO_URING_ENTER || BPF_CORE_READ(task, flags) & PF_IO_WORKER;
}

#if defined(__TARGET_ARCH_x86)
static __always_inline u64 argument(struct pt_regs *regs, int n)
{
	return n ? BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, di);
}

static __always_inline bool is_connect(u64 call)
{
	return is_compat() ? call == 362 || call == 102 /* socketcall */ : call == 42;
}
#else
static __always_inline u64 argument(struct pt_regs *regs, int n)
{
	return n ? BPF_CORE_READ(regs, regs[1]) : BPF_CORE_READ(regs, regs[0]);
}

static __always_inline bool is_connect(u64 call)
{
	return call == 203;
}
#endif

/* A connect by a ring; that of a call is told when it returns. */
SEC("kprobe/security_unix_stream_connect")
int on_ring_connect(struct pt_regs *regs)
{
	struct sock *listener = (void *)argument(regs, 1);

	if (by_ring(call_under_way()))
		reached((u64)listener, (u64)listener, 0, 0);
	return 0;
}

/* A datagram to a socket that was not connected to, by whichever call. A connect of a
 * socket of datagrams asks the same, and is told when it returns. */
SEC("kprobe/security_unix_may_send")
int on_datagram(struct pt_regs *regs)
{
	struct socket *from = (void *)argument(regs, 0), *to = (void *)argument(regs, 1);
	struct sock *sk = BPF_CORE_READ(from, sk), *peer = BPF_CORE_READ(to, sk);
	u64 call;

	if (BPF_CORE_READ((struct unix_sock *)sk, peer) == peer)
		return 0;
	call = call_under_way();
	if (is_connect(call) && !by_ring(call))
		return 0;
	reached((u64)peer, (u64)peer, 0, 0);
	return 0;
}

#endif
