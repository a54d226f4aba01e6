//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The process sensor: fork, exec and exit of every process, containers and
 * host. Kernel threads are left out: they run no program.
 *
 * sched_process_fork, _exec and _exit (include/trace/events/sched.h) exist
 * since 2.6.31 with the first arguments as used here.
 */
#define SPEAKS_ITSELF
#include "sensor.bpf.h"
#include "layer.bpf.h"
#include "window.bpf.h"
#include "siphash.bpf.h"
#include "environ.bpf.h"
#include "stdio.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind {
	KIND_FORK = 1,
	KIND_EXEC,
	KIND_EXIT,
	KIND_REPEAT, /* an exec like one that was told: struct beginning up to like */
};

enum flag {
	FLAG_ARGS_CUT = 1 << 8,
	FLAG_EXECUTABLE_CUT = 1 << 9,
	FLAG_DELETED = 1 << 10,
	FLAG_SETUID = 1 << 11,
	FLAG_SETGID = 1 << 12,
	FLAG_ENTERED = 1 << 13,
	FLAG_MEMORY = 1 << 14, /* the file is a memfd, whatever the origin says */
	FLAG_CWD_CUT = 1 << 15,
	FLAG_ENVIRON_CUT = 1 << 16, /* there may be more variables that are looked for */
};

#define MAX_ARGS SCRATCH_TAIL
#define MAX_ANCESTORS 8
#define MAX_REQUESTED 4096 /* PATH_MAX */

struct ancestor {
	u64 start;
	u32 tgid;
	u32 reserved;
	u8 comm[TASK_COMM_LEN];
};

/* Followed by the ancestors, and by as many bytes of executable, working
 * directory (both as put_path writes them), requested path, variables and
 * arguments. */
struct exec {
	struct header head;
	u64 inode;
	u64 capabilities;
	u32 device;
	u8 origin;
	u8 ancestors;
	u16 executable_len;
	u16 cwd_len;
	u16 requested_len;
	u16 args_len;
	u16 layer; /* of the image; as image_layer has it */
	u16 layers;
	u16 environ_len;
	u16 reserved[2];
	struct stream streams[STREAMS];
};

struct exit {
	struct header head;
	u32 code; /* as wait(2) gives it */
	u32 reserved;
};

/* Most hosts run a few hundred different command lines a minute. The agent remembers the event
 * of each, with arguments of at most MAX_ALIKE_ARGS. */
WINDOW(struct alike, 8192);

/* Execs with longer arguments are told each time: they are rare, and each would
 * be remembered for a window. */
#define MAX_ALIKE_ARGS 2048
#define MAX_ALIKE_ENVIRON 1024 /* likewise; all is hashed with the path in 8 KiB */

/* Compilers drop the types of local variables; bpf2go needs these. */
const enum kind *unused_kind __attribute__((unused));
const enum flag *unused_flag __attribute__((unused));
const enum origin *unused_origin __attribute__((unused));
const struct resident *unused_resident __attribute__((unused));
const struct host *unused_host __attribute__((unused));
const struct overlay *unused_overlay __attribute__((unused));
const struct header *unused_header __attribute__((unused));
const struct ancestor *unused_ancestor __attribute__((unused));
const struct exec *unused_exec __attribute__((unused));
const struct stream *unused_stream __attribute__((unused));
const enum stream_kind *unused_stream_kind __attribute__((unused));
const struct exit *unused_exit __attribute__((unused));
const struct beginning *unused_beginning __attribute__((unused));

static __always_inline void key_of_task(struct task_struct *leader, struct process_key *key)
{
	key->start = leader->start_boottime;
	key->tgid = leader->tgid;
	key->reserved = 0;
}

/* alike_where writes where something happened: which container and parent. */
static __always_inline void alike_where(struct alike *a, enum kind kind, struct header *h,
					struct container *c)
{
	__builtin_memset(a, 0, sizeof(*a));
	a->kind = kind;
	a->parent_start = h->parent_start;
	a->parent_tgid = h->parent_tgid;
	if (c) {
		a->cgroup = c->cgroup.id;
		a->hierarchy = c->cgroup.hierarchy;
	}
}

/* -- Fork ------------------------------------------------------------------- */

