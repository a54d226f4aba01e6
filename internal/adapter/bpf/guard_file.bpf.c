//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What held containers change of files, and which sensitive ones they read.
 *
 * All hooks are BPF LSM's. Names are made, changed and removed at path_… (include/
 * linux/lsm_hook_defs.h; CONFIG_SECURITY_PATH), which the system calls ask before
 * the file system: what the kernel does for itself, such as an overlay that copies a
 * file up, does not come by. Contents are held at file_open, when the file is known
 * and before its descriptor is there: by whichever call, from an io_uring too. Who
 * has a file open for writing may write it, map it and cut it.
 *
 * What is asked is what the file sensor tells (file.bpf.c), so that a profile that
 * was learned has it.
 */
#include "guard.bpf.h"
#include "guard_marks.bpf.h"
#include "notable.bpf.h"
#include "pseudo.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const enum knob *unused_knob __attribute__((unused));

typedef unsigned short umode_t;

/* include/uapi/asm-generic/fcntl.h, the same on amd64 and arm64. */
#define O_TRUNC 01000
#define O_TMPFILE_BIT 020000000
#define FMODE_EXEC_OPEN 0x20 /* in f_flags: opened to be executed (include/linux/fs.h) */

/* f_mode: include/linux/fs.h, since 4.19. */
#define FMODE_WRITE 0x2
#define FMODE_CREATED 0x100000

/* Beside the list of a control, what a path is held against: see path_list. */
enum want {
	WANT_WRITE, /* it must be among those that are written */
	WANT_READ,  /* it must be among those that are read, if it is sensitive */
};

/* is_internal tells mounts of the kernel's own, which nobody has in a folder: pipes,
 * files in memory, and those by which an overlay reaches its layers. They have a mark
 * instead of a namespace (fs/namespace.c), or a flag. */
#define MNT_INTERNAL 0x4000
#define MNT_NS_INTERNAL ((u64)-22)

static __always_inline bool is_internal(struct vfsmount *mnt)
{
	struct vfsmount___guard *v = (void *)mnt;
	struct mount___guard *m = (void *)mount_of(mnt);

	return BPF_CORE_READ(v, mnt_flags) & MNT_INTERNAL || (u64)BPF_CORE_READ(m, mnt_ns) == MNT_NS_INTERNAL;
}

/* is_package tells the folders of packages. */
static __always_inline bool is_package(struct slot *s, u32 name)
{
	u64 word = 0;
	u32 len = s->length[name & (MAX_NAMES - 1)];
	u32 at = s->begin[name & (MAX_NAMES - 1)];

	word = *(u64 *)&s->names[at & NAMES_MASK];
	return (len == 12 && word == (WORD7('n', 'o', 'd', 'e', '_', 'm', 'o') | (u64)'d' << 56)) ||
	       (len == 13 && word == (WORD7('s', 'i', 't', 'e', '-', 'p', 'a') | (u64)'c' << 56));
}

/* is_packaged tells whether the path that was walked last is below such a folder. */
__attribute__((noinline)) int is_packaged(u32 which)
{
	struct slot *s = get_slot(which);

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 1; i < MAX_NAMES; i++) {
		if (i >= s->count)
			break;
		if (is_package(s, i))
			return 1;
	}
	return 0;
}

/* is_public tells a path that ends like a key and is everybody's: isPublic of
 * sensitive.go. Inline, as what follows: a program may call eight functions deep, and
 * to hold a path against a list takes five. */
static __always_inline bool is_public(u32 which, u32 group)
{
	return is_packaged(which) || is_listed_path(which, group, LIST_PUBLIC);
}

/* is_sensitive tells whether the path that was walked last in a slot is one whose
 * reading the profile must have: as sensitive.go has it. */
static __always_inline bool is_sensitive(u32 which, u32 group, struct dentry *dentry)
{
	if (BPF_CORE_READ(dentry, d_sb, s_magic) == PROC_SUPER_MAGIC)
		return knob_of((u64)dentry) == KNOB_MEMORY;
	if (is_listed_path(which, group, LIST_SENSITIVE))
		return true;
	return is_listed_path(which, group, LIST_KEYS) && !is_public(which, group);
}

/* judge_name walks a path into a slot from a place on, and tells whether the rules
 * have it. */
__attribute__((noinline)) int judge_name(u32 which, u64 mnt, u64 leaf, u32 at, u32 want)
{
	struct slot *s = get_slot(which);
	int n;

	if (!s)
		return 0;
	n = walk(which, mnt, leaf, at);
	if (n == WALK_CUT)
		s->record.head.flags |= DENIAL_CUT;
	if (n == WALK_OUTSIDE)
		s->record.head.flags |= DENIAL_OUTSIDE;
	if (n < 0)
		return 0;
	if (is_listed_path(which, s->group, want == WANT_READ ? LIST_READS : LIST_WRITES))
		return 1;
	return want == WANT_READ && !is_sensitive(which, s->group, (void *)leaf);
}

