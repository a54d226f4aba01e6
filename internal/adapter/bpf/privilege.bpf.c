//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The privilege sensor: calls that change what a process may do, sees or can
 * reach, tried or done; and what it is after them.
 *
 * Who is told of, and who is not, is said in setup.bpf.h. What a process has
 * gained is in creds.bpf.h.
 *
 * All programs but those of fork, exec and cgroups sit at sys_exit, where the
 * switchboard jumps to them. Strings are read from the process's memory then.
 */
#include "sensor.bpf.h"
#include "syscall.bpf.h"
#include "window.bpf.h"
#include "privilege.bpf.h"
#include "resident.bpf.h"
#include "setup.bpf.h"
#include "creds.bpf.h"
#include "target.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Compilers drop the types of local variables; bpf2go needs these. */
const enum kind *unused_kind __attribute__((unused));
const enum bit *unused_bit __attribute__((unused));
const struct header *unused_header __attribute__((unused));
const struct privilege *unused_privilege __attribute__((unused));
const struct shape *unused_shape __attribute__((unused));
const enum how *unused_how __attribute__((unused));

/* prepare begins the record of a call in the scratch: 0 when there is nothing
 * to tell. All arguments are numbers, as in find_id. */
__attribute__((noinline)) int prepare(u32 kind, u32 call, s32 error, u32 everywhere)
{
	struct task_struct *leader = current_leader();
	struct work *w = get_work();
	struct host *host = met_host();
	struct privilege *r;

	if (!w || !host)
		return 0;
	look(w, leader);
	if (!w->inside && !everywhere)
		return 0;
	if (w->inside) {
		if (is_setup(leader))
			return 0;
		check_creds(leader, call);
	}
	r = new_record(kind, call);
	if (!r)
		return 0;
	r->error = error;
	if (w->inside && sees_host(host, (void *)bpf_get_current_task()))
		r->bits |= BIT_SEES_HOST;
	return 1;
}

/* PREPARE calls prepare for a call that has returned. */
#define PREPARE(shape)                                                                            \
	prepare((shape)->kind, called(regs), has_failed(ret) ? -ret : 0, (shape)->everywhere)

/* -- Calls by their shape --------------------------------------------------- */

/* put_context appends what is to be mounted, by the file system's context. */
static __always_inline u32 put_context(struct scratch *s, struct privilege *r, int fd, u32 at)
{
	struct file *file = file_of(fd);
	struct fs_context *context = BPF_CORE_READ(file, private_data);

	if (!is_context(file))
		return at;
	at += r->source_len = put_string(s, at, MAX_STRING, BPF_CORE_READ(context, source));
	at += r->type_len = put_string(s, at, MAX_TYPE, BPF_CORE_READ(context, fs_type, name));
	return at;
}

/* put_file appends the path of an open file, as the root of its container shows it. */
static __always_inline u32 put_file(struct privilege *r, int fd, u32 at)
{
	struct file *file = file_of(fd);
	struct work *w = get_work();
	struct top top;
	u32 n;

	if (!file || !w)
		return at;
	find_top((void *)bpf_get_current_task(), &w->container, w->inside, &top);
	n = put_path((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry),
		     top.mnt, top.dentry, at);
	r->bits |= BIT_PATH | (n & PATH_CUT ? BIT_PATH_CUT : 0);
	r->target_len = n & PATH_BYTES;
	return at + r->target_len;
}

/* Most calls: their arguments are strings and numbers. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_call, struct pt_regs *regs, long ret)
{
	struct shape *shape = get_shape(regs);
	struct scratch *s = get_scratch();
	struct privilege *r = (void *)s;
	struct work *w = get_work();
	u32 at = sizeof(*r);
	u64 flags;

	if (!shape || !s || !w)
		return 0;
	read_args(w, regs);
	flags = arg(w, shape->flags);
	if (shape->how == HOW_FLAGS_POINTED &&
	    bpf_probe_read_user(&flags, sizeof(flags), (void *)flags))
		flags = 0;
	if (shape->need && !(flags & shape->need))
		return 0;
	if (arg(w, shape->command) < shape->least || !PREPARE(shape))
		return 0;
	r->flags = flags;
	r->command = arg(w, shape->command);
	at += r->source_len = put_user(s, at, MAX_STRING, (void *)arg(w, shape->source));
	at += r->target_len = put_user(s, at, MAX_STRING, (void *)arg(w, shape->target));
	switch (shape->how) {
	case HOW_TYPE_POINTED:
		bpf_probe_read_user(&r->type, sizeof(r->type), (void *)arg(w, shape->type));
		break;
	case HOW_CONTEXT:
		at = put_context(s, r, w->args[1], at);
		break;
	case HOW_FILE:
		at = put_file(r, w->args[1], at);
		break;
	default:
		at += r->type_len = put_user(s, at, MAX_TYPE, (void *)arg(w, shape->type));
	}
	finish(at);
	return 0;
}

/* -- Namespaces ------------------------------------------------------------- */