/* A fork is only noted: an exec tells all that there is to tell of it. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct taking *t = get_taking();
	struct container *c;
	struct process_key key;
	struct beginning *u;

	if (!t || child->pid != child->tgid || child->flags & PF_KTHREAD)
		return 0; /* a thread */
	u = &t->taken;
	c = find_container(child);
	fill(&u->head, SENSOR_PROCESS, child, c);
	u->head.kind = KIND_FORK;
	u->id = 0;
	alike_where(&u->like, KIND_FORK, &u->head, c);
	u->like.content = child->real_parent->self_exec_id;
	key_of_task(child, &key);
	if (window_length() && !bpf_map_update_elem(&untold, &key, u, BPF_ANY))
		return 0;
	speak(u->head.parent_start, u->head.parent_tgid);
	/* Again, because speak took its space. */
	fill(&u->head, SENSOR_PROCESS, child, c);
	u->head.kind = KIND_FORK;
	submit(u, UNTOLD_RECORD);
	return 0;
}

/* -- Exit ------------------------------------------------------------------- */

/* Processes of several threads whose end was told. Two last threads that end
 * at the same moment both see that no thread lives; the first one tells. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, u8);
} ended SEC(".maps");

/* first_to_tell is asked by a thread that sees no living one. */
static __always_inline bool first_to_tell(struct task_struct *leader, struct signal_struct *signal)
{
	struct process_key key = {};
	u8 yes = 1;

	/* A process that never had a second thread needs no map: the time that
	 * threads have run is added up when they are gone. */
	if (signal->nr_threads <= 1 && !signal->sum_sched_runtime)
		return true;
	key.start = leader->start_boottime;
	key.tgid = leader->tgid;
	return !bpf_map_update_elem(&ended, &key, &yes, BPF_NOEXIST);
}

/* exit_untold ends a process whose beginning was not told. If processes like it
 * have ended so before, it is counted with them, and false is returned: there
 * is nothing to tell. Else its beginning is told, and the exit is to be told
 * with repeat as its id, under same. */
static __always_inline bool exit_untold(struct taking *t, struct alike *same, u32 code, u64 *repeat)
{
	struct beginning *u = &t->taken;
	u64 now = bpf_ktime_get_boot_ns(), length = window_length();
	struct repeats *begun = bpf_map_lookup_elem(&window, &u->like);
	struct repeats *ended;
	u64 id;

	*repeat = ALONE;
	if (begun && (u->head.kind == KIND_REPEAT || counts(begun, now, length))) {
		same->content = begun->id;
		same->flags = code;
		same->kind = KIND_EXIT;
		ended = bpf_map_lookup_elem(&window, same);
		if (counts(ended, now, length)) {
			count_one(begun, now);
			count_one(ended, now);
			return false;
		}
		*repeat = begin(&window, same, ended, now, length);
		id = ALONE;
	} else if (u->head.kind == KIND_FORK) {
		id = begin(&window, &u->like, begun, now, length);
	} else {
		id = ALONE;
	}
	if (id == ALONE)
		send(u, UNTOLD_RECORD);
	else
		submit_once(&window, &u->like, id, u, UNTOLD_RECORD);
	return true;
}

/* The second argument (group_dead, since 6.16) would do instead of counting
 * the living threads, but asking for it makes older kernels refuse us. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct taking *t = get_taking();
	struct process_key key;
	struct alike *same;
	struct exit *r = (void *)get_scratch();
	u64 repeat = ALONE;

	if (!t || !r || task->flags & PF_KTHREAD || signal->live.counter > 0)
		return 0;
	if (!first_to_tell(leader, signal))
		return 0;
	/* As wait_task_zombie (kernel/exit.c) finds the status. */
	r->code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
	r->reserved = 0;
	same = &t->like;
	__builtin_memset(same, 0, sizeof(*same));
	key_of_task(leader, &key);
	if (take(t, &key) && !exit_untold(t, same, r->code, &repeat))
		return 0;
	fill(&r->head, SENSOR_PROCESS, leader, find_container(task));
	r->head.kind = KIND_EXIT;
	submit_once(&window, same, repeat, r, sizeof(*r));
	return 0;
}

/* -- Exec ------------------------------------------------------------------- */

/* Run once at the start: whoever is in a container by then did not come into
 * it later. In the order of process ids, so the oldest is met first. */
