/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Files of pseudo file systems: which of them are knobs of the host's kernel, and
 * which show what is in another process's memory. Told by their place within their
 * file system, wherever it is mounted; as knob.go and sensitive.go have it for what
 * the sensors tell.
 */
#ifndef CASTELLAN_PSEUDO_BPF_H
#define CASTELLAN_PSEUDO_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define PROC_SUPER_MAGIC 0x9fa0 /* include/uapi/linux/magic.h */
#define SYSFS_MAGIC 0x62656572
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define BINFMTFS_MAGIC 0x42494e4d

/* What a file of a pseudo file system is, for who opens it. */
enum knob {
	KNOB_NONE,
	KNOB_KERNEL,  /* writing it changes the host's kernel */
	KNOB_DEVICES, /* writing it permits devices */
	KNOB_MEMORY,  /* reading it tells another process's secrets: environ, mem, kcore */
};

#define MAX_KNOB_DEPTH 16 /* folders within a pseudo file system */

/* name_of returns the first eight bytes of a name, zero padded, and its length. */
static __always_inline u64 name_of(struct dentry *dentry, u32 *len)
{
	u64 word = 0;

	*len = BPF_CORE_READ(dentry, d_name.hash_len) >> 32;
	bpf_probe_read_kernel_str(&word, sizeof(word), BPF_CORE_READ(dentry, d_name.name));
	return word;
}

#define WORD7(a, b, c, d, e, f, g) (SIX(a, b, c, d, e, f) | (u64)(g) << 48)

static __always_inline bool is_name(struct dentry *dentry, u64 word, u32 len)
{
	u32 has;
	u64 begin = name_of(dentry, &has);

	return begin == word && has == len;
}

/* uppermost returns the folder at the root of its file system in which a file is, or
 * the file itself, and the one below that on the way to the file. */
static __always_inline struct dentry *uppermost(struct dentry *dentry, struct dentry **below)
{
	*below = NULL;
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_KNOB_DEPTH; i++) {
		struct dentry *up = BPF_CORE_READ(dentry, d_parent);

		if (!up || up == BPF_CORE_READ(up, d_parent))
			break;
		*below = dentry;
		dentry = up;
	}
	return dentry;
}

static __always_inline enum knob proc_knob(struct dentry *dentry)
{
	struct dentry *below, *top = uppermost(dentry, &below);

	if (is_name(dentry, WORD7('e', 'n', 'v', 'i', 'r', 'o', 'n'), 7))
		return KNOB_MEMORY;
	if (is_name(dentry, SIX('m', 'e', 'm', 0, 0, 0), 3))
		return top != dentry ? KNOB_MEMORY : KNOB_NONE;
	if (top == dentry && is_name(dentry, SIX('k', 'c', 'o', 'r', 'e', 0), 5))
		return KNOB_MEMORY;
	if (top == dentry)
		return is_name(dentry, WORD7('s', 'y', 's', 'r', 'q', '-', 't'), 13) ? KNOB_KERNEL : KNOB_NONE;
	if (below != dentry && is_name(top, SIX('s', 'y', 's', 0, 0, 0), 3) &&
	    is_name(below, SIX('k', 'e', 'r', 'n', 'e', 'l'), 6))
		return KNOB_KERNEL;
	return KNOB_NONE;
}

static __always_inline enum knob sysfs_knob(struct dentry *dentry)
{
	struct dentry *below, *top = uppermost(dentry, &below);

	if (top != dentry && (is_name(top, SIX('k', 'e', 'r', 'n', 'e', 'l'), 6) ||
			      is_name(top, SIX('m', 'o', 'd', 'u', 'l', 'e'), 6) ||
			      is_name(top, SIX('p', 'o', 'w', 'e', 'r', 0), 5)))
		return KNOB_KERNEL;
	return KNOB_NONE;
}

/* knob_of says what a file of a pseudo file system is. All arguments are numbers, as
 * in find_id. */
__attribute__((noinline)) int knob_of(u64 address)
{
	struct dentry *dentry = (void *)address;

	switch (BPF_CORE_READ(dentry, d_sb, s_magic)) {
	case PROC_SUPER_MAGIC:
		return proc_knob(dentry);
	case SYSFS_MAGIC:
		return sysfs_knob(dentry);
	case BINFMTFS_MAGIC:
		return KNOB_KERNEL;
	case CGROUP_SUPER_MAGIC:
		if (is_name(dentry, WORD7('r', 'e', 'l', 'e', 'a', 's', 'e'), 13))
			return KNOB_KERNEL; /* release_agent */
		if (is_name(dentry, WORD7('d', 'e', 'v', 'i', 'c', 'e', 's'), 13) ||
		    is_name(dentry, WORD7('d', 'e', 'v', 'i', 'c', 'e', 's'), 12))
			return KNOB_DEVICES; /* devices.allow, devices.deny; devices.list is none to write */
	}
	return KNOB_NONE;
}

#endif