/* judge_to is for the second name of a change, behind the first one in the slot. Of a
 * symbolic link it is the text that the link holds, and no path. */
static __always_inline bool judge_to(u32 which, struct slot *s, u64 mnt, u64 to, u32 deed)
{
	u32 at = s->cursor & NAMES_MASK;
	bool ok = true;
	long len;

	s->record.path_len = at;
	if (!to)
		return true;
	if (deed == DEED_SYMLINK) {
		len = bpf_probe_read_kernel_str(&s->names[at], MAX_NAME, (void *)to);
		s->record.to_len = len > 0 ? len : 0;
		return true;
	}
	ok = judge_name(which, mnt, to, at, WANT_WRITE);
	s->record.to_len = (s->cursor - at) & NAMES_MASK;
	return ok;
}

/* Fields of the kernel's structs that nobody else reads. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inode___guard {
	kuid_t i_uid;
};

struct cred___guard {
	kuid_t fsuid;
	kernel_cap_t cap_effective;
};

#pragma clang attribute pop

/* include/uapi/linux/capability.h. */
#define CAP_CHOWN 0
#define CAP_DAC_OVERRIDE 1
#define CAP_FOWNER 3

/* is_refused_anyway tells a change that the file system will refuse for want of rights,
 * since these hooks are asked before it: what fails by itself is nothing outside, as the
 * sensors have it. Only of the container's overlay, which goes by its inodes' modes
 * alone; what it does not know counts as permitted. Nobody can change the modes in
 * between: the inode is locked. */
__attribute__((noinline)) int is_refused_anyway(u32 which, u64 address, u32 deed)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cred___guard *cred = (void *)BPF_CORE_READ(task, cred);
	struct dentry *dentry = (void *)address;
	struct inode___guard *owned;
	struct slot *s = get_slot(which);
	struct inode *inode;
	u64 able = 0;
	bool own;

	if (!s || !s->overlay || (u64)BPF_CORE_READ(dentry, d_sb) != s->overlay)
		return 0;
	bpf_probe_read_kernel(&able, sizeof(able), &cred->cap_effective);
	inode = deed == DEED_CHMOD || deed == DEED_CHOWN ? BPF_CORE_READ(dentry, d_inode) :
							   BPF_CORE_READ(dentry, d_parent, d_inode);
	owned = (void *)inode;
	own = BPF_CORE_READ(owned, i_uid.val) == BPF_CORE_READ(cred, fsuid.val);
	switch (deed) {
	case DEED_CHMOD:
		return !own && !(able >> CAP_FOWNER & 1);
	case DEED_CHOWN:
		return !own && !(able >> CAP_CHOWN & 1);
	case DEED_WRITE:
	case DEED_READ:
		return 0; /* asked when the file system has permitted it */
	}
	if (able >> CAP_DAC_OVERRIDE & 1)
		return 0;
	return !(BPF_CORE_READ(inode, i_mode) & (own ? 0200 : 0022));
}

/* judge_change tells what is to be done about a change of one name, or of two below
 * one mount: an enum answer. What lies outside the rules is told. The detail is that
 * of the record, with what more there is above it. */
__attribute__((noinline)) int judge_change(u64 mnt, u64 leaf, u64 to, u32 deed, u64 detail)
{
	u32 which, answer;
	struct slot *s;
	bool ok;

	if (is_internal((void *)mnt))
		return ANSWER_OFF;
	which = open_case(CONTROL_FILE, RUNTIME_NEVER);
	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	ok = judge_name(which, mnt, leaf, 0, deed == DEED_READ ? WANT_READ : WANT_WRITE);
	ok = judge_to(which, s, mnt, to, deed) && ok;
	answer = s->answer;
	if (ok || is_refused_anyway(which, deed == DEED_LINK ? to : leaf, deed)) {
		answer = ANSWER_OFF;
	} else {
		describe(s, (void *)leaf);
		s->record.origin = origin_for(s, (void *)leaf);
		s->record.detail = detail;
		s->record.more = detail >> 32;
		tell_denial(which, deed, answer == ANSWER_DENY ? REACTION_DENIED : REACTION_AUDITED);
	}
	free_slot(which);
	return answer;
}

static __always_inline int change(const struct path *path, u32 deed, u64 detail)
{
	return judge_change((u64)BPF_CORE_READ(path, mnt), (u64)BPF_CORE_READ(path, dentry), 0, deed, detail) == ANSWER_DENY ? -EPERM : 0;
}

/* change_in is for a name in a folder: its mount is the folder's. */
static __always_inline int change_in(const struct path *folder, u64 dentry, u32 deed, u32 detail)
{
	return judge_change((u64)BPF_CORE_READ(folder, mnt), dentry, 0, deed, detail) == ANSWER_DENY ? -EPERM : 0;
}

/* -- Contents --------------------------------------------------------------- */

