/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The record of the privilege sensor and how it is put together and sent.
 */
#ifndef CASTELLAN_PRIVILEGE_BPF_H
#define CASTELLAN_PRIVILEGE_BPF_H

#include "sensor.bpf.h"
#include "syscall.bpf.h"
#include "window.bpf.h"

enum kind {
	KIND_MOUNT = 1,
	KIND_UMOUNT,
	KIND_PIVOT_ROOT,
	KIND_UNSHARE,
	KIND_SETNS,
	KIND_CLONE,
	KIND_PTRACE,
	KIND_PROCESS_WRITE,
	KIND_MODULE,
	KIND_KEXEC,
	KIND_BPF,
	KIND_PERF,
	KIND_KEYRING,
	KIND_USERFAULT,
	KIND_IO_URING,
	KIND_CAPABILITY,
	KIND_USER,
	KIND_KNOB,
};

enum bit {
	BIT_PATH = 1 << 0,	       /* the target is a path as put_path writes it */
	BIT_PATH_CUT = 1 << 1,	       /* and its beginning is missing */
	BIT_TARGET_CONTAINER = 1 << 2, /* target_container is set: not the process's own */
	BIT_TARGET_HOST = 1 << 3,      /* the other process is the host's; ours is not */
	BIT_USERNS = 1 << 4,	       /* its capabilities are those of a user namespace */
	BIT_SEES_HOST = 1 << 5,	       /* a container's process in the host's mount namespace */
	BIT_GROUP = 1 << 6,	       /* the ids are groups */
};

/* Numbers of system calls, with a mark for those of 32-bit programs. */
#define CALL_COMPAT 0x8000
#define CALL_EXEC 0x7fff /* no call of its own: what an exec gave */

/* Followed by as many bytes of source, target and type, each with its NUL, in
 * the order in which the program wrote them: source, target, type. */
struct privilege {
	struct header head;
	u64 flags;
	u64 gained;
	u64 inode; /* of the namespace that was joined */
	u64 target_start;
	u32 target_tgid;
	u32 command;
	u32 type;
	u32 old_id;
	u32 new_id;
	u32 error; /* 0: none */
	u32 bits;
	u16 call;
	u16 source_len;
	u16 target_len;
	u16 type_len;
	u32 reserved;
	u8 target_container[CONTAINER_ID_LEN];
};

#define MAX_STRING 4096 /* PATH_MAX */
#define MAX_TYPE 64

/* What makes two records alike; hash is over all of a record but its head. */
struct key {
	struct cgroup_key cgroup; /* zeros for the host */
	u64 who;		  /* the executable; of the host, where a runtime's changes each time, the name */
	u64 hash;
	u32 kind;
	u32 reserved;
};

WINDOW(struct key, 16384);

/* What the programs of one CPU work on: none can interrupt another, they are
 * all called by the process itself. */
