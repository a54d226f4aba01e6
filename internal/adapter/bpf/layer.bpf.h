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

#define MAX_LAYERS 500 /* OVL_MAX_STACK of fs/overlayfs/params.h */

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

/* Where the overlay file system keeps what image_layer reads, in bytes. The
 * loader finds it in the types of the kernel or, as for most distributions, in
 * those of a module that may come after us: which is why these are not
 * relocations. Until then, and where there are no types, known is 0.
 *
 * Structs of fs/overlayfs/ovl_entry.h. */
struct overlay {
	u32 known;
	u32 layers;	 /* ovl_fs.numlayer, the upper one included; since 5.6 */
	u32 data_layers; /* ovl_fs.numdatalayer; 0 before 6.5, which has none */
	u32 entry;	 /* from the inode to ovl_inode.oe; 0 before 6.5: it is the dentry's d_fsdata */
	u32 stacked;	 /* ovl_entry.numlower */
	u32 layer;	 /* ovl_entry.lowerstack[0].layer: the topmost one that has the file */
	u32 index;	 /* ovl_layer.idx: the upper is 0, the topmost lower 1 */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct overlay);
} overlays SEC(".maps");

static __always_inline u64 peek(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/* image_layer returns which lower layer of the overlay a file of ORIGIN_IMAGE is
 * from: its number, counted from the lowest, which is 1, and in the upper 16
 * bits how many there are. 0 is not known.
 *
 * Never asked for a file that was copied up: what its inode then names as lower
 * is a layer of the same device, not the one that it came from. Layers that hold
 * data alone are of no image that an engine unpacks. */
static __always_inline u32 image_layer(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u64 fs = (u64)BPF_CORE_READ(inode, i_sb, s_fs_info);
	u32 zero = 0, all, index;
	struct overlay *at = bpf_map_lookup_elem(&overlays, &zero);
	u64 entry;

	if (!at || !at->known || (at->data_layers && (u32)peek(fs + at->data_layers)))
		return 0;
	entry = at->entry ? peek((u64)inode + at->entry) :
			    (u64)BPF_CORE_READ(file, f_path.dentry, d_fsdata);
	if (!(u32)peek(entry + at->stacked))
		return 0;
	all = (u32)peek(fs + at->layers) - 1;
	index = (u32)peek(peek(entry + at->layer) + at->index);
	if (!index || index > all || all > MAX_LAYERS)
		return 0;
	return all << 16 | (all - index + 1);
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
