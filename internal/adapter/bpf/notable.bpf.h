/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether a file that is opened for reading may be one whose reading is told.
 *
 * This is asked at nearly every open of every process, so it is cheap and only
 * rules out: by the file's name, the last bytes of it, and the name of its
 * folder. Whether the whole path fits a rule, Go decides (sensitive.go).
 */
#ifndef CASTELLAN_NOTABLE_BPF_H
#define CASTELLAN_NOTABLE_BPF_H

#include "kernel.bpf.h"
#include "path.bpf.h"
#include "read.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum notable {
	NOTABLE_NAME = 1, /* text: the first NOTABLE_TEXT bytes of a file's name */
	NOTABLE_SUFFIX,	  /* text: the last NOTABLE_SUFFIX_LEN bytes of it */
	NOTABLE_FOLDER,	  /* text: the first NOTABLE_TEXT bytes of its folder's name */
};

#define NOTABLE_TEXT 31
#define NOTABLE_SUFFIX_LEN 4

struct notable_key {
	u8 what;
	u8 text[NOTABLE_TEXT];
};

/* Filled by Go from the rules. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct notable_key);
	__type(value, u8);
} notables SEC(".maps");

/* One bit for the first eight bytes of each text, found by multiplication: most
 * names are ruled out by it, without a look-up. */
#define MARK_BITS 12
#define MARK_FACTOR 0x9e3779b97f4a7c15ull

struct marks {
	u64 bits[(1 << MARK_BITS) / 64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct marks);
} marks SEC(".maps");

static __always_inline bool is_marked(struct marks *m, enum notable what, u64 word)
{
	u64 bit = ((word + what) * MARK_FACTOR) >> (64 - MARK_BITS);

	return m->bits[bit / 64] >> (bit % 64) & 1;
}

/* What is read of a dentry: one piece of it, where the kernel keeps these side
 * by side (all from 5.8 to 6.18), and the short name that follows. With HAS_CAST
 * of the text only the first word is there. */
struct near {
	struct dentry *parent;
	u64 hash_len;
	const char *name;
	struct inode *inode;
	u64 text[4];
};

static __always_inline void read_near(struct near *n, struct dentry *dentry)
{
	u64 at = bpf_core_field_offset(struct dentry, d_parent);

	if (HAS_CAST) {
		dentry = AS(struct dentry, dentry);
		n->parent = dentry->d_parent;
		n->hash_len = dentry->d_name.hash_len;
		n->name = (const char *)dentry->d_name.name;
		n->inode = dentry->d_inode;
		n->text[0] = word_at(n->name);
		return;
	}
	if (bpf_core_field_offset(struct dentry, d_name) == at + 8 &&
	    bpf_core_field_offset(struct dentry, d_inode) == at + 24) {
		bpf_probe_read_kernel(n, sizeof(*n), (void *)dentry + at);
	} else {
		n->parent = BPF_CORE_READ(dentry, d_parent);
		n->hash_len = BPF_CORE_READ(dentry, d_name.hash_len);
		n->name = (const char *)BPF_CORE_READ(dentry, d_name.name);
		n->inode = BPF_CORE_READ(dentry, d_inode);
		at = ~0ull;
	}
	if ((u64)n->name != (u64)dentry + at + 32)
		bpf_probe_read_kernel(n->text, sizeof(n->text), n->name);
}

/* first_word returns the first eight bytes of the name, zero padded. */
static __always_inline u64 first_word(struct near *n)
{
	u64 len = n->hash_len >> 32;

	return len < 8 ? n->text[0] & ((1ull << (len * 8)) - 1) : n->text[0];
}

/* last_word returns the last NOTABLE_SUFFIX_LEN bytes of a name that is at least
 * as long. */
static __always_inline u32 last_word(struct near *n, u32 len)
{
	u32 at = len - NOTABLE_SUFFIX_LEN, shift = at % 8 * 8;
	u64 low, high;
	u32 word = 0;

	/* Not beyond its end, which may be that of what can be read. */
	if (HAS_CAST)
		return len < 8 ? n->text[0] >> (at * 8) : word_at(n->name + len - 8) >> 32;
	if (at < 8) {
		low = n->text[0];
		high = n->text[1];
	} else if (at < 16) {
		low = n->text[1];
		high = n->text[2];
	} else if (at < 24) {
		low = n->text[2];
		high = n->text[3];
	} else {
		bpf_probe_read_kernel(&word, sizeof(word), n->name + at);
		return word;
	}
	return low >> shift | (shift ? high << (64 - shift) : 0);
}