SEC("iter/task")
int settle_running(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct container *c;
	struct host *host;

	if (!task || task->pid != task->tgid || !task->mm)
		return 0;
	host = get_host(task);
	c = find_container(task);
	if (host && c && !sees_host(host, task))
		settle(host, task, c);
	return 0;
}

/* adopts tells whether orphans of the task's pid namespace become children of
 * parent: it is that namespace's first process, or a subreaper. */
static __always_inline bool adopts(struct task_struct *parent, struct pid_namespace *ns)
{
	struct signal_struct *signal = BPF_CORE_READ(parent, signal);

	return BPF_CORE_READ(ns, child_reaper) == parent ||
	       BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper);
}

/* entered tells whether the task came into its container from outside.
 *
 * What a runtime does at docker exec: "runc exec" on the host starts
 * "runc init", which joins the container's cgroup and namespaces and then
 * executes the program, while its parent stays outside: "runc exec", and when
 * that has ended, the shim. A process that began inside has a parent inside.
 * If that dies, the first process of the pid namespace adopts it; the shim
 * does only where the container shares the host's pid namespace, and the pause
 * container where a task shares one. So a parent outside says "entered" if it
 * is in another pid namespace, or is not one that adopts. */
static __always_inline bool entered(struct task_struct *task, struct container *c,
				    struct resident *first)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct pid_namespace *ns, *parent_ns;
	struct container *outer;

	if (BPF_CORE_READ(parent, cgroups) == BPF_CORE_READ(task, cgroups))
		return false;
	if (first->key.tgid == task->tgid && first->key.start == task->start_boottime)
		return false;
	if (innermost(task, &ns) == 1)
		return false; /* an init that the map has forgotten */
	outer = find_container(parent);
	if (outer && outer->cgroup.id == c->cgroup.id &&
	    outer->cgroup.hierarchy == c->cgroup.hierarchy)
		return false;
	innermost(parent, &parent_ns);
	return ns != parent_ns || !adopts(parent, ns);
}

/* fill_file writes what is known of the executed file but its path. */
static __always_inline void fill_file(struct exec *r, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u16 mode = BPF_CORE_READ(inode, i_mode);

	r->inode = BPF_CORE_READ(inode, i_ino);
	r->device = BPF_CORE_READ(inode, i_sb, s_dev);
	if (!BPF_CORE_READ(inode, i_nlink))
		r->head.flags |= FLAG_DELETED;
	if (mode & S_ISUID)
		r->head.flags |= FLAG_SETUID;
	if (mode & S_ISGID)
		r->head.flags |= FLAG_SETGID;
	if (in_memory(file))
		r->head.flags |= FLAG_MEMORY;
}

/* fill_origin writes where the file and the process came from. */
static __always_inline void fill_origin(struct exec *r, struct task_struct *task,
					struct container *c, struct file *file)
{
	struct host *host = get_host(task);
	struct resident *first;

	r->origin = ORIGIN_HOST;
	if (!c || !host || sees_host(host, task))
		return;
	first = settle(host, task, c);
	r->origin = r->head.flags & FLAG_MEMORY ? ORIGIN_MEMORY :
						  origin(BPF_CORE_READ(file, f_inode), first);
	if (first && entered(task, c, first))
		r->head.flags |= FLAG_ENTERED;
}

/* put_ancestors writes up to MAX_ANCESTORS parents, and returns how many. */
static __always_inline u32 put_ancestors(struct scratch *s, struct task_struct *task)
{
	struct ancestor *a = (void *)&s->b[sizeof(struct exec)];
	u32 n = 0;

	for (int i = 0; i < MAX_ANCESTORS; i++) {
		task = task->real_parent->group_leader;
		if (!task->tgid)
			break; /* the idle task, parent of the first processes */
		a[i].start = task->start_boottime;
		a[i].tgid = task->tgid;
		a[i].reserved = 0;
		bpf_probe_read_kernel(a[i].comm, TASK_COMM_LEN, &task->comm);
		n = i + 1;
	}
	return n;
}

/* put_args writes the arguments as they stand in the new program's memory. They
 * were just copied there, so the pages are present. */
