//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The file sensor: what is written, made, renamed, linked, deleted, made
 * executable or given away in containers, and who reads what is sensitive.
 *
 * An open is looked at when it has succeeded, by the struct file that it made:
 * what the kernel opened, whatever the memory of the process says by then. The
 * other calls leave no such trace: of them the path is told as it was passed,
 * with the folder that it starts from, and Go asks where it leads (claim.go).
 */
#include "file.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Run once at the start, so that the root of a container is known by its
 * oldest process. */
SEC("iter/task")
int settle_running(struct bpf_iter__task *ctx)
{
	settle_one(ctx->task);
	return 0;
}

/* -- Open ------------------------------------------------------------------- */

/* harmless tells the devices that every container has and uses. */
static __always_inline bool is_harmless(u32 rdev)
{
	u32 major = rdev >> 20, minor = rdev & 0xfffff;

	if (major == 1) /* null, zero, full, random, urandom */
		return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
	if (major == 5) /* tty, console, ptmx */
		return minor <= 2;
	return major >= 136 && major <= 143; /* pts */
}

/* kind_of_open returns what an open was, or 0 if it is not told. */
static __always_inline u32 kind_of_open(struct file *file, u32 flags)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u32 mode = BPF_CORE_READ(inode, i_mode) & S_IFMT;
	u32 f_mode = BPF_CORE_READ(file, f_mode);

	if (is_device(mode))
		return mode == S_IFCHR && is_harmless(BPF_CORE_READ(inode, i_rdev)) ? 0 : KIND_DEVICE;
	if (mode != S_IFREG)
		return 0;
	if (f_mode & FMODE_CREATED || flags & O_TMPFILE_BIT)
		return KIND_CREATE;
	return f_mode & FMODE_WRITE || flags & O_TRUNC ? KIND_WRITE : KIND_READ;
}

/* tell_open is for an open that may have to be told. Of the host's processes
 * it tells what may be sensitive, and what may be a knob of the kernel. */
__attribute__((noinline)) int tell_open(u64 address, u32 flags, u32 call)
{
	struct task_struct *leader = current_leader();
	struct file *file = (void *)address;
	u32 kind = kind_of_open(file, flags);
	struct job *job = get_job();
	struct container *c;
	u64 magic;

	if (!kind || !job)
		return 0;
	c = find_into(job, leader);
	magic = BPF_CORE_READ(file, f_inode, i_sb, s_magic);
	if (!c && (kind == KIND_DEVICE || (kind != KIND_READ && !is_notable((u64)file) &&
					   (!is_pseudo(magic) || magic == CGROUP2_SUPER_MAGIC))))
		return 0;
	begin_key(&job->key, leader, c, kind, 0);
	job->key.flags = flags & O_TOLD;
	job->call = call;
	return tell_file(address);
}

/* tell_refused is for an open that was refused: what it was for is known by the
 * path that the process passed. */
__attribute__((noinline)) int tell_refused(u64 name, int dir, u32 flags, int error, u32 call);

static __always_inline int opened(u32 slot, int fd, u32 flags)
{
	struct file *file = file_of(fd);

	if (!file)
		return 0; /* closed by another thread already */
	if (!(flags & (O_ACCMODE | O_CREAT | O_TRUNC)) && !is_notable((u64)file))
		return 0;
	if (flags & O_CREAT && !(flags & (O_ACCMODE | O_TRUNC)) &&
	    !(BPF_CORE_READ(file, f_mode) & (FMODE_CREATED | FMODE_WRITE)) && !is_notable((u64)file))
		return 0;
	return tell_open((u64)file, flags, slot);
}

/* One program for all ways to open: the verifier reads all that it calls again
 * for each program. Nearly every call of it is an open for reading that is not
 * told, so it looks at no more than it needs for that. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_open, struct pt_regs *regs, long ret)
{
	bool compat = is_compat(), at = true;
	u32 slot = slot_of(regs, compat);
	struct operation *op = bpf_map_lookup_elem(&operations, &slot);
	u64 flags, name;

	if (!op)
		return 0;
	switch (op->kind) {
	case OPENING_OPEN:
		flags = arg_of(regs, 1, compat);
		at = false;
		break;
	case OPENING_CREAT:
		flags = O_CREAT | O_TRUNC | 1;
		at = false;
		break;
	case OPENING_HOW: /* flags are the first field of struct open_how */
		if (bpf_probe_read_user(&flags, sizeof(flags), (void *)arg_of(regs, 2, compat)))
			flags = O_CREAT; /* gone: what was opened is looked at */
		break;
	default:
		flags = arg_of(regs, 2, compat);
	}
	if (flags & O_PATH)
		return 0;
	if (!has_failed(ret))
		return opened(slot, ret, flags);
	if (!is_refused(ret) || op->kind == OPENING_HANDLE)
		return 0;
	name = at ? arg_of(regs, 1, compat) : arg_of(regs, 0, compat);
	return name ? tell_refused(name, at ? arg_of(regs, 0, compat) : AT_FDCWD, flags, ret, slot) : 0;
}