static __always_inline bool is_listed(enum notable what, const void *text, u32 len)
{
	struct notable_key key = {};

	key.what = what;
	if (len > NOTABLE_TEXT)
		len = NOTABLE_TEXT;
	if (len)
		bpf_probe_read_kernel(key.text, len, text);
	return bpf_map_lookup_elem(&notables, &key);
}

static __always_inline bool is_notable_name(struct marks *m, struct near *n)
{
	u32 len = n->hash_len >> 32;

	if (is_marked(m, NOTABLE_NAME, first_word(n)) && is_listed(NOTABLE_NAME, n->name, len))
		return true;
	if (len < NOTABLE_SUFFIX_LEN)
		return false;
	return is_marked(m, NOTABLE_SUFFIX, last_word(n, len)) &&
	       is_listed(NOTABLE_SUFFIX, n->name + len - NOTABLE_SUFFIX_LEN, NOTABLE_SUFFIX_LEN);
}

static __always_inline bool is_notable_folder(struct marks *m, struct vfsmount *mnt,
					      struct dentry *root, struct dentry *folder)
{
	struct near n;

	if (folder == root) /* it has the name of what it is mounted on */
		folder = BPF_CORE_READ(mount_of(mnt), mnt_mountpoint);
	read_near(&n, folder);
	return is_marked(m, NOTABLE_FOLDER, first_word(&n)) &&
	       is_listed(NOTABLE_FOLDER, n.name, n.hash_len >> 32);
}

/* is_notable_mount asks the same of a file that is mounted by itself, whose
 * name is that of the file it is mounted on. */
static __always_inline bool is_notable_mount(struct marks *m, struct vfsmount *mnt)
{
	struct dentry *at = BPF_CORE_READ(mount_of(mnt), mnt_mountpoint);
	struct vfsmount *below = (void *)BPF_CORE_READ(mount_of(mnt), mnt_parent) +
				 bpf_core_field_offset(struct mount, mnt);
	struct near n;

	read_near(&n, at);
	return is_notable_name(m, &n) ||
	       is_notable_folder(m, below, BPF_CORE_READ(below, mnt_root), n.parent);
}

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFLNK 0120000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

static __always_inline bool is_device(u16 mode)
{
	return (mode & S_IFMT) == S_IFCHR || (mode & S_IFMT) == S_IFBLK;
}

/* is_notable tells whether an open file may be sensitive, or is a device. A
 * function of its own, for the 512 bytes of stack that all on the way share. */
__attribute__((noinline)) int is_notable(u64 address)
{
	struct file *file = (void *)address;
	u32 zero = 0;
	struct marks *m = bpf_map_lookup_elem(&marks, &zero);
	struct dentry *dentry, *root;
	struct vfsmount *mnt;
	struct inode *inode;
	struct path path;
	struct near n;
	u16 mode;

	if (!m)
		return false;
	if (HAS_CAST) {
		mnt = AS(struct file, file)->f_path.mnt;
		dentry = AS(struct file, file)->f_path.dentry;
		root = AS(struct vfsmount, mnt)->mnt_root;
		read_near(&n, dentry);
		mode = AS(struct inode, n.inode)->i_mode;
	} else {
		if (bpf_probe_read_kernel(&path, sizeof(path), &file->f_path))
			return false;
		mnt = path.mnt;
		dentry = path.dentry;
		root = BPF_CORE_READ(mnt, mnt_root);
		read_near(&n, dentry);
		inode = n.inode;
		mode = BPF_CORE_READ(inode, i_mode);
	}
	if (is_device(mode) || is_notable_name(m, &n))
		return true;
	if (dentry == root)
		return is_notable_mount(m, mnt);
	return is_notable_folder(m, mnt, root, n.parent);
}

#endif
