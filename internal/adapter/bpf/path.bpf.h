/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The scratch in which records of varying length are put together, and the way
 * from a dentry to a path.
 */
#ifndef CASTELLAN_PATH_BPF_H
#define CASTELLAN_PATH_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define MAX_NAME 256	  /* NAME_MAX and the closing NUL */
#define MAX_PATH 4096	  /* PATH_MAX; one name may begin before and end after it */
#define MAX_PATH_STEPS 64 /* names and mount points together */

/* A record of varying length is put together here, by one program of a sensor:
 * it cannot be interrupted by itself, but it can be by another. */
#define SCRATCH_HEAD 0x4000 /* where a part may begin; a power of two */
#define SCRATCH_TAIL 0x2000 /* how long the last part may be */

struct scratch {
	u8 b[SCRATCH_HEAD + SCRATCH_TAIL];
	/* The verifier knows nothing of a number that it reads from a map, so it
	 * does not tell the rounds of a loop apart by it. */
	u32 cursor;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *get_scratch(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* put_string copies a string of the kernel with its NUL to the scratch at the
 * given place, and returns how many bytes that took; 0 if it can't be read.
 * max is a constant. */
static __always_inline u32 put_string(struct scratch *s, u32 at, u32 max, const void *string)
{
	long n = bpf_probe_read_kernel_str(&s->b[at & (SCRATCH_HEAD - 1)], max, string);

	return n > 0 ? n : 0;
}

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* overlay_of returns the super block of a folder, if that is an overlay's, or 0. */
static __always_inline u64 overlay_of(struct dentry *dentry)
{
	if (BPF_CORE_READ(dentry, d_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return 0;
	return (u64)BPF_CORE_READ(dentry, d_sb);
}

#define PATH_BYTES 0x3fff /* of what put_path returns: how many bytes it wrote */
#define PATH_CUT 0x4000	  /* and whether the beginning of the path is missing */

/* put_path writes the names of a path to the scratch, last name first, each
 * with its NUL: up to the given root, or to the root of the mount tree for what
 * lies outside. A file that was never in a folder (a memfd) is its one name.
 * Without the mount of the root the path is as walk (automaton.bpf.h) has it: up to
 * that folder in whichever mount, and of an overlay by its folders alone.
 * All arguments are numbers, as in find_id. */
__attribute__((noinline)) int put_path(u64 mnt, u64 leaf, u64 root_mnt, u64 root_dentry, u32 at)
{
	struct mount *mount = mount_of((void *)mnt);
	struct mount *root = mount_of((void *)root_mnt);
	struct dentry *dentry = (void *)leaf;
	struct scratch *s = get_scratch();
	u64 overlay = root_mnt ? 0 : overlay_of((void *)root_dentry);

	if (!s)
		return PATH_CUT;
	s->cursor = 0;
	for (int i = 0; i < MAX_PATH_STEPS; i++) {
		struct dentry *up;
		u32 bytes = s->cursor;

		if ((u64)dentry == root_dentry && (!root_mnt || mount == root))
			return bytes & PATH_BYTES;
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) &&
		    (!overlay || (u64)BPF_CORE_READ(dentry, d_sb) != overlay)) {
			struct mount *below = BPF_CORE_READ(mount, mnt_parent);

			if (!below || below == mount)
				return bytes & PATH_BYTES;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = below;
			continue;
		}
		if (bytes >= MAX_PATH)
			break;
		s->cursor = bytes + put_string(s, at + bytes, MAX_NAME,
					       BPF_CORE_READ(dentry, d_name.name));
		up = BPF_CORE_READ(dentry, d_parent);
		if (!up || up == dentry)
			return s->cursor & PATH_BYTES;
		dentry = up;
	}
	return (s->cursor & PATH_BYTES) | PATH_CUT;
}

#endif
