//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The memory sensor: code in containers that is not of the image. Files that
 * were written later and are mapped as code, memory that can be or was written
 * and becomes code, and files without a name.
 *
 * bpf_find_vma is newer (5.17) than what the sensors ask for: the loader takes
 * on_protect_area where the kernel has it, and on_protect elsewhere.
 */
#include "sensor.bpf.h"
#include "syscall.bpf.h"
#include "window.bpf.h"
#include "layer.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind { KIND_MAP = 1, KIND_PROTECT, KIND_MEMFD };

enum flag {
	FLAG_PATH_CUT = 1 << 8,
};

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20
#define SHM_EXEC 0100000
#define SHM_RDONLY 010000

#define MAX_MEMFD 256 /* 249 and the NUL: mm/memfd.c */

/* Followed by as many bytes of path, as put_path writes it, or of a memfd's
 * name. */
struct mapping {
	struct header head;
	u64 length;
	u32 protection;
	u16 call; /* as in the table of calls */
	u16 path_len;
	u8 origin;
	u8 reserved[3];
	u16 layer; /* of the image; as image_layer has it */
	u16 layers;
};

/* What two events that are counted as one have in common: never an address,
 * because what compiles at run time maps all the time. */
struct mapping_key {
	struct cgroup_key container;
	u64 doer;
	u64 inode;   /* of what is mapped; of a memfd, the hash of its name */
	u32 device;
	u32 kind;
	u32 protection;
	u32 reserved;
};

WINDOW(struct mapping_key, 4096);

/* The key is put together here, and the container kept, because all functions
 * on the way share 512 bytes of stack. */
struct job {
	struct mapping_key key;
	struct container container;
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

const enum kind *unused_kind __attribute__((unused));
const enum flag *unused_flag __attribute__((unused));
const struct mapping *unused_mapping __attribute__((unused));

/* locate keeps the container of the running process in the job, and returns 0
 * for a process of the host. */
__attribute__((noinline)) int locate(void)
{
	struct container *c = find_container(current_leader());
	struct job *job = get_job();

	if (!c || !job)
		return 0;
	job->container = *c;
	return 1;
}

static __always_inline void begin_key(struct mapping_key *key, struct task_struct *task,
				      struct container *c, enum kind kind)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->container = c->cgroup;
	key->doer = doer(task);
	key->kind = kind;
}

static __always_inline void begin_mapping(struct mapping *r, struct mapping_key *key,
					  struct task_struct *task, struct container *c, u32 call)
{
	fill_read(&r->head, SENSOR_MEMORY, task, c);
	r->head.kind = key->kind;
	r->length = 0;
	r->protection = key->protection;
	r->call = call;
	r->path_len = 0;
	r->origin = ORIGIN_UNKNOWN;
	r->layer = 0;
	r->layers = 0;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
}

/* Run once at the start, so that the root of a container is known by its
 * oldest process. */
SEC("iter/task")
int settle_running(struct bpf_iter__task *ctx)
{
	settle_one(ctx->task);
	return 0;
}

/* tell_anonymous tells of memory without a file that became code. */
__attribute__((noinline)) int tell_anonymous(u64 length, u32 protection, u32 call)
{
	struct task_struct *leader = current_leader();
	struct job *job = get_job();
	struct mapping_key *key;
	struct container *c;
	struct scratch *s = get_scratch();
	struct mapping *r = (void *)s;
	u64 id;

	if (!job || !s)
		return 0;
	key = &job->key;
	c = &job->container;
	begin_key(key, leader, c, KIND_PROTECT);
	key->protection = protection;
	id = once(&window, key);
	if (id == COUNTED)
		return 0;
	begin_mapping(r, key, leader, c, call);
	r->length = length;
	submit_once(&window, key, id, s, sizeof(*r));
	return 0;
}

/* tell_mapped tells of a file that was mapped as code, if it is not of the
 * image: or of its memory, if that can be written too. */
__attribute__((noinline)) int tell_mapped(u64 address, u64 length, u32 protection, u32 call)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = current_leader();
	struct job *job = get_job();
	struct file *file = (void *)address;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct scratch *s = get_scratch();
	struct mapping *r = (void *)s;
	struct mapping_key *key;
	struct container *c;
	enum origin from;
	struct top top;
	u32 at, n;
	u64 id;

	if (!job || !s)
		return 0;
	key = &job->key;
	c = &job->container;
	from = origin_of_open(leader, c, file);
	begin_key(key, leader, c, KIND_MAP);
	if (from != ORIGIN_WRITTEN && from != ORIGIN_MOUNT && from != ORIGIN_MEMORY) {
		if (!(protection & PROT_WRITE))
			return 0;
		key->kind = KIND_PROTECT;
	}
	key->protection = protection;
	key->inode = BPF_CORE_READ(inode, i_ino);
	key->device = BPF_CORE_READ(inode, i_sb, s_dev);
	id = once(&window, key);
	if (id == COUNTED)
		return 0;
	begin_mapping(r, key, leader, c, call);
	r->length = length;
	r->origin = from;
	n = from == ORIGIN_IMAGE ? image_layer(file) : 0;
	r->layer = n;
	r->layers = n >> 16;
	at = sizeof(*r);
	find_top(task, c, true, &top);
	n = put_path((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry),
		     top.mnt, top.dentry, at);
	r->path_len = n & PATH_BYTES;
	at += n & PATH_BYTES;
	if (n & PATH_CUT)
		r->head.flags |= FLAG_PATH_CUT;
	if (at <= sizeof(*s))
		submit_once(&window, key, id, s, at);
	return 0;
}