/* -- Paths as they were passed ----------------------------------------------- */

/* put_start writes the folder that a relative path starts from, mixes it into
 * the hash, and returns what put_path does. */
__attribute__((noinline)) int put_start(int dir, u32 at)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct job *job = get_job();
	struct dentry *dentry;
	struct file *file;
	struct path path;

	if (!job)
		return PATH_CUT;
	if (dir == AT_FDCWD) {
		bpf_probe_read_kernel(&path, sizeof(path), &BPF_CORE_READ(task, fs)->pwd);
	} else {
		file = file_of(dir);
		if (!file)
			return PATH_CUT;
		bpf_probe_read_kernel(&path, sizeof(path), &file->f_path);
	}
	dentry = path.dentry;
	job->hash = mix(mix(job->hash, BPF_CORE_READ(dentry, d_inode, i_ino)),
			BPF_CORE_READ(dentry, d_sb, s_dev));
	/* Put together with the name and followed by the process's own root. */
	bpf_probe_read_kernel(&job->root, sizeof(job->root), &BPF_CORE_READ(task, fs)->root);
	return put_path((u64)path.mnt, (u64)dentry, job->root[0], job->root[1], at);
}

/* Lengths of a path as it was passed: of the folder that it starts from, and of
 * itself, both within the scratch and side by side. */
#define NAME_SHIFT 16

/* put_passed writes the path that a call was given and the folder it starts
 * from, and returns both lengths, with PATH_CUT; its hash is left in the job. */
__attribute__((noinline)) int put_passed(int dir, u64 name, u32 at)
{
	struct scratch *s = get_scratch();
	u32 n = put_claim(name, at), start = 0;

	if (!s)
		return 0;
	hash_text(at, n);
	if (s->b[at & (SCRATCH_HEAD - 1)] != '/')
		start = put_start(dir, at + n);
	return start | n << NAME_SHIFT;
}

/* tell_passed sends a record of the paths that the job names, unless one like
 * it was sent. The name comes before its folder: it says whether that counts. */
__attribute__((noinline)) int tell_passed(u64 name, int dir, u64 to_name, int to_dir, u32 follow)
{
	struct task_struct *leader = current_leader();
	struct scratch *s = get_scratch();
	struct job *job = get_job();
	struct change *r = (void *)s;
	u32 at = sizeof(*r), n, m = 0;
	u64 id, root;

	if (!s || !job)
		return 0;
	n = put_passed(dir, name, at);
	at += (n & PATH_BYTES) + (n >> NAME_SHIFT);
	job->key.name = job->hash;
	if (to_name) {
		m = put_passed(to_dir, to_name, at);
		at += (m & PATH_BYTES) + (m >> NAME_SHIFT);
		job->key.to_name = job->hash;
	}
	id = once(&window, &job->key);
	if (id == COUNTED)
		return 0;
	begin_change(r, job, leader, found(job));
	r->head.flags |= FLAG_CLAIMED;
	if (follow)
		r->head.flags |= FLAG_FOLLOW;
	root = other_root();
	if (root) {
		r->head.flags |= FLAG_ROOTED;
		r->special = root;
	}
	if (n & PATH_CUT)
		r->head.flags |= FLAG_PATH_CUT;
	if (m & PATH_CUT)
		r->head.flags |= FLAG_TO_CUT;
	r->path_len = n & PATH_BYTES;
	r->name_len = n >> NAME_SHIFT;
	r->to_len = m & PATH_BYTES;
	r->to_name_len = m >> NAME_SHIFT;
	if (at <= sizeof(*s))
		submit_once(&window, &job->key, id, s, at);
	return 0;
}

