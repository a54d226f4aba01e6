/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What holds containers to their rules, shared by all controls: who is held, by
 * which rules, and how what lies outside of them is told.
 *
 * A container is held by its id, which may be put into holds before its cgroup
 * exists. Its hold names a group, and the group's place in tables holds all of
 * the group's rules in one map: they are replaced by putting another map there,
 * so that a program sees the old ones or the new ones, and never a part.
 *
 *   holds[id of the container]  -> struct hold: the group's number
 *   tables[number of the group] -> the group's rules, a hash map:
 *     {0, 0, EDGE_META}           -> the answers of all controls, and what is not
 *                                    about paths: fields of struct edge as META_…
 *     {0, list, EDGE_START}       -> where the automaton of a list of paths begins
 *     the other kinds             -> its edges: see automaton.bpf.h
 *
 * The answer of control c is in the two bits from ANSWER_SHIFT(c) on; controls
 * that other programs hold (network, resource) have theirs there too.
 *
 * All maps are pinned, and so are the links: nothing here needs the agent. What
 * is outside the rules is sent into a ring buffer of its own; who was not told
 * for want of an agent is counted as lost, as with any sensor.
 */
#ifndef CASTELLAN_GUARD_BPF_H
#define CASTELLAN_GUARD_BPF_H

#define SPEAKS_ITSELF /* processes that were not told yet are the sensors' matter */
#include "sensor.bpf.h"
#include "window.bpf.h"
#include "layer.bpf.h"
#include "setup.bpf.h"

#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define EPERM 1
#define SENSOR_GUARD 7 /* behind those of enum sensor_id: no sensor, but its records begin alike */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Fields of the kernel's structs that no sensor reads; names with ___ stand for
 * what is before. */
struct linux_binprm___guard {
	char buf[256]; /* the beginning of the file; BINPRM_BUF_SIZE since 5.1 */
};

struct backing_file {
	struct path user_path; /* 6.7 and later */
};

struct task_struct___guard {
	unsigned int in_execve : 1;
	unsigned int personality;
};

struct mount___guard {
	struct mnt_namespace *mnt_ns;
};

struct vfsmount___guard {
	int mnt_flags;
};

/* Where a process will go on. */
struct pt_regs___guard {
#if defined(__TARGET_ARCH_x86)
	unsigned long ip;
#define INSTRUCTION ip
#else
	u64 pc;
#define INSTRUCTION pc
#endif
};

#pragma clang attribute pop

/* The controls, as profile.Controls lists them. */
enum control {
	CONTROL_EXEC,
	CONTROL_FILE,
	CONTROL_NETWORK,
	CONTROL_PRIVILEGE,
	CONTROL_RESOURCE,
};

enum answer { ANSWER_OFF, ANSWER_AUDIT, ANSWER_DENY };

#define ANSWER_SHIFT(control) (2 * (control))

/* What was done about it: of a record. */
enum reaction { REACTION_AUDITED = 1, REACTION_DENIED, REACTION_KILLED };

/* What was done, or would have been. */
enum deed {
	DEED_EXEC = 1,
	DEED_SCRIPT, /* a file was executed whose interpreter would have run */
	DEED_MAP,    /* a file was mapped as code */
	DEED_PROTECT, /* memory that is or was writable became code */
	DEED_WRITE,
	DEED_CREATE,
	DEED_READ,
	DEED_RENAME,
	DEED_LINK,
	DEED_SYMLINK,
	DEED_DELETE,
	DEED_CHMOD,
	DEED_CHOWN,
	DEED_CAPABILITY,
	DEED_PRIVILEGE, /* detail is the number of its kind */
};

/* Of struct denial, beside those of struct header. */
enum denial_flag {
	DENIAL_CUT = 1 << 8,	 /* the path has no beginning */
	DENIAL_OUTSIDE = 1 << 9, /* the file is not below the root of the process */
	DENIAL_DELETED = 1 << 10,
	DENIAL_FOLDER = 1 << 11,
	DENIAL_ENTERED = 1 << 12, /* of an exec: its process came in from outside the container */
};

/* Followed by as many bytes of path and to, both as put_path writes them. */
struct denial {
	struct header head; /* its kind is an enum deed */
	u64 inode;
	u32 device;
	u32 detail; /* protection, flags of open, number of a capability or kind */
	u8 reaction;
	u8 origin;
	u16 path_len;
	u16 to_len;
	u16 mode;
	u8 file_system[16];
	u64 more; /* flags or a command of a call, the group of a chown, both ids of a change of user */
	u16 call; /* its place in the table of calls and one; 0: not told */
	u16 reserved[3];
	u8 parent[TASK_COMM_LEN]; /* of an exec: what its parent is called; a script by its own name */
};

