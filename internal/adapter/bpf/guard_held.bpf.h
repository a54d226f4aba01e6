/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is held: which processes are of a container, which are a runtime that sets it up,
 * and what the container's root is.
 *
 * Included by guard.bpf.h.
 */
#ifndef CASTELLAN_GUARD_HELD_BPF_H
#define CASTELLAN_GUARD_HELD_BPF_H

/* Processes of held containers that ran a program there, and the children of
 * those: if somebody of the host moves one of them between cgroups, it is no
 * runtime that sets up. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, u8);
} members SEC(".maps");

static __always_inline void note_member(struct task_struct *leader)
{
	struct process_key key;
	u8 yes = 1;

	key_of(leader, &key);
	bpf_map_update_elem(&members, &key, &yes, BPF_ANY);
}

static __always_inline bool is_member(struct task_struct *leader)
{
	struct process_key key;

	key_of(leader, &key);
	return bpf_map_lookup_elem(&members, &key);
}

/* runs_outside tells, of such a process, that what it executes is not of the
 * container but the runtime's own, or a hook of it: it sees the host's mounts, or
 * has the host's root. That is a folder, and no file system: images may lie on the
 * host's own. */
static __always_inline bool runs_outside(struct task_struct *task)
{
	struct host *host = met_host();

	return host && (sees_host(host, task) || (u64)BPF_CORE_READ(task, fs, root.dentry) == host->top);
}

static __always_inline struct hold *hold_of(struct container *c)
{
	return c ? bpf_map_lookup_elem(&holds, c->id) : NULL;
}

/* is_settled tells whether the root of a container is known for this start of it: a
 * program has run in it. */
static __always_inline bool is_settled(struct hold *h, struct container *c)
{
	return h->root && h->cgroup.id == c->cgroup.id && h->cgroup.hierarchy == c->cgroup.hierarchy;
}

/* arrives tells a runtime that is being put into a container from outside and has no
 * mark yet: the kernel tells of the move when it was made, and what is moved may run
 * meanwhile on another CPU ("runc init" executes a copy of itself then). It still sees
 * what the host sees, runs no file of the container, and so does its parent, which has
 * other cgroups. That may be no process that orphans are given to, unless nothing has
 * run in the container: then there are none. Nothing here calls further: the stack of
 * those who ask has no room for that. */
__attribute__((noinline)) int arrives(u64 address, u64 root, u32 settled)
{
	struct task_struct *leader = (void *)address;
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(parent, signal);
	struct pid_namespace *ns;

	if (!runs_outside(leader) || !runs_outside(parent) || is_member(parent))
		return 0;
	if (BPF_CORE_READ(leader, cgroups) == BPF_CORE_READ(parent, cgroups))
		return 0;
	if (root && (u64)BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_sb) == root)
		return 0;
	return !settled || (innermost(parent, &ns) != 1 && !BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper));
}

/* is_runtime tells a process that its engine put into the container, or is about to,
 * and that has not executed a file there: see setup.bpf.h. No member has a mark, and
 * most who are asked about are members. */
static __always_inline bool is_runtime(struct task_struct *leader, struct hold *h, struct container *c)
{
	if (is_member(leader))
		return false;
	return is_setup(leader) || arrives(number_of(leader), h->root, is_settled(h, c));
}

/* settle_hold notes the root of a container, when it is not known for this start
 * of it. That of an overlay is the root of its mount: the process that is met first
 * may have made another folder its own. */
static __always_inline void settle_hold(struct hold *h, struct container *c, struct task_struct *task)
{
	struct vfsmount *mnt;
	struct dentry *top;

	if (is_settled(h, c) || runs_outside(task))
		return;
	mnt = BPF_CORE_READ(task, fs, root.mnt);
	top = BPF_CORE_READ(task, fs, root.dentry);
	h->cgroup = c->cgroup;
	h->mounts = (u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	h->top = (u64)top;
	if (BPF_CORE_READ(top, d_sb, s_magic) == OVERLAYFS_SUPER_MAGIC)
		h->top = (u64)BPF_CORE_READ(mnt, mnt_root);
	h->root = (u64)BPF_CORE_READ(top, d_sb);
}

#endif
