/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the file sensor tells, what it counts as one, and how both are put
 * together.
 *
 * Numbers of open flags are those of include/uapi/asm-generic/fcntl.h, the same
 * on amd64 and arm64; those of f_mode of include/linux/fs.h, since 4.19.
 */
#ifndef CASTELLAN_FILE_BPF_H
#define CASTELLAN_FILE_BPF_H

#include "sensor.bpf.h"
#include "syscall.bpf.h"
#include "window.bpf.h"
#include "layer.bpf.h"
#include "notable.bpf.h"

enum kind {
	KIND_WRITE = 1,
	KIND_CREATE,
	KIND_READ,
	KIND_DEVICE,
	KIND_RENAME,
	KIND_LINK,
	KIND_SYMLINK,
	KIND_DELETE,
	KIND_CHMOD,
	KIND_CHOWN,
	KIND_TRUNCATE,
};

enum flag {
	FLAG_PATH_CUT = 1 << 8,	 /* the first path has no beginning */
	FLAG_TO_CUT = 1 << 9,	 /* the second one hasn't */
	FLAG_CLAIMED = 1 << 10,	 /* path and name are to be put together, likewise to and to_name */
	FLAG_FOLLOW = 1 << 11,	 /* the call follows a link that the last name is */
	FLAG_ROOTED = 1 << 12,	 /* the process has another root than its container */
};

#define O_ACCMODE 3
#define O_CREAT 0100
#define O_EXCL 0200
#define O_TRUNC 01000
#define O_APPEND 02000
#define O_PATH 010000000
#define O_TMPFILE_BIT 020000000
#define O_TOLD (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND)

#define FMODE_WRITE 0x2
#define FMODE_CREATED 0x100000

#define AT_FDCWD -100
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_SYMLINK_FOLLOW 0x400
#define AT_EMPTY_PATH 0x1000

#define EPERM 1
#define EACCES 13
#define EROFS 30

#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define BINFMTFS_MAGIC 0x42494e4d

#define MAX_INSIDE 16 /* names within a pseudo file system */

/* Followed by as many bytes of: claimed name, path, path inside its file system
 * (both as put_path writes them), second claimed name, second path. */
struct change {
	struct header head;
	u64 inode;
	u32 device;
	u32 special; /* the device that a device file stands for; with FLAG_ROOTED that of the container's root */
	u32 flags;   /* of the open */
	u32 mode;
	s32 error;
	u32 uid;
	u32 gid;
	u16 call; /* as in the table of calls */
	u8 origin;
	u8 has_magic; /* inside is there */
	u16 name_len;
	u16 path_len;
	u16 inside_len;
	u16 to_name_len;
	u16 to_len;
	u16 layer;  /* of the image; as image_layer has it */
	u32 magic; /* of the file system */
	u8 file_system[16];
	u16 layers;
	u16 reserved[3];
};

/* What two events that are counted as one have in common. */
struct change_key {
	struct cgroup_key container;
	u64 doer;
	u64 inode;   /* of the file; of its folder, where the name says which */
	u64 name;
	u64 to_name;
	u32 device;
	u32 kind;
	s32 error;
	u32 flags;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 reserved;
};

WINDOW(struct change_key, 8192);

const enum kind *unused_kind __attribute__((unused));
const enum flag *unused_flag __attribute__((unused));
const enum notable *unused_notable __attribute__((unused));
const struct change *unused_change __attribute__((unused));
const struct notable_key *unused_notable_key __attribute__((unused));

/* Where the arguments of a call are, by its place in the table of calls: filled
 * by Go. NO_DIR stands for the working directory, NO_ARG for 0. */
struct operation {
	u8 kind;
	u8 dir;
	u8 name;
	u8 to_dir;
	u8 to_name;
	u8 mode;
	u8 owner; /* user; the group is next */
	u8 at_flags;
	u8 options;
	u8 reserved[3];
};

/* Kinds of operation that are an open: how its arguments lie. */
enum opening {
	OPENING_OPEN = 32, /* path, flags */
	OPENING_AT,	   /* folder, path, flags */
	OPENING_HOW,	   /* folder, path, struct open_how */
	OPENING_CREAT,	   /* path */
	OPENING_HANDLE,	   /* mount, handle, flags */
};

const enum opening *unused_opening __attribute__((unused));