struct work {
	struct container container;
	u32 inside; /* container is set */
	u32 reserved;
	struct key key;
	u64 args[8]; /* of the call, from 1 to 6; the others are 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct work);
} works SEC(".maps");

static __always_inline struct work *get_work(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&works, &zero);
}

/* look notes the container of a process. */
static __always_inline void look(struct work *w, struct task_struct *leader)
{
	struct container *c = find_container(leader);

	w->inside = 0;
	if (c) {
		w->inside = 1;
		__builtin_memcpy(&w->container, c, sizeof(w->container));
	}
}

static __always_inline u32 called(struct pt_regs *regs)
{
	return (call_number(regs) & (MAX_CALLS - 1)) | (is_compat() ? CALL_COMPAT : 0);
}

/* What a handler makes of the arguments besides numbers and strings. */
enum how {
	HOW_PLAIN,
	HOW_TYPE_POINTED,  /* the type is a number that the argument points to */
	HOW_FLAGS_POINTED, /* the flags are */
	HOW_CONTEXT,	   /* the first is a descriptor of fsopen or fspick */
	HOW_FILE,	   /* the first is an open file */
	HOW_PTRACE,
	HOW_PIDFD, /* the target is a pidfd, no process id */
};

/* Which argument of a call is what, from 1; 0: none. */
struct shape {
	u64 need; /* one of these flags must be set; 0: whatever they are */
	u8 kind;
	u8 everywhere; /* told of the host too */
	u8 how;
	u8 source;
	u8 target;
	u8 type;
	u8 flags;
	u8 command;
	u8 least; /* the lowest command that is told */
	u8 reserved[7];
};

/* By the number of the call, those of 32-bit programs from COMPAT_CALLS. The
 * loader fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COMPAT_CALLS + MAX_CALLS);
	__type(key, u32);
	__type(value, struct shape);
} shapes SEC(".maps");

static __always_inline struct shape *get_shape(struct pt_regs *regs)
{
	u32 slot = call_slot(regs);

	return bpf_map_lookup_elem(&shapes, &slot);
}

static __always_inline void read_args(struct work *w, struct pt_regs *regs)
{
	bool compat = is_compat();

	w->args[1] = arg_of(regs, 0, compat);
	w->args[2] = arg_of(regs, 1, compat);
	w->args[3] = arg_of(regs, 2, compat);
	w->args[4] = arg_of(regs, 3, compat);
	w->args[5] = arg_of(regs, 4, compat);
	w->args[6] = arg_of(regs, 5, compat);
}

static __always_inline u64 arg(struct work *w, u8 n)
{
	return w->args[n & 7];
}

/* new_record makes the scratch an empty record. */
static __always_inline struct privilege *new_record(u32 kind, u32 call)
{
	struct privilege *r = (void *)get_scratch();
	struct task_struct *task = (void *)bpf_get_current_task();

	if (!r)
		return NULL;
	__builtin_memset(r, 0, sizeof(*r));
	r->head.kind = kind;
	r->call = call;
	if (BPF_CORE_READ(task, cred, user_ns, level))
		r->bits = BIT_USERNS;
	return r;
}

/* put_user is put_string for the process's memory. */
static __always_inline u32 put_user(struct scratch *s, u32 at, u32 max, const void *string)
{
	long n = bpf_probe_read_user_str(&s->b[at & (SCRATCH_HEAD - 1)], max, string);

	return n > 0 ? n : 0;
}

/* Of the loader: set when it runs the iterator. */
struct own {
	u64 seed; /* of the hashes, so that nobody outside can make two that are equal */
	u32 tgid;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct own);
} owns SEC(".maps");

static __always_inline struct own *get_own(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&owns, &zero);
}

static __always_inline void note_own(void)
{
	struct own *own = get_own();

	if (!own || own->seed)
		return;
	own->seed = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32() | 1;
	own->tgid = bpf_get_current_pid_tgid() >> 32;
}

static __always_inline bool is_own(void)
{
	struct own *own = get_own();

	return own && own->tgid == bpf_get_current_pid_tgid() >> 32;
}

#define MAX_WORDS ((sizeof(struct privilege) + 2 * (MAX_STRING + MAX_NAME) + MAX_TYPE) / 8 + 1)
#define MIX 0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio: odd, and no pattern in its bits */

/* hash_record returns a hash of the scratch's first bytes but the head. */
__attribute__((noinline)) u64 hash_record(u32 len)
{
	struct scratch *s = get_scratch();
	struct own *own = get_own();
	u64 h;

	if (!s || !own)
		return 0;
	h = own->seed;
#pragma clang loop unroll(disable)
	for (u32 i = sizeof(struct header) / 8; i < MAX_WORDS; i++) {
		if (i * 8 >= len)
			break;
		h = (h ^ *(u64 *)&s->b[i * 8]) * MIX;
		h ^= h >> 29;
	}
	return h;
}

/* who returns what tells one doer from another: of the host, the name will do. */
static __always_inline u64 who(struct task_struct *leader, struct work *w)
{
	u64 name[2] = {};

	if (w->inside)
		return doer(leader);
	bpf_probe_read_kernel(name, sizeof(name), &leader->comm);
	return name[0] * MIX ^ name[1];
}

/* finish sends the record in the scratch, of which at bytes are written, unless
 * one like it was told. */
__attribute__((noinline)) int finish(u32 at)
{
	struct task_struct *leader = current_leader();
	struct scratch *s = get_scratch();
	struct privilege *r = (void *)s;
	struct work *w = get_work();
	u32 kind;
	u64 id;

	if (!s || !w)
		return 0;
	at &= SCRATCH_HEAD - 1; /* no record is as long; the verifier wants to hear it */
	kind = r->head.kind;
	__builtin_memset(&s->b[at], 0, 8); /* what is left of the last word */
	__builtin_memset(&w->key, 0, sizeof(w->key));
	if (w->inside)
		w->key.cgroup = w->container.cgroup;
	w->key.who = who(leader, w);
	w->key.hash = hash_record(at);
	w->key.kind = kind;
	id = once(&window, &w->key);
	if (id == COUNTED)
		return 0;
	fill_read(&r->head, SENSOR_PRIVILEGE, leader, w->inside ? &w->container : NULL);
	r->head.kind = kind;
	submit_once(&window, &w->key, id, r, at);
	return 0;
}

#endif