/* include/uapi/linux/sched.h. */
#define CLONE_NEWTIME 0x00000080UL
#define CLONE_NEWNS 0x00020000UL
#define CLONE_NEWCGROUP 0x02000000UL
#define CLONE_NEWUTS 0x04000000UL
#define CLONE_NEWIPC 0x08000000UL
#define CLONE_NEWUSER 0x10000000UL
#define CLONE_NEWPID 0x20000000UL
#define CLONE_NEWNET 0x40000000UL
#define CLONE_INTO_CGROUP 0x200000000ULL /* since 5.7: the cgroup's mount may be read-only */
#define CLONE_NEW                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |            \
	 CLONE_NEWPID | CLONE_NEWNET)

/* tell_clone tells of a new process in new namespaces, or in another cgroup. */
static __always_inline int tell_clone(struct pt_regs *regs, long ret, u64 flags)
{
	struct privilege *r = (void *)get_scratch();

	if (!r || !prepare(KIND_CLONE, called(regs), has_failed(ret) ? -ret : 0, 0))
		return 0;
	r->flags = flags;
	finish(sizeof(*r));
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_clone, struct pt_regs *regs, long ret)
{
	/* The low byte is a signal. The new process returns from it too, with 0. */
	u64 flags = call_arg(regs, 0) & CLONE_NEW;

	return flags && ret ? tell_clone(regs, ret, flags) : 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_clone3, struct pt_regs *regs, long ret)
{
	u64 flags = 0;

	/* struct clone_args begins with them. */
	if (!ret || bpf_probe_read_user(&flags, sizeof(flags), (void *)call_arg(regs, 0)))
		return 0;
	flags &= CLONE_NEW | CLONE_NEWTIME | CLONE_INTO_CGROUP;
	return flags ? tell_clone(regs, ret, flags) : 0;
}

/* Of the host only those that lead into a container's files, processes or
 * users: engines and network plugins join network namespaces all day. */
#define HOST_NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER)

SEC("tp_btf/sys_exit")
int BPF_PROG(on_setns, struct pt_regs *regs, long ret)
{
	struct file *file = file_of(call_arg(regs, 0));
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct scratch *s = get_scratch();
	struct privilege *r = (void *)s;
	struct work *w = get_work();
	u32 at = sizeof(*r), name;

	if (!s || !w || !prepare(KIND_SETNS, called(regs), has_failed(ret) ? -ret : 0, 1))
		return 0;
	r->flags = call_arg(regs, 1);
	if (is_namespace(inode)) {
		struct ns_common *ns = BPF_CORE_READ(inode, i_private);

		at += r->type_len = put_string(s, at, MAX_TYPE, BPF_CORE_READ(ns, ops, name));
		r->inode = BPF_CORE_READ(inode, i_ino);
		name = s->b[sizeof(*r)] | s->b[sizeof(*r) + 1] << 8;
		if (!w->inside && name != ('m' | 'n' << 8) && name != ('p' | 'i' << 8) &&
		    name != ('u' | 's' << 8))
			return 0;
	} else {
		if (!w->inside && !(r->flags & HOST_NAMESPACES))
			return 0;
		set_target((u64)pid_of_file(file));
	}
	finish(at);
	return 0;
}

/* -- Other processes -------------------------------------------------------- */

/* Requests that take over a process or change it: include/uapi/linux/ptrace.h,
 * arch/x86/include/uapi/asm/ptrace-abi.h. Those that read or go on are not
 * told: attaching came before. */
#define PTRACE_TRACEME 0
#define PTRACE_POKETEXT 4
#define PTRACE_POKEDATA 5
#define PTRACE_POKEUSR 6
#define PTRACE_SETREGS 13
#define PTRACE_SETFPREGS 15
#define PTRACE_ATTACH 16
#define PTRACE_SETSIGINFO 0x4203
#define PTRACE_SETREGSET 0x4205
#define PTRACE_SEIZE 0x4206

