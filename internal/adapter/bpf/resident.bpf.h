/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who was first in a container, and what the host itself sees: against these
 * it is told who came in later, and which files are the image's.
 */
#ifndef CASTELLAN_RESIDENT_BPF_H
#define CASTELLAN_RESIDENT_BPF_H

#include "container.bpf.h"

/* The first process that ran a program in a container: its init. */
struct resident {
	struct process_key key;
	u64 root; /* the super block that it has as its root */
	u64 top;  /* the folder; of an overlay, its uppermost: as with guards (settle_hold) */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct cgroup_key);
	__type(value, struct resident);
} residents SEC(".maps");

/* What the host's process 1 sees, once it was met. */
struct host {
	u64 mounts; /* its mount namespace */
	u64 root;   /* the super block of its root */
	u64 top;    /* the folder that it has as its root: a dentry */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct host);
} hosts SEC(".maps");

#define MAX_GENERATIONS 64

static __always_inline u64 root_of(struct task_struct *task)
{
	return (u64)BPF_CORE_READ(task, fs, root.dentry, d_sb);
}

/* get_host returns what process 1 sees; zeros while it has not been met among
 * the parents of any task. */
static __always_inline struct host *get_host(struct task_struct *task)
{
	u32 zero = 0;
	struct host *host = bpf_map_lookup_elem(&hosts, &zero);

	if (!host || host->mounts)
		return host;
	for (int i = 0; i < MAX_GENERATIONS; i++) {
		if (BPF_CORE_READ(task, tgid) == 1) {
			host->root = root_of(task);
			host->top = (u64)BPF_CORE_READ(task, fs, root.dentry);
			host->mounts = (u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
			break;
		}
		task = BPF_CORE_READ(task, real_parent);
	}
	return host;
}

/* sees_host tells whether a task has the host's mount namespace. In a
 * container's cgroup that is its runtime, which still sets up, or a process
 * that broke out. */
static __always_inline bool sees_host(struct host *host, struct task_struct *task)
{
	return host->mounts && (u64)BPF_CORE_READ(task, nsproxy, mnt_ns) == host->mounts;
}

/* settle makes the task the first of its container, unless there is one, and
 * returns the one that there is. A first one that had the host's root was a
 * hook of the runtime, run before it changed roots: it gives way. */
static __always_inline struct resident *settle(struct host *host, struct task_struct *task,
					       struct container *c)
{
	struct cgroup_key cgroup = c->cgroup;
	struct resident *r = bpf_map_lookup_elem(&residents, &cgroup);
	struct resident first = {};

	first.root = root_of(task);
	if (r && (r->root != host->root || first.root == host->root))
		return r;
	first.top = (u64)BPF_CORE_READ(task, fs, root.dentry);
	if (overlay_of((void *)first.top))
		first.top = (u64)BPF_CORE_READ(task, fs, root.mnt, mnt_root);
	first.key.start = BPF_CORE_READ(task, start_boottime);
	first.key.tgid = BPF_CORE_READ(task, tgid);
	bpf_map_update_elem(&residents, &cgroup, &first, BPF_ANY);
	return bpf_map_lookup_elem(&residents, &cgroup);
}

/* The root up to which put_path writes. */
struct top {
	u64 mnt;
	u64 dentry;
	u32 device; /* of its file system, if it is the container's and not the task's own root; or 0 */
	bool other; /* the task has made another folder its root than its container has */
};

/* find_likely_top does so where no program is known to have run in the container: if the
 * task's is no root of a mount, it is that of the overlay that it is in, or of all mounts. */
static __always_inline void find_likely_top(struct vfsmount *mnt, struct top *top)
{
	struct dentry *above = BPF_CORE_READ(mnt, mnt_root);

	if (!above || (u64)above == top->dentry)
		return;
	if (overlay_of(above)) {
		top->dentry = (u64)above;
		top->device = BPF_CORE_READ(above, d_sb, s_dev);
	} else {
		top->mnt = 0;
		top->dentry = 0;
	}
	top->other = true;
}

/* find_top writes up to where paths are told that a task has: up to its root. For a
 * task of a container that has made another folder its own, it is the container's:
 * guards hold files to their paths below that. c is looked at if inside says so. */
static __always_inline void find_top(struct task_struct *task, struct container *c, bool inside, struct top *top)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct resident *first = NULL;
	struct dentry *shared;
	struct path root = {};
	struct host *host;
	u32 zero = 0;

	/* At once: another thread may change it. */
	bpf_probe_read_kernel(&root, sizeof(root), &fs->root);
	top->mnt = (u64)root.mnt;
	top->dentry = (u64)root.dentry;
	top->device = 0;
	top->other = false;
	if (!inside)
		return;
	first = bpf_map_lookup_elem(&residents, &c->cgroup);
	if (!first || !first->top) {
		find_likely_top(root.mnt, top);
		return;
	}
	host = bpf_map_lookup_elem(&hosts, &zero);
	if (first->top == top->dentry || !host || sees_host(host, task))
		return;
	top->mnt = 0;
	shared = (void *)first->top;
	top->dentry = (u64)shared;
	top->device = BPF_CORE_READ(shared, d_sb, s_dev);
	top->other = true;
}

#endif