/* What two denials that are counted as one have in common. */
struct denial_key {
	struct cgroup_key container;
	u64 doer;
	u64 path; /* what the hashes of the names come to */
	u32 deed;
	u32 detail;
	u32 reaction;
	u32 reserved;
};

WINDOW(struct denial_key, 8192);

/* -- Rules ------------------------------------------------------------------ */

enum edge_kind { EDGE_META, EDGE_START, EDGE_NAME, EDGE_AFFIX, EDGE_MASK };

struct edge_key {
	u64 hash;
	u32 state;
	u32 kind;
};

struct edge {
	u64 prefix;
	u64 suffix;
	u32 state;
	u8 flags;
	u8 affixes;
	u8 prefix_len;
	u8 suffix_len;
};

/* Fields of an EDGE_META. */
#define META_CAPABILITIES prefix
#define META_KINDS suffix /* bits by the numbers of privileges: see guard_words.go */
#define META_ANSWERS state
#define META_FLAGS flags

enum meta_flag { META_MEMFD = 1, META_CODE_HEAP = 2 };

/* Twice what the server has a host hold (link.MaxHeldGroups): those that come are put
 * here before those that go leave. A place takes 8 bytes. */
#define MAX_HELD_GROUPS 2048

struct rule_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct edge_key);
	__type(value, struct edge);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_HELD_GROUPS);
	__type(key, u32);
	__array(values, struct rule_table);
} tables SEC(".maps");

/* A container that is held. The root is that of its cgroup: a container that is
 * started again gets another of both. It is what its first program had as its root:
 * a process that changes its own root or mounts changes nothing here. */
struct hold {
	u32 group;
	u32 reserved;
	struct cgroup_key cgroup;
	u64 root;   /* its super block; 0 until its first program runs */
	u64 top;    /* its folder: a dentry */
	u64 mounts; /* its mount namespace */
};

struct held_id {
	u8 id[CONTAINER_ID_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct held_id);
	__type(value, struct hold);
} holds SEC(".maps");

/* Set by the loader. */
struct guard_setting {
	u64 hash_key[2]; /* at random, so that nobody can choose names that are taken for others */
	u32 exclusive;	 /* slots are claimed: programs of security hooks can be put aside */
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct guard_setting);
} guard_settings SEC(".maps");

static __always_inline struct guard_setting *get_guard_setting(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&guard_settings, &zero);
}

/* -- Space to work in ------------------------------------------------------- */

/* Paths are put together and judged in a slot. A program of a security hook can
 * be put aside in the middle by a kernel that preempts itself, and another run on
 * the same CPU: so slots are claimed there, by an entry in a map. Programs at
 * tracepoints can't: the kernel keeps the processor for them (bpf_trace_run). */
#define SLOTS_PER_CPU 4
#define MAX_NAMES 64	   /* names and mount points of a path together */
#define NAMES_MASK 0x1fff
#define NAMES_ROOM (NAMES_MASK + 1 + MAX_NAME + 8)

struct slot {
	struct denial record;
	u8 names[NAMES_ROOM];
	u16 begin[MAX_NAMES];
	u16 length[MAX_NAMES];
	u64 hash[MAX_NAMES];
	u32 count; /* names of the path that was walked last */
	u32 cursor;
	u64 mixed; /* of the hashes of all names that were walked */
	/* Where a walk stands, and a path that is held against a list. */
	u64 dentry;
	u64 mount;
	u32 crossed; /* a mount was crossed */
	u32 state;
	u32 flags;
	u32 affixes;
	u32 ahead; /* names that are still to be read */
	u32 reserved;
	/* Whose doing it is, and what is asked. */
	struct container container;
	u32 group;
	u32 answer;  /* of the control that is asked */
	u64 root;    /* as in the container's struct hold */
	u64 top;
	u64 mounts;
	u64 overlay; /* root, if that is an overlay; or 0 */
	struct denial_key key;
};