__attribute__((noinline)) int tell_refused(u64 name, int dir, u32 flags, int error, u32 call)
{
	struct task_struct *leader = current_leader();
	u32 kind = flags & O_CREAT ? KIND_CREATE : flags & (O_ACCMODE | O_TRUNC) ? KIND_WRITE :
										   KIND_READ;
	struct job *job = get_job();
	struct container *c;

	if (!job)
		return 0;
	c = find_into(job, leader);
	if (!c && kind != KIND_READ)
		return 0;
	begin_key(&job->key, leader, c, kind, error);
	job->key.flags = flags & O_TOLD;
	job->call = call;
	return tell_passed(name, dir, 0, 0, true);
}

/* is_nothing tells a path of no bytes, which AT_EMPTY_PATH allows. */
static __always_inline bool is_nothing(u64 name)
{
	u8 first = 0;

	return !name || (!bpf_probe_read_user(&first, 1, (void *)name) && !first);
}

/* key_of_call writes to the key what a call changes. */
static __always_inline void key_of_call(struct job *job, struct operation *op)
{
	struct change_key *key = &job->key;

	if (op->mode != NO_ARG)
		key->mode = job->args[op->mode & 7] & 0xffff;
	if (op->options & OPERATION_FOLDER || (op->kind == KIND_DELETE && job->args[op->at_flags & 7]))
		key->mode |= S_IFDIR;
	if (op->owner != NO_ARG) {
		key->uid = job->args[op->owner & 7];
		key->gid = job->args[(op->owner + 1) & 7];
		if (op->options & OPERATION_NARROW) {
			key->uid = (u16)key->uid == 0xffff ? (u32)-1 : (u16)key->uid;
			key->gid = (u16)key->gid == 0xffff ? (u32)-1 : (u16)key->gid;
		}
	}
}

/* tell_call looks at a call that the table of operations has. */
__attribute__((noinline)) int tell_call(u32 slot, int error)
{
	struct operation *op = bpf_map_lookup_elem(&operations, &slot);
	struct task_struct *leader = current_leader();
	struct job *job = get_job();
	struct file *file = NULL;
	struct container *c;
	u32 at_flags, follow;

	if (!op || !job)
		return 0;
	c = find_into(job, leader);
	if (!c)
		return 0;
	begin_key(&job->key, leader, c, op->kind, error);
	key_of_call(job, op);
	job->call = slot;
	at_flags = job->args[op->at_flags & 7];
	if (op->options & OPERATION_OPEN)
		file = file_of(job->args[0]);
	else if (at_flags & AT_EMPTY_PATH && op->kind != KIND_LINK && is_nothing(job->args[op->name & 7]))
		file = file_of(job->args[op->dir & 7]);
	if (file && (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFSOCK)
		return 0;
	if (file)
		return tell_file((u64)file);
	if (op->options & OPERATION_OPEN)
		return 0;
	follow = op->options & OPERATION_FOLLOWS ? !(at_flags & AT_SYMLINK_NOFOLLOW) :
						   !!(at_flags & AT_SYMLINK_FOLLOW);
	return tell_passed(job->args[op->name & 7], job->args[op->dir & 7],
			   op->to_name == NO_ARG ? 0 : job->args[op->to_name & 7],
			   job->args[op->to_dir & 7], follow);
}

#define MODE_TOLD 06111 /* execute, set-uid, set-gid: what chmod is told for */

SEC("tp_btf/sys_exit")
int BPF_PROG(on_path, struct pt_regs *regs, long ret)
{
	bool compat = is_compat();
	u32 slot = slot_of(regs, compat);
	struct operation *op = bpf_map_lookup_elem(&operations, &slot);
	struct job *job = get_job();

	if (!op || !job || (has_failed(ret) && !is_refused(ret)))
		return 0;
	job->args[0] = arg_of(regs, 0, compat);
	job->args[1] = arg_of(regs, 1, compat);
	job->args[2] = arg_of(regs, 2, compat);
	job->args[3] = arg_of(regs, 3, compat);
	job->args[4] = arg_of(regs, 4, compat);
	job->args[5] = arg_of(regs, 5, compat);
	job->args[NO_DIR] = AT_FDCWD;
	job->args[NO_ARG] = 0;
	if (op->kind == KIND_CHMOD && !(job->args[op->mode & 7] & MODE_TOLD))
		return 0;
	return tell_call(slot, has_failed(ret) ? ret : 0);
}