static __always_inline u32 put_args(struct exec *r, struct scratch *s, struct task_struct *task,
				    u32 at)
{
	u64 begin = task->mm->arg_start;
	u64 len = task->mm->arg_end - begin;

	if (len > MAX_ARGS) {
		len = MAX_ARGS;
		r->head.flags |= FLAG_ARGS_CUT;
	}
	at &= SCRATCH_HEAD - 1;
	if (bpf_probe_read_user(&s->b[at], len, (void *)begin)) {
		r->head.flags |= FLAG_ARGS_CUT;
		return 0;
	}
	return len;
}

/* find_variables is read_environ for a program that was just put in place. */
static __always_inline bool find_variables(struct task_struct *task)
{
	struct mm_struct___environ *mm = (void *)task->mm;

	return read_environ(mm->env_start, mm->env_end - mm->env_start);
}

/* put_environ appends the variables that were found, and returns how many bytes that
 * took. */
static __always_inline u32 put_environ(struct scratch *s, u32 at)
{
	struct environ *e = get_environ();
	u32 len;

	if (!e || !e->length)
		return 0;
	/* Never more than ENVIRON_KEPT, which the verifier does not know of a number
	 * that it reads from a map. */
	len = e->length & (2 * ENVIRON_KEPT - 1);
	barrier_var(len);
	if (len > ENVIRON_KEPT)
		return 0;
	if (bpf_probe_read_kernel(&s->b[at & (SCRATCH_HEAD - 1)], len, e->kept))
		return 0;
	return len;
}

/* What the hash of an exec is made of beside strings, in the scratch. */
struct context {
	u64 root_mnt;
	u64 root_dentry;
	u64 program; /* which one the parent runs */
	u32 cwd_device;
	u32 requested_len;
	u64 remote; /* of what it is given: without ports, which are new each time */
	u8 streams[STREAMS];
	u8 reserved;
	u32 environ_len;
};

#define ROTATED(x, b) ((x) << (b) | (x) >> (64 - (b)))

/* Where it begins: behind the head of the record. A multiple of eight. */
#define CONTEXT_AT 512

/* fingerprint writes what makes an exec like another. It returns false for one
 * that is to be told in any case. The head of the record is filled. */
static __always_inline bool fingerprint(struct alike *a, struct scratch *s,
					struct task_struct *task, struct linux_binprm *bprm,
					struct container *c)
{
	struct context *x = (void *)&s->b[CONTEXT_AT];
	struct exec *r = (void *)s;
	struct fs_struct *fs = task->fs;
	u64 begin = task->mm->arg_start;
	u64 len = task->mm->arg_end - begin;
	u32 at = CONTEXT_AT + sizeof(*x);

	if (r->head.flags & FLAG_ENTERED || len > MAX_ALIKE_ARGS)
		return false;
	alike_where(a, KIND_EXEC, &r->head, c);
	a->inode = r->inode;
	a->device = r->device;
	a->capabilities = r->capabilities;
	a->uid = r->head.uid;
	a->euid = r->head.euid;
	a->gid = r->head.gid;
	a->flags = r->head.flags | (u32)r->origin << 24;
	a->cwd = fs->pwd.dentry->d_inode->i_ino;
	x->root_mnt = (u64)fs->root.mnt;
	x->root_dentry = (u64)fs->root.dentry;
	x->program = task->real_parent->self_exec_id;
	x->cwd_device = fs->pwd.dentry->d_sb->s_dev;
	x->requested_len = put_string(s, at, MAX_REQUESTED, BPF_CORE_READ(bprm, filename));
	at += x->requested_len;
	x->remote = 0;
	for (int i = 0; i < STREAMS; i++) {
		u64 *half = (void *)r->streams[i].remote;

		x->streams[i] = r->streams[i].kind;
		x->remote = ROTATED(x->remote, 21) ^ half[0] ^ ROTATED(half[1], 32);
	}
	x->reserved = 0;
	x->environ_len = put_environ(s, at);
	if (x->environ_len > MAX_ALIKE_ENVIRON)
		return false;
	at += x->environ_len;
	len &= 2 * MAX_ALIKE_ARGS - 1;
	if (bpf_probe_read_user(&s->b[at & (SCRATCH_HEAD - 1)], len, (void *)begin))
		return false;
	a->content = siphash(CONTEXT_AT, at + len - CONTEXT_AT);
	return true;
}

/* is_repeat tells whether an exec is like one that was told within the window.
 * Then it is noted, and counted when it is over. If not, *id is the one under
 * which it is to be told. */