/* The loader sets how many there are: SLOTS_PER_CPU for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_PER_CPU);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS_PER_CPU);
	__type(key, u32);
	__type(value, u8);
} claims SEC(".maps");

#define NO_SLOT 0xffffffff

static __always_inline struct slot *get_slot(u32 which)
{
	return bpf_map_lookup_elem(&slots, &which);
}

static __always_inline u32 claim_slot(void)
{
	struct guard_setting *setting = get_guard_setting();
	u32 first = bpf_get_smp_processor_id() * SLOTS_PER_CPU;
	u8 yes = 1;

	if (!setting)
		return NO_SLOT;
	if (!setting->exclusive)
		return first;
	for (u32 i = 0; i < SLOTS_PER_CPU; i++) {
		u32 which = first + i;

		if (!bpf_map_update_elem(&claims, &which, &yes, BPF_NOEXIST))
			return which;
	}
	return NO_SLOT;
}

static __always_inline void free_slot(u32 which)
{
	struct guard_setting *setting = get_guard_setting();

	if (setting && setting->exclusive)
		bpf_map_delete_elem(&claims, &which);
}

#include "automaton.bpf.h"

/* number_of makes a pointer that the verifier knows as one a number: a function takes
 * no other. */
static __always_inline u64 number_of(const void *pointer)
{
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

#include "guard_held.bpf.h"

static __always_inline bool in_exec(void)
{
	struct task_struct___guard *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
}

/* get_meta returns what a group's rules say beside paths, NULL while it has no
 * rules. */
static __always_inline struct edge *get_meta(u32 group)
{
	struct edge_key key = { .kind = EDGE_META };
	void *table = bpf_map_lookup_elem(&tables, &group);

	return table ? bpf_map_lookup_elem(table, &key) : NULL;
}

static __always_inline u32 answer_of(struct edge *meta, enum control control)
{
	return meta->META_ANSWERS >> ANSWER_SHIFT(control) & 3;
}

/* begin_denial empties the record of a slot. */
static __always_inline void begin_denial(struct slot *s)
{
	__builtin_memset(&s->record, 0, sizeof(s->record));
	s->mixed = 0;
}

/* What open_case is to do about a runtime that sets the container up. */
#define RUNTIME_NEVER 0	 /* it is not judged */
#define RUNTIME_INSIDE 1 /* it is, unless it runs outside */

#define NOT_HELD 0xfffffffe

/* open_case finds out who does something, and returns the number of a slot in which
 * that is noted, to be given back with free_slot; NOT_HELD when nobody asks about
 * it, and NO_SLOT when it can't be judged. */
__attribute__((noinline)) u32 open_case(u32 control, u32 runtime)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = current_leader();
	struct container *c = find_container(leader);
	struct hold *h = hold_of(c);
	struct super_block *root;
	struct edge *meta;
	struct slot *s;
	u32 which, answer;

	if (!c || !h)
		return NOT_HELD;
	meta = get_meta(h->group);
	if (!meta)
		return NOT_HELD;
	answer = answer_of(meta, control);
	if (answer == ANSWER_OFF)
		return NOT_HELD;
	/* The runtime's own files, and what its program does until it executes one of
	 * the container's. */
	if (is_runtime(leader, h, c) && (runtime == RUNTIME_NEVER || runs_outside(task)))
		return NOT_HELD;
	settle_hold(h, c, task);
	which = claim_slot();
	s = get_slot(which);
	if (!s) /* all are taken: who can't be judged is not let through, unless nobody would be stopped */
		return answer == ANSWER_DENY ? NO_SLOT : NOT_HELD;
	__builtin_memcpy(&s->container, c, sizeof(s->container));
	s->group = h->group;
	s->answer = answer;
	s->root = h->root;
	s->top = h->top;
	s->mounts = h->mounts;
	root = (void *)h->root;
	s->overlay = BPF_CORE_READ(root, s_magic) == OVERLAYFS_SUPER_MAGIC ? h->root : 0;
	begin_denial(s);
	return which;
}

/* path_of writes the path by which a file was opened. A file below an overlay,
 * which the overlay opens for itself, has that beside its own (struct backing_file
 * of fs/file_table.c; since 6.7, before it is f_path). */
#define FMODE_NOACCOUNT 0x20000000 /* opened by the kernel for itself: include/linux/fs.h, since 4.19; FMODE_BACKING has moved */

static __always_inline void path_of(struct file *file, struct path *path)
{
	u32 mode = BPF_CORE_READ(file, f_mode);

	if (mode & FMODE_NOACCOUNT && bpf_core_field_exists(((struct backing_file *)0)->user_path)) {
		struct backing_file *backing = (void *)file;

		path->mnt = BPF_CORE_READ(backing, user_path.mnt);
		path->dentry = BPF_CORE_READ(backing, user_path.dentry);
		return;
	}
	path->mnt = BPF_CORE_READ(file, f_path.mnt);
	path->dentry = BPF_CORE_READ(file, f_path.dentry);
}

