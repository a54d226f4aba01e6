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
	first.key.start = BPF_CORE_READ(task, start_boottime);
	first.key.tgid = BPF_CORE_READ(task, tgid);
	bpf_map_update_elem(&residents, &cgroup, &first, BPF_ANY);
	return bpf_map_lookup_elem(&residents, &cgroup);
}

#endif
