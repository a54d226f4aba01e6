/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a number or a descriptor stands for: another process, a namespace, a
 * file system to be mounted.
 */
#ifndef CASTELLAN_TARGET_BPF_H
#define CASTELLAN_TARGET_BPF_H

#include "privilege.bpf.h"

#define NSFS_MAGIC 0x6e736673	   /* include/uapi/linux/magic.h */
#define ANON_INODE_FS_MAGIC 0x09041934
#define PID_FS_MAGIC 0x50494446

/* is_namespace tells an open /proc/PID/ns/… */
static __always_inline bool is_namespace(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_sb, s_magic) == NSFS_MAGIC;
}

/* is_context tells a descriptor of fsopen or fspick from others. The name of
 * such a file is "[fscontext]" (fs/fsopen.c, since 5.2). */
static __always_inline bool is_context(struct file *file)
{
	const void *name = BPF_CORE_READ(file, f_path.dentry, d_name.name);

	return BPF_CORE_READ(file, f_inode, i_sb, s_magic) == ANON_INODE_FS_MAGIC &&
	       first_six(name) == SIX('[', 'f', 's', 'c', 'o', 'n');
}

/* pid_of_file returns what a pidfd stands for. It is an anonymous file with the
 * process in private_data until 6.8, and one of pidfs since, with the process
 * in its inode. */
static __always_inline struct pid *pid_of_file(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u64 magic = BPF_CORE_READ(inode, i_sb, s_magic);

	if (magic == PID_FS_MAGIC)
		return BPF_CORE_READ(inode, i_private);
	if (magic == ANON_INODE_FS_MAGIC &&
	    first_six(BPF_CORE_READ(file, f_path.dentry, d_name.name)) ==
		    SIX('[', 'p', 'i', 'd', 'f', 'd'))
		return BPF_CORE_READ(file, private_data);
	return NULL;
}

#define XA_NODE 2	 /* the two low bits of an entry that is a node: include/linux/xarray.h */
#define XA_LOWEST 4096	 /* below are marks, no nodes */
#define XA_MASK 63	 /* of an index within a node */
#define MAX_XA_LEVELS 5	 /* 6 bits each: 2^22 numbers and one to spare */

/* pid_of_number returns what a process id stands for in the pid namespace of
 * the running process; NULL for none. It walks the namespace's tree as
 * xa_load (lib/xarray.c) does; 4 bits a level where the kernel is built for
 * the smallest machines, which is not looked for. */
static __always_inline struct pid *pid_of_number(u32 number)
{
	struct pid_namespace *ns;
	u64 entry;

	innermost((void *)bpf_get_current_task(), &ns);
	entry = (u64)BPF_CORE_READ(ns, idr.idr_rt.xa_head);
#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_XA_LEVELS; i++) {
		struct xa_node *node = (void *)(entry - XA_NODE);
		u8 shift;

		if ((entry & 3) != XA_NODE || entry <= XA_LOWEST)
			break;
		shift = BPF_CORE_READ(node, shift);
		if (!i && number >> (shift & 31) > XA_MASK)
			return NULL;
		entry = 0;
		bpf_probe_read_kernel(&entry, sizeof(entry),
				      (void *)node + bpf_core_field_offset(struct xa_node, slots) +
					      (number >> (shift & 31) & XA_MASK) * sizeof(entry));
	}
	return entry & 3 ? NULL : (void *)entry;
}

/* What set_target found. */
#define TARGET_NONE 0
#define TARGET_SELF 1
#define TARGET_OTHER 2

/* set_target writes the process of a struct pid into the record in the scratch.
 * All arguments are numbers, as in find_id. */
__attribute__((noinline)) int set_target(u64 pid)
{
	struct privilege *r = (void *)get_scratch();
	struct work *w = get_work();
	struct task_struct *task;
	struct container *c;
	u64 link;

	if (!r || !w || !pid)
		return TARGET_NONE;
	link = (u64)BPF_CORE_READ((struct pid *)pid, tasks[0].first);
	if (!link)
		return TARGET_NONE; /* it has ended */
	task = (void *)link - bpf_core_field_offset(struct task_struct, pid_links);
	task = BPF_CORE_READ(task, group_leader);
	if (task == current_leader())
		return TARGET_SELF;
	r->target_tgid = BPF_CORE_READ(task, tgid);
	r->target_start = BPF_CORE_READ(task, start_boottime);
	c = find_container(task);
	if (!c) {
		if (w->inside)
			r->bits |= BIT_TARGET_HOST;
		return TARGET_OTHER;
	}
	if (w->inside && c->cgroup.id == w->container.cgroup.id &&
	    c->cgroup.hierarchy == w->container.cgroup.hierarchy)
		return TARGET_OTHER;
	r->bits |= BIT_TARGET_CONTAINER;
	__builtin_memcpy(r->target_container, c->id, sizeof(r->target_container));
	return TARGET_OTHER;
}

#endif