static __always_inline bool changes(u32 request)
{
	switch (request) {
	case PTRACE_TRACEME:
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
	case PTRACE_POKEUSR:
	case PTRACE_SETREGS:
	case PTRACE_SETFPREGS:
	case PTRACE_ATTACH:
	case PTRACE_SETSIGINFO:
	case PTRACE_SETREGSET:
	case PTRACE_SEIZE:
		return true;
	}
	return false;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_process, struct pt_regs *regs, long ret)
{
	struct shape *shape = get_shape(regs);
	struct privilege *r = (void *)get_scratch();
	struct work *w = get_work();
	struct pid *pid;

	if (!shape || !r || !w)
		return 0;
	read_args(w, regs);
	if (shape->how == HOW_PTRACE && !changes(arg(w, shape->command)))
		return 0;
	if (!PREPARE(shape))
		return 0;
	r->command = arg(w, shape->command);
	if (shape->how == HOW_PIDFD)
		pid = pid_of_file(file_of(arg(w, shape->target)));
	else if (shape->how == HOW_PTRACE && r->command == PTRACE_TRACEME)
		pid = NULL; /* so that it is told once for all children */
	else
		pid = pid_of_number(arg(w, shape->target));
	if (set_target((u64)pid) == TARGET_SELF)
		return 0;
	if (!w->inside && !(r->bits & BIT_TARGET_CONTAINER))
		return 0;
	finish(sizeof(*r));
	return 0;
}

/* -- BPF -------------------------------------------------------------------- */

/* enum bpf_cmd of include/uapi/linux/bpf.h. */
enum {
	BPF_MAP_CREATE = 0,
	BPF_PROG_LOAD = 5,
	BPF_OBJ_PIN = 6,
	BPF_OBJ_GET = 7,
	BPF_PROG_ATTACH = 8,
	BPF_RAW_TRACEPOINT_OPEN = 17,
	BPF_LINK_CREATE = 28,
	BPF_LINK_UPDATE = 29,
};

/* adds_code tells the commands that are told of the host too: the others of a
 * host are its own tools'. */
static __always_inline bool adds_code(u32 command)
{
	return command == BPF_PROG_LOAD || command == BPF_PROG_ATTACH ||
	       command == BPF_RAW_TRACEPOINT_OPEN || command == BPF_LINK_CREATE ||
	       command == BPF_LINK_UPDATE;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_bpf, struct pt_regs *regs, long ret)
{
	u32 command = call_arg(regs, 0);
	void *attr = (void *)call_arg(regs, 1);
	struct scratch *s = get_scratch();
	struct privilege *r = (void *)s;
	u32 at = sizeof(*r);
	u64 path = 0;

	if (is_own() || !s)
		return 0;
	if (!prepare(KIND_BPF, called(regs), has_failed(ret) ? -ret : 0, adds_code(command)))
		return 0;
	r->command = command;
	switch (command) {
	case BPF_MAP_CREATE: /* all three begin with a type or a path */
	case BPF_PROG_LOAD:
		bpf_probe_read_user(&r->type, sizeof(r->type), attr);
		break;
	case BPF_OBJ_PIN:
	case BPF_OBJ_GET:
		bpf_probe_read_user(&path, sizeof(path), attr);
		at += r->target_len = put_user(s, at, MAX_STRING, (void *)path);
		break;
	}
	finish(at);
	return 0;
}

/* -- Credentials ------------------------------------------------------------ */

/* The calls themselves are told when they fail; when they succeed, what they
 * changed is told by check_creds. The effective id that was asked for can be -1,
 * which leaves it; then it was about the first. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_become, struct pt_regs *regs, long ret)
{
	struct privilege *r = (void *)get_scratch();
	struct shape *shape = get_shape(regs);
	struct work *w = get_work();
	u32 id;

	if (!r || !shape || !w || !PREPARE(shape) || !has_failed(ret))
		return 0;
	read_args(w, regs);
	id = arg(w, shape->command);
	r->new_id = id == (u32)-1 ? w->args[1] : id;
	finish(sizeof(*r));
	return 0;
}

/* -- Processes -------------------------------------------------------------- */

/* Run once at the start: what those have that are in containers by then. */
SEC("iter/task")
int note_running(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	note_own();
	if (!task || task->pid != task->tgid || !task->mm)
		return 0;
	get_host(task);
	if (find_container(task))
		note_creds(task);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	if (child->pid == child->tgid && !(child->flags & PF_KTHREAD))
		inherit_setup(parent, child);
	return 0;
}

/* Called after the task has moved; with all its threads, for its leader (or
 * for one of its threads). Since 4.20 with these arguments. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_attach, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct task_struct *mover = current_leader();

	if (!find_container(mover) && find_container(task) && !has_creds(task->group_leader))
		mark_setup(task->group_leader);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	struct host *host = met_host();
	struct work *w = get_work();

	if (!w || !host)
		return 0;
	look(w, task);
	if (!w->inside)
		return 0;
	if (!is_setup(task)) {
		check_creds(task, CALL_EXEC);
		return 0;
	}
	if (sees_host(host, task))
		return 0; /* still the runtime */
	end_setup(task);
	note_creds(task);
	return 0;
}
