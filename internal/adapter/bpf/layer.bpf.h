/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The layer of a container that a file is from.
 */
#ifndef CASTELLAN_LAYER_BPF_H
#define CASTELLAN_LAYER_BPF_H

#include "resident.bpf.h"

enum origin {
	ORIGIN_UNKNOWN,
	ORIGIN_IMAGE,
	ORIGIN_WRITTEN,
	ORIGIN_MOUNT,
	ORIGIN_MEMORY,
	ORIGIN_HOST,
};

/* upper returns the dentry that an overlay inode has in the upper layer, NULL
 * when it is only in lower ones. struct ovl_inode (fs/overlayfs/ovl_entry.h)
 * has __upperdentry right behind vfs_inode since 4.19. It is read by the size
 * of struct inode because overlay is a module on most distributions, whose
 * types the kernel's own BTF does not have. */
static __always_inline u64 upper(struct inode *inode)
{
	u64 dentry = 0;

	bpf_probe_read_kernel(&dentry, sizeof(dentry),
			      (void *)inode + bpf_core_type_size(struct inode));
	return dentry;
}

static __always_inline enum origin origin(struct inode *inode, struct resident *first)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);

	if (!first)
		return ORIGIN_UNKNOWN;
	if ((u64)sb != first->root)
		return ORIGIN_MOUNT;
	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return ORIGIN_UNKNOWN;
	return upper(inode) ? ORIGIN_WRITTEN : ORIGIN_IMAGE;
}

/* in_memory tells whether the file was never in a folder: its dentry is a root
 * of its own, without being that of a mount, and called "memfd:…"
 * (mm/memfd.c; since 3.17). */
static __always_inline bool in_memory(struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	return BPF_CORE_READ(dentry, d_parent) == dentry &&
	       first_six(BPF_CORE_READ(dentry, d_name.name)) == SIX('m', 'e', 'm', 'f', 'd', ':');
}

/* origin_of_open returns where a file that the task has open is from; task is a
 * thread group leader. */
static __always_inline enum origin origin_of_open(struct task_struct *task, struct container *c,
						  struct file *file)
{
	struct host *host = get_host(task);

	if (!c || !host || sees_host(host, task))
		return ORIGIN_HOST;
	if (in_memory(file))
		return ORIGIN_MEMORY;
	return origin(BPF_CORE_READ(file, f_inode), settle(host, task, c));
}

/* settle_one tells the residents map of a process that runs already: for an
 * iterator over all tasks. */
static __always_inline void settle_one(struct task_struct *task)
{
	struct container *c;
	struct host *host;

	if (!task || task->pid != task->tgid || !task->mm)
		return;
	host = get_host(task);
	c = find_container(task);
	if (host && c && !sees_host(host, task))
		settle(host, task, c);
}

#endif