#define NO_DIR 6
#define NO_ARG 7
#define OPERATION_FOLLOWS 1 /* a link that the last name is */
#define OPERATION_OPEN 2    /* the name is a descriptor */
#define OPERATION_FOLDER 4  /* what it makes or removes is a folder */
#define OPERATION_NARROW 8  /* users and groups have 16 bits */

const struct operation *unused_operation __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COMPAT_CALLS + MAX_CALLS);
	__type(key, u32);
	__type(value, struct operation);
} operations SEC(".maps");

/* What a handler hands to the functions below, which take numbers only. */
struct job {
	u64 args[8];
	struct change_key key;
	struct container container; /* of the process; not known: of the host */
	u64 root[2];		    /* of the process, as struct path has it */
	u64 seed; /* set by Go, so that nobody can choose names that are taken for others */
	u64 hash;
	s32 error;
	u32 call;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct job);
} jobs SEC(".maps");

static __always_inline struct job *get_job(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&jobs, &zero);
}

/* find_into keeps the container of a task in the job, where functions further
 * down find it, and returns it: all on the way share 512 bytes of stack. */
static __always_inline struct container *find_into(struct job *job, struct task_struct *leader)
{
	struct container *c = find_container(leader);

	job->container.known = 0;
	if (c)
		job->container = *c;
	return c;
}

static __always_inline struct container *found(struct job *job)
{
	return job->container.known ? &job->container : NULL;
}

/* is_refused tells errors that are told from those of everyday life. */
static __always_inline bool is_refused(long ret)
{
	return ret == -EPERM || ret == -EACCES || ret == -EROFS;
}

/* -- Text ------------------------------------------------------------------- */

static __always_inline u64 mix(u64 hash, u64 word)
{
	hash = (hash ^ word) * MARK_FACTOR;
	return hash ^ hash >> 29;
}

/* hash_text leaves in the job the hash of a part of the scratch that ends with
 * zeros, and returns 0. */
__attribute__((noinline)) int hash_text(u32 at, u32 len)
{
	struct scratch *s = get_scratch();
	struct job *job = get_job();

	if (!s || !job)
		return 1;
	job->hash = job->seed;
	for (u32 i = 0; i < MAX_PATH / 8; i++) {
		u32 place = (at + i * 8) & (SCRATCH_HEAD - 1);

		if (i * 8 >= len)
			break;
		job->hash = mix(job->hash, *(u64 *)&s->b[place]);
	}
	return 0;
}

/* put_claim writes a path from the memory of the process to the scratch, and
 * returns how many bytes that took with the NUL; 0 if it can't be read. Zeros
 * follow, as hash_text needs them. */
__attribute__((noinline)) int put_claim(u64 name, u32 at)
{
	struct scratch *s = get_scratch();
	long n;

	if (!s)
		return 0;
	at &= SCRATCH_HEAD - 1;
	n = bpf_probe_read_user_str(&s->b[at], MAX_PATH, (void *)name);
	if (n <= 0 || n > MAX_PATH)
		return 0;
	*(u64 *)&s->b[at + n] = 0;
	return n;
}

/* put_inside writes the names of a path as its file system has them, however it
 * is mounted: as put_path does. */
__attribute__((noinline)) int put_inside(u64 leaf, u32 at)
{
	struct dentry *dentry = (void *)leaf;
	struct scratch *s = get_scratch();

	if (!s)
		return 0;
	s->cursor = 0;
	for (int i = 0; i < MAX_INSIDE; i++) {
		struct dentry *up = BPF_CORE_READ(dentry, d_parent);

		if (!up || up == dentry)
			break;
		s->cursor += put_string(s, at + s->cursor, MAX_NAME,
					BPF_CORE_READ(dentry, d_name.name));
		dentry = up;
	}
	return s->cursor & PATH_BYTES;
}

/* put_rooted is put_path with the root of the running process, or of its container. On a
 * stack of its own, as what follows, which is given back. */
__attribute__((noinline)) int put_rooted(u64 mnt, u64 dentry, u32 at)
{
	struct job *job = get_job();
	struct top top;

	if (!job)
		return PATH_CUT;
	find_top((void *)bpf_get_current_task(), &job->container, job->container.known, &top);
	return put_path(mnt, dentry, top.mnt, top.dentry, at);
}

#define ROOTED (1ULL << 32)

/* other_root tells whether the running process has another root than its container, and
 * then the device of that of the container. */
__attribute__((noinline)) u64 other_root(void)
{
	struct job *job = get_job();
	struct top top;

	if (!job)
		return 0;
	find_top((void *)bpf_get_current_task(), &job->container, job->container.known, &top);
	return top.other ? ROOTED | top.device : 0;
}