/* judge_open is for an open that may have to be judged. */
static __always_inline int judge_open(struct file *file, u32 deed)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	u32 flags = BPF_CORE_READ(file, f_flags);

	u32 knob;

	if (deed != DEED_READ) {
		knob = knob_of((u64)dentry);
		if (knob == KNOB_KERNEL || knob == KNOB_DEVICES)
			return 0; /* a matter of privileges */
	}
	return judge_change((u64)BPF_CORE_READ(file, f_path.mnt), (u64)dentry, 0, deed, deed == DEED_CREATE ? S_IFREG : flags) == ANSWER_DENY ? -EPERM : 0;
}

/* Called for every open, when it has been permitted by all else; since 2.6, with this
 * argument alone since 4.19. Nearly all are for reading what is not sensitive. What
 * an open has made was judged by its name before. */
SEC("lsm/file_open")
int BPF_PROG(deny_open, struct file *file)
{
	u32 mode = file->f_mode, flags = file->f_flags;

	if (mode & (FMODE_NOACCOUNT | FMODE_CREATED) || (file->f_inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	if (flags & O_TMPFILE_BIT)
		return judge_open(file, DEED_CREATE);
	if (mode & FMODE_WRITE || flags & O_TRUNC)
		return judge_open(file, DEED_WRITE);
	if (flags & FMODE_EXEC_OPEN || !is_notable(number_of(file)))
		return 0;
	return judge_open(file, DEED_READ);
}

/* By name; until 6.1 also of an open file, which was judged when it was opened. */
SEC("lsm/path_truncate")
int BPF_PROG(deny_truncate, const struct path *path)
{
	return change(path, DEED_WRITE, O_TRUNC);
}

/* -- Names ------------------------------------------------------------------ */

/* Of an open that makes a file too, and of a socket that is bound to a name, which
 * sensors do not tell. */
SEC("lsm/path_mknod")
int BPF_PROG(deny_mknod, const struct path *dir, struct dentry *dentry, umode_t mode)
{
	if ((mode & S_IFMT) == S_IFSOCK)
		return 0;
	return change_in(dir, number_of(dentry), DEED_CREATE, mode);
}

SEC("lsm/path_mkdir")
int BPF_PROG(deny_mkdir, const struct path *dir, struct dentry *dentry, umode_t mode)
{
	return change_in(dir, number_of(dentry), DEED_CREATE, S_IFDIR | (mode & 07777));
}

SEC("lsm/path_symlink")
int BPF_PROG(deny_symlink, const struct path *dir, struct dentry *dentry, const char *text)
{
	return judge_change((u64)BPF_CORE_READ(dir, mnt), number_of(dentry), number_of(text), DEED_SYMLINK, 0) == ANSWER_DENY ? -EPERM : 0;
}

/* Who binds a socket takes the one away that a former process left: that a socket gets a
 * name is held by nobody, so neither is that it loses it. */
SEC("lsm/path_unlink")
int BPF_PROG(deny_unlink, const struct path *dir, struct dentry *dentry)
{
	if ((BPF_CORE_READ(dentry, d_inode, i_mode) & S_IFMT) == S_IFSOCK)
		return 0;
	return change_in(dir, number_of(dentry), DEED_DELETE, 0);
}

SEC("lsm/path_rmdir")
int BPF_PROG(deny_rmdir, const struct path *dir, struct dentry *dentry)
{
	return change_in(dir, number_of(dentry), DEED_DELETE, S_IFDIR);
}

/* A file that has another name can be written by that: both must be permitted. */
SEC("lsm/path_link")
int BPF_PROG(deny_link, struct dentry *old, const struct path *dir, struct dentry *dentry)
{
	return judge_change((u64)BPF_CORE_READ(dir, mnt), number_of(old), number_of(dentry), DEED_LINK, 0) == ANSWER_DENY ? -EPERM : 0;
}

SEC("lsm/path_rename")
int BPF_PROG(deny_rename, const struct path *dir, struct dentry *old, const struct path *to_dir, struct dentry *to)
{
	return judge_change((u64)BPF_CORE_READ(dir, mnt), number_of(old), number_of(to), DEED_RENAME, 0) == ANSWER_DENY ? -EPERM : 0;
}

/* -- Modes and owners ------------------------------------------------------- */

#define MODE_TOLD 06111 /* execute, set-uid, set-gid: what the sensor tells of */
#define MODE_FOLDER 06000

SEC("lsm/path_chmod")
int BPF_PROG(deny_chmod, const struct path *path, umode_t mode)
{
	u32 type = BPF_CORE_READ(path, dentry, d_inode, i_mode) & S_IFMT;

	if (!(mode & (type == S_IFDIR ? MODE_FOLDER : MODE_TOLD)))
		return 0;
	return change(path, DEED_CHMOD, mode & 07777);
}

SEC("lsm/path_chown")
int BPF_PROG(deny_chown, const struct path *path, u64 uid, u64 gid)
{
	return change(path, DEED_CHOWN, (u32)uid | gid << 32);
}