static __always_inline bool is_repeat(struct taking *t, struct alike *like, struct exec *r, u64 *id)
{
	struct repeats *told = bpf_map_lookup_elem(&window, like);
	u64 now = r->head.time, length = window_length();
	struct beginning *u = &t->taken;
	struct process_key key = { .start = r->head.start, .tgid = r->head.tgid };

	if (!counts(told, now, length)) {
		*id = begin(&window, like, told, now, length);
		return false;
	}
	told->last = now;
	__builtin_memcpy(&u->head, &r->head, sizeof(u->head));
	u->head.kind = KIND_REPEAT;
	u->id = told->id;
	u->like = *like;
	return !bpf_map_update_elem(&untold, &key, u, BPF_ANY);
}

/* leave_untold is for a process that executes another file before its
 * beginning was told: a repeat is over, of a fork the exec tells everything. */
static __always_inline void leave_untold(struct taking *t, struct task_struct *task)
{
	struct repeats *begun;
	struct process_key key;

	key_of_task(task, &key);
	if (!take(t, &key) || t->taken.head.kind != KIND_REPEAT)
		return;
	begun = bpf_map_lookup_elem(&window, &t->taken.like);
	if (begun)
		count_one(begun, bpf_ktime_get_boot_ns());
	else
		send(&t->taken, UNTOLD_RECORD);
}

/* speak_parents tells what was not told of those above an exec. */
static __always_inline void speak_parents(struct scratch *s)
{
	struct exec *r = (void *)s;
	struct ancestor *a = (void *)&s->b[sizeof(*r)];

	for (int i = MAX_ANCESTORS - 1; i >= 0; i--)
		if (i < r->ancestors)
			speak(a[i].start, a[i].tgid);
}

/* Called when the new program is in place and has not run an instruction. The
 * file is the one that runs: for a script, its interpreter (since 5.8). */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct scratch *s = get_scratch();
	struct file *file = BPF_CORE_READ(bprm, file);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct container *c = find_container(task);
	struct exec *r = (void *)s;
	struct taking *t = get_taking();
	struct alike *like;
	struct top top;
	u64 id = ALONE;
	u32 at, n;

	if (!s || !t)
		return 0;
	like = &t->like;
	leave_untold(t, task);
	fill(&r->head, SENSOR_PROCESS, task, c);
	r->head.kind = KIND_EXEC;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	bpf_probe_read_kernel(&r->capabilities, sizeof(r->capabilities),
			      &task->cred->cap_effective);
	fill_file(r, file);
	fill_origin(r, task, c, file);
	see_streams(r->streams, task);
	if (!find_variables(task))
		r->head.flags |= FLAG_ENVIRON_CUT;
	if (fingerprint(like, s, task, bprm, c) && is_repeat(t, like, r, &id))
		return 0;
	n = r->origin == ORIGIN_IMAGE ? image_layer(file) : 0;
	r->layer = n;
	r->layers = n >> 16;
	r->ancestors = put_ancestors(s, task);
	speak_parents(s);
	at = sizeof(*r) + r->ancestors * sizeof(struct ancestor);

	find_top(task, c, c, &top);
	n = put_path((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry),
		     top.mnt, top.dentry, at);
	r->executable_len = n & PATH_BYTES;
	at += n & PATH_BYTES;
	if (n & PATH_CUT)
		r->head.flags |= FLAG_EXECUTABLE_CUT;

	n = put_path((u64)BPF_CORE_READ(fs, pwd.mnt), (u64)BPF_CORE_READ(fs, pwd.dentry),
		     top.mnt, top.dentry, at);
	r->cwd_len = n & PATH_BYTES;
	at += n & PATH_BYTES;
	if (n & PATH_CUT)
		r->head.flags |= FLAG_CWD_CUT;

	r->requested_len = put_string(s, at, MAX_REQUESTED, BPF_CORE_READ(bprm, filename));
	at += r->requested_len;
	r->environ_len = put_environ(s, at);
	at += r->environ_len;
	r->args_len = put_args(r, s, task, at);
	at += r->args_len;
	r->head.repeat = id == ALONE ? 0 : id;
	barrier_var(at);
	if (at > sizeof(*s))
		return 0; /* never; the verifier wants to hear it */
	if (!send(s, at))
		unsent(&window, like, id);
	return 0;
}