/* -- Records ---------------------------------------------------------------- */

static __always_inline bool is_pseudo(u64 magic)
{
	return magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC || magic == CGROUP_SUPER_MAGIC ||
	       magic == CGROUP2_SUPER_MAGIC || magic == BINFMTFS_MAGIC;
}

/* begin_key writes what the key of every change holds, and zeros to the rest. */
static __always_inline void begin_key(struct change_key *key, struct task_struct *task,
				      struct container *c, enum kind kind, s32 error)
{
	__builtin_memset(key, 0, sizeof(*key));
	if (c)
		key->container = c->cgroup;
	key->doer = doer(task);
	key->kind = kind;
	key->error = error;
}

/* begin_change writes the parts of a record that the key has, and no paths. */
static __always_inline void begin_change(struct change *r, struct job *job,
					 struct task_struct *leader, struct container *c)
{
	fill_read(&r->head, SENSOR_FILE, leader, c);
	r->head.kind = job->key.kind;
	r->inode = 0;
	r->device = 0;
	r->special = 0;
	r->flags = job->key.flags;
	r->mode = job->key.mode;
	r->error = job->key.error;
	r->uid = job->key.uid;
	r->gid = job->key.gid;
	r->call = job->call;
	r->origin = ORIGIN_UNKNOWN;
	r->has_magic = 0;
	r->path_len = 0;
	r->inside_len = 0;
	r->name_len = 0;
	r->to_len = 0;
	r->to_name_len = 0;
	r->layer = 0;
	r->layers = 0;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	r->magic = 0;
	__builtin_memset(r->file_system, 0, sizeof(r->file_system));
}

/* put_file writes what is known of an open file, and returns where the record
 * ends by then. */
static __always_inline u32 put_file(struct scratch *s, struct change *r, struct task_struct *leader,
				    struct job *job, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	u32 at = sizeof(*r), n;

	r->inode = BPF_CORE_READ(inode, i_ino);
	r->device = BPF_CORE_READ(sb, s_dev);
	r->mode = BPF_CORE_READ(inode, i_mode);
	if (is_device(r->mode))
		r->special = BPF_CORE_READ(inode, i_rdev);
	r->origin = origin_of_open(leader, found(job), file);
	n = r->origin == ORIGIN_IMAGE ? image_layer(file) : 0;
	r->layer = n;
	r->layers = n >> 16;
	r->magic = BPF_CORE_READ(sb, s_magic);
	bpf_probe_read_kernel_str(r->file_system, sizeof(r->file_system),
				  BPF_CORE_READ(sb, s_type, name));
	n = put_rooted((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry), at);
	r->path_len = n & PATH_BYTES;
	at += n & PATH_BYTES;
	if (n & PATH_CUT)
		r->head.flags |= FLAG_PATH_CUT;
	if (is_pseudo(r->magic)) {
		r->has_magic = 1;
		r->inside_len = put_inside((u64)BPF_CORE_READ(file, f_path.dentry), at);
		at += r->inside_len;
	}
	return at;
}

/* tell_file sends a record of an open file, unless one like it was sent: the
 * job says which kind. The place of what was made is its folder and its name,
 * because inodes are used again. */
__attribute__((noinline)) int tell_file(u64 address)
{
	struct task_struct *leader = current_leader();
	struct file *file = (void *)address;
	struct scratch *s = get_scratch();
	struct job *job = get_job();
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct change *r = (void *)s;
	u64 id;
	u32 at;

	if (!s || !job)
		return 0;
	if (job->key.kind == KIND_CREATE) {
		struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
		u32 n = put_string(s, sizeof(*r), MAX_NAME, BPF_CORE_READ(dentry, d_name.name));

		at = sizeof(*r) + (n & (MAX_NAME - 1));
		*(u64 *)&s->b[at] = 0;
		hash_text(sizeof(*r), n);
		job->key.name = job->hash;
		inode = BPF_CORE_READ(dentry, d_parent, d_inode);
	}
	job->key.inode = BPF_CORE_READ(inode, i_ino);
	job->key.device = BPF_CORE_READ(inode, i_sb, s_dev);
	id = once(&window, &job->key);
	if (id == COUNTED)
		return 0;
	begin_change(r, job, leader, found(job));
	at = put_file(s, r, leader, job, file);
	if (at <= sizeof(*s))
		submit_once(&window, &job->key, id, s, at);
	return 0;
}

#endif