static __always_inline int mapped(struct pt_regs *regs, u64 length, u32 protection, u32 flags, int fd)
{
	struct file *file;

	if (!locate())
		return 0;
	if (flags & MAP_ANONYMOUS)
		return protection & PROT_WRITE ?
			       tell_anonymous(length, protection, call_slot(regs)) : 0;
	file = file_of(fd);
	return file ? tell_mapped((u64)file, length, protection, call_slot(regs)) : 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_mmap, struct pt_regs *regs, long ret)
{
	u32 protection = call_arg(regs, 2) & 7;

	if (!(protection & PROT_EXEC) || has_failed(ret))
		return 0;
	return mapped(regs, call_arg(regs, 1), protection, call_arg(regs, 3), call_arg(regs, 4));
}

/* mmap of 32-bit programs, the old one, has its arguments in memory. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_old_mmap, struct pt_regs *regs, long ret)
{
	struct scratch *s = get_scratch(); /* not the stack: see keys */
	u32 *args = (void *)s;

	if (has_failed(ret) || !s ||
	    bpf_probe_read_user(args, 6 * sizeof(*args), (void *)call_arg(regs, 0)) ||
	    !(args[2] & PROT_EXEC))
		return 0;
	return mapped(regs, args[1], args[2] & 7, args[3], args[4]);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_protect, struct pt_regs *regs, long ret)
{
	u32 protection = call_arg(regs, 2) & 7;

	if (!(protection & PROT_EXEC) || has_failed(ret) || !locate())
		return 0;
	return tell_anonymous(call_arg(regs, 1), protection, call_slot(regs));
}

/* What look_at_area found. */
struct area {
	u64 end;
	u64 changed; /* some of it was written by the process, or it has no file */
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct vm_area_struct___end {
	unsigned long vm_end;
};

#pragma clang attribute pop

static long look_at_area(struct task_struct *task, struct vm_area_struct *vma, struct area *area)
{
	struct vm_area_struct___end *more = (void *)vma;

	area->end = more->vm_end;
	area->changed = !vma->vm_file || vma->anon_vma;
	return 0;
}

#define ENOMEM 12

SEC("tp_btf/sys_exit")
int BPF_PROG(on_protect_area, struct pt_regs *regs, long ret)
{
	u32 protection = call_arg(regs, 2) & 7;
	u64 from = call_arg(regs, 0), length = call_arg(regs, 1);
	struct area area = {};
	long none;

	/* One that fails at a hole has changed what lies before it. */
	if (!(protection & PROT_EXEC) || (has_failed(ret) && ret != -ENOMEM))
		return 0;
	none = bpf_find_vma(bpf_get_current_task_btf(), from, look_at_area, &area, 0);
	if (none && has_failed(ret))
		return 0;
	/* Busy, when another thread changes the address space: then it is told, as is what
	 * is more than one area. */
	if (!none && !area.changed && !(protection & PROT_WRITE) && area.end - from >= length)
		return 0;
	if (!locate())
		return 0;
	return tell_anonymous(length, protection, call_slot(regs));
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_shmat, struct pt_regs *regs, long ret)
{
	u32 flags = call_arg(regs, 2);

	if (!(flags & SHM_EXEC) || has_failed(ret) || !locate())
		return 0;
	return tell_anonymous(0, PROT_READ | PROT_EXEC | (flags & SHM_RDONLY ? 0 : PROT_WRITE),
			      call_slot(regs));
}

__attribute__((noinline)) int tell_memfd(u64 name, u32 call)
{
	struct task_struct *leader = current_leader();
	struct job *job = get_job();
	struct scratch *s = get_scratch();
	struct mapping *r = (void *)s;
	struct mapping_key *key;
	struct container *c;
	u32 at = sizeof(*r);
	long n;
	u64 id;

	if (!job || !s)
		return 0;
	key = &job->key;
	c = &job->container;
	__builtin_memset(&s->b[at], 0, MAX_MEMFD);
	n = bpf_probe_read_user_str(&s->b[at], MAX_MEMFD, (void *)name);
	begin_key(key, leader, c, KIND_MEMFD);
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_MEMFD / 8; i++)
		key->inode = (key->inode ^ *(u64 *)&s->b[at + i * 8]) * 0x9e3779b97f4a7c15ull;
	id = once(&window, key);
	if (id == COUNTED)
		return 0;
	begin_mapping(r, key, leader, c, call);
	r->path_len = n > 0 ? n & (2 * MAX_MEMFD - 1) : 0;
	r->origin = ORIGIN_MEMORY;
	at += r->path_len;
	if (at <= sizeof(*s))
		submit_once(&window, key, id, s, at);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_memfd, struct pt_regs *regs, long ret)
{
	return has_failed(ret) || !locate() ? 0 : tell_memfd(call_arg(regs, 0), call_slot(regs));
}
