/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a descriptor stands for: another process, a namespace, a file system to be
 * mounted. What a number stands for is in pid.bpf.h.
 */
#ifndef CASTELLAN_TARGET_BPF_H
#define CASTELLAN_TARGET_BPF_H

#include "privilege.bpf.h"
#include "pid.bpf.h"

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

	if (!r || !w || !pid)
		return TARGET_NONE;
	task = task_of((struct pid *)pid);
	if (!task)
		return TARGET_NONE;
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