#define MEMFD SIX('m', 'e', 'm', 'f', 'd', ':')

/* nameless tells of a file that was never in a folder what the kernel calls it: memfd,
 * or memory that is shared (mm/shmem.c, ipc/shm.c) or of large pages (fs/hugetlbfs);
 * 0 for any other file. */
static __always_inline u64 nameless(struct dentry *dentry)
{
	u64 name = first_six(BPF_CORE_READ(dentry, d_name.name));

	if (BPF_CORE_READ(dentry, d_parent) != dentry)
		return 0;
	if (name == MEMFD || name == SIX('d', 'e', 'v', '/', 'z', 'e') || name == SIX('a', 'n', 'o', 'n', '_', 'h') ||
	    (name & 0xffffffff) == SIX('S', 'Y', 'S', 'V', 0, 0))
		return name;
	return 0;
}

/* origin_for returns where a file is from, for the container of a case. Where its
 * root is no overlay, whatever is on its file system counts as the image's: who
 * judges asks walk whether it lies below the root. */
static __always_inline enum origin origin_for(struct slot *s, struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);

	if (nameless(dentry))
		return ORIGIN_MEMORY;
	if ((u64)sb != s->root)
		return ORIGIN_MOUNT;
	return s->overlay && upper(inode) ? ORIGIN_WRITTEN : ORIGIN_IMAGE;
}

/* -- Telling ---------------------------------------------------------------- */

static __always_inline void describe(struct slot *s, struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);

	s->record.device = BPF_CORE_READ(sb, s_dev);
	bpf_probe_read_kernel_str(s->record.file_system, sizeof(s->record.file_system),
				  BPF_CORE_READ(sb, s_type, name));
	if (!inode)
		return;
	s->record.inode = BPF_CORE_READ(inode, i_ino);
	s->record.mode = BPF_CORE_READ(inode, i_mode);
	if (!BPF_CORE_READ(inode, i_nlink))
		s->record.head.flags |= DENIAL_DELETED;
}

/* name_parent writes whose doing an exec was. As with the process sensor (see entered
 * of process.bpf.c), who has a parent outside came in, unless orphans are given to
 * that. */
__attribute__((noinline)) int name_parent(u32 which)
{
	struct task_struct *leader = current_leader();
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(parent, signal);
	struct pid_namespace *ns, *above;
	struct slot *s = get_slot(which);
	bool adopts;

	if (!s)
		return 0;
	bpf_probe_read_kernel(s->record.parent, sizeof(s->record.parent), &parent->comm);
	if (is_member(parent) || innermost(leader, &ns) == 1)
		return 0;
	adopts = innermost(parent, &above) == 1 || BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper);
	if (ns != above || !adopts)
		s->record.head.flags |= DENIAL_ENTERED;
	return 0;
}

/* tell_denial sends the record of a slot, unless one like it was sent: deed,
 * reaction, detail, and the path that lies in the slot, are what counts. */
__attribute__((noinline)) int tell_denial(u32 which, u32 deed, u32 reaction)
{
	struct task_struct *leader = current_leader();
	struct slot *s = get_slot(which);
	struct container *c;
	u64 id, size;
	u32 flags;

	if (!s)
		return 0;
	c = &s->container;
	__builtin_memset(&s->key, 0, sizeof(s->key));
	s->key.container = c->cgroup;
	s->key.doer = doer(leader);
	s->key.path = s->mixed;
	s->key.deed = deed;
	s->key.detail = s->record.detail;
	s->key.reaction = reaction;
	id = once(&window, &s->key);
	if (id == COUNTED)
		return 0;
	if (deed == DEED_EXEC || deed == DEED_SCRIPT)
		name_parent(which);
	flags = s->record.head.flags;
	fill_read(&s->record.head, SENSOR_GUARD, leader, c);
	s->record.head.kind = deed;
	s->record.head.flags |= flags;
	s->record.reaction = reaction;
	size = s->record.path_len + s->record.to_len;
	barrier_var(size);
	size &= NAMES_MASK;
	size += sizeof(s->record);
	submit_once(&window, &s->key, id, &s->record, size);
	return 0;
}

#endif
