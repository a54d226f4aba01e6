//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What runs in held containers, and what is mapped as code.
 *
 * On the rung of BPF LSM an exec is refused at bprm_check_security (include/linux/
 * lsm_hook_defs.h), which is called for a script and again for its interpreter;
 * code at mmap_file and file_mprotect. On the rung of signals a process is killed
 * at sched_process_exec, before the first instruction of the program, and at
 * sys_exit of what made a file code, before it returns to the process.
 *
 * The programs of marks (fork, cgroups, exec) are of both rungs: they tell a
 * runtime that sets up a container from what runs in it, and note its root.
 */
#include "guard.bpf.h"
#include "guard_marks.bpf.h"
#include "guard_privilege.bpf.h"
#include "guard_script.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const enum control *unused_control __attribute__((unused));
const enum answer *unused_answer __attribute__((unused));
const enum reaction *unused_reaction __attribute__((unused));
const enum deed *unused_deed __attribute__((unused));
const enum denial_flag *unused_denial_flag __attribute__((unused));
const enum edge_kind *unused_edge_kind __attribute__((unused));
const enum edge_flag *unused_edge_flag __attribute__((unused));
const enum meta_flag *unused_meta_flag __attribute__((unused));
const enum makes *unused_makes __attribute__((unused));
const enum path_list *unused_path_list __attribute__((unused));
const struct denial *unused_denial __attribute__((unused));
const struct slot *unused_slot __attribute__((unused));
const struct hold *unused_hold __attribute__((unused));
const struct held_id *unused_held_id __attribute__((unused));
const struct guard_setting *unused_guard_setting __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* What socket.bpf.h has more of. */
struct sock_common___guard {
	unsigned short skc_family;
};

struct sock___guard {
	struct sock_common___guard __sk_common;
	u16 sk_type;
};

struct socket___guard {
	struct sock___guard *sk;
};

struct vm_area_struct___guard {
	unsigned long vm_end;
	unsigned long vm_flags;
};

#pragma clang attribute pop

#define ENOENT 2
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define SEVERAL 8 /* beside what is asked for: parts of several files, which no profile permits */
#define MAP_SHARED 1
#define MAP_ANONYMOUS 0x20
#define SIGKILL 9

/* may_run tells whether a file, whose path was walked in the slot, may run or be
 * mapped. A script and what is mapped need no list of their own: that it came with
 * the image is enough. */
static __always_inline bool may_run(u32 which, u32 group, enum origin from, u32 deed)
{
	if (from == ORIGIN_IMAGE && (deed != DEED_EXEC || is_listed_path(which, group, LIST_PROGRAMS)))
		return true;
	return is_listed_path(which, group, LIST_WRITTEN);
}

/* judge_path writes the path of a file into the slot of a case and tells whether
 * it may run or be mapped. */
__attribute__((noinline)) int judge_path(u32 which, u64 file, u32 deed)
{
	struct slot *s = get_slot(which);
	struct edge *meta;
	struct path path;
	enum origin from;
	int n;

	if (!s)
		return ANSWER_DENY;
	path_of((void *)file, &path);
	from = origin_for(s, path.dentry);
	/* Code of the image is mapped by every program: nothing else is asked. */
	if (from == ORIGIN_IMAGE && s->overlay && deed != DEED_EXEC)
		return ANSWER_OFF;
	n = walk(which, (u64)path.mnt, (u64)path.dentry, 0);
	if (from == ORIGIN_IMAGE && !s->overlay && (n < 0 || s->crossed))
		from = ORIGIN_MOUNT; /* the image lies on the same file system */
	if (from == ORIGIN_MEMORY) {
		meta = get_meta(s->group);
		/* Shared memory is a compiler's as any other is. */
		if (meta && meta->META_FLAGS & (nameless(path.dentry) == MEMFD ? META_MEMFD : META_CODE_HEAP))
			return ANSWER_OFF;
	} else if (n >= 0 && may_run(which, s->group, from, deed)) {
		return ANSWER_OFF;
	}
	if (n == WALK_CUT)
		s->record.head.flags |= DENIAL_CUT;
	if (n == WALK_OUTSIDE)
		s->record.head.flags |= DENIAL_OUTSIDE;
	s->record.path_len = s->cursor & NAMES_MASK;
	s->record.origin = from;
	describe(s, path.dentry);
	return s->answer;
}

/* Of the detail of a mapping: it is an exec that maps, for what is executed. */
#define IN_EXEC (1u << 31)

/* judge_file tells what is to be done about a file that runs or is mapped as
 * code: an enum answer. What lies outside the rules is told with the reaction,
 * or as audited. */
__attribute__((noinline)) int judge_file(u64 file, u32 deed, u32 detail, u32 reaction)
{
	bool mapped = deed == DEED_MAP && !(detail & IN_EXEC);
	u32 which = open_case(CONTROL_EXEC, mapped ? RUNTIME_NEVER : RUNTIME_INSIDE);
	struct slot *s;
	u32 answer;

	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	/* The dynamic loader maps the program that it was asked to run: that is an exec
	 * in all but name. */
	if (mapped && is_loader((void *)bpf_get_current_task()) && !is_library(which, file))
		deed = DEED_EXEC;
	answer = judge_path(which, file, deed);
	if (answer != ANSWER_OFF) {
		s->record.detail = detail & ~IN_EXEC;
		tell_denial(which, deed, answer == ANSWER_DENY ? reaction : REACTION_AUDITED);
	}
	free_slot(which);
	return answer;
}

/* judge_heap tells what is to be done about memory that becomes code although it
 * is or was writable. */
__attribute__((noinline)) int judge_heap(u32 protection, u32 reaction)
{
	u32 which = open_case(CONTROL_EXEC, RUNTIME_NEVER);
	struct edge *meta;
	struct slot *s;
	u32 answer;

	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	answer = s->answer;
	meta = get_meta(s->group);
	if (meta && meta->META_FLAGS & META_CODE_HEAP && !(protection & SEVERAL)) {
		answer = ANSWER_OFF;
	} else {
		s->record.detail = protection & 7;
		tell_denial(which, DEED_PROTECT, answer == ANSWER_DENY ? reaction : REACTION_AUDITED);
	}
	free_slot(which);
	return answer;
}

/* -- By signals ------------------------------------------------------------- */

/* bpf_find_vma is newer (5.17) than what else is asked for: the loader takes the
 * programs that use it where the kernel has it, and those called …_plain elsewhere. */
struct area {
	union {
		u64 file;
		u64 mnt; /* of a file that was opened, with its dentry */
	};
	union {
		u64 changed; /* some of it was written by the process, or it has no file */
		u64 leaf;
	};
};

static long look_at_area(struct task_struct *task, struct vm_area_struct *vma, struct area *area)
{
	/* Read by a helper, so that it is a number for the verifier: a function takes
	 * no other. */
	area->file = (u64)BPF_CORE_READ(vma, vm_file);
	area->changed = !area->file || BPF_CORE_READ(vma, anon_vma);
	return 0;
}

static __always_inline u64 first_instruction(struct task_struct *task)
{
	struct pt_regs___guard *regs = (void *)bpf_task_pt_regs(task);

	return BPF_CORE_READ(regs, INSTRUCTION);
}

/* The new program is in place and has not run an instruction. Of a script, the
 * file is its interpreter. What runs first is the dynamic linker, which was mapped
 * by the exec itself. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(signal_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	u64 file = (u64)BPF_CORE_READ(bprm, file);
	struct area area = {};
	u32 answer;

	answer = judge_file(file, DEED_EXEC, 0, REACTION_KILLED);
	if (answer == ANSWER_OFF) {
		bpf_find_vma(task, first_instruction(task), look_at_area, &area, 0);
		if (area.file)
			answer = judge_file(area.file, DEED_MAP, PROT_EXEC | IN_EXEC, REACTION_KILLED);
	}
	if (answer == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	note_exec(task);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(signal_exec_plain, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	u64 file = (u64)BPF_CORE_READ(bprm, file);

	if (judge_file(file, DEED_EXEC, 0, REACTION_KILLED) == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	note_exec(task);
	return 0;
}

/* What calls may make: code, or a descriptor that gives more than a file or a
 * connection. Shared memory of System V is code when shmat is told so; the same by
 * ipc, of 32-bit programs, is not looked at. */
enum makes {
	MAKES_MAPPED = 1,    /* mmap, mmap2 */
	MAKES_PROTECTED = 2, /* mprotect, pkey_mprotect */
	MAKES_ATTACHED = 4,  /* shmat */
	/* None of those above is together with another: what follows is one of its own. */
	MAKES_OPENED = 8, /* open: its flags are the second argument */
	MAKES_OPENED_AT,  /* openat: they are the third */
	MAKES_OPENED_SO,  /* openat2, creat: they are somewhere else, or known */
	MAKES_SOCKET,	  /* socket, socketpair */
	MAKES_SOCKET_OF,  /* socketcall, whose arguments are somewhere else */
	MAKES_PERSONA,	  /* personality */
};

CALL_TABLE(making);

#define SHM_RDONLY 010000
#define SHM_EXEC 0100000
#define READ_IMPLIES_EXEC 0x0400000 /* include/uapi/linux/personality.h */

/* What a call that maps asked for, and what it got: a personality can add to it. */
struct asked {
	u32 protection;
	u32 becomes;
};

static __always_inline u32 personality(void)
{
	struct task_struct___guard *task;

	if (HAS_TASK)
		return ((struct task_struct___guard *)bpf_get_current_task_btf())->personality;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, personality);
}

static __always_inline void look_at_call(struct pt_regs *regs, u32 makes, bool compat, struct asked *asked)
{
	u32 flags = arg_of(regs, 2, compat);

	asked->protection = flags & 7;
	if (makes & MAKES_ATTACHED)
		asked->protection = PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE) | (flags & SHM_EXEC ? PROT_EXEC : 0);
	asked->becomes = asked->protection;
	if (asked->protection & PROT_READ && !(asked->protection & PROT_EXEC) && personality() & READ_IMPLIES_EXEC)
		asked->becomes |= PROT_EXEC;
}

/* Areas that one call makes code and that are looked at: the dynamic linker makes one.
 * With more of them, or parts of several files, nobody who works makes code. */
#define MOST_AREAS 16

#define VM_EXEC 4 /* include/linux/mm.h */

struct areas {
	u64 file;
	u64 changed; /* as of an area, of any of them */
	u64 several; /* not 0 if there are several files */
	u64 end;     /* of the last one */
};

/* all_if returns all bits for what is not 0. */
static __always_inline u64 all_if(u64 x)
{
	return 0 - ((x | (0 - x)) >> 63);
}

/* look_at_next leaves out what is no code: a call that fails has changed what lies before
 * the place where it failed, and no more. */
static long look_at_next(struct task_struct *task, struct vm_area_struct *vma, struct areas *all)
{
	struct vm_area_struct___guard *more = (void *)vma;
	u64 file = (u64)BPF_CORE_READ(vma, vm_file), written = (u64)BPF_CORE_READ(vma, anon_vma);
	/* All bits or none, and no branches: the verifier follows each in each round. */
	u64 is_code = 0 - (BPF_CORE_READ(more, vm_flags) / VM_EXEC & 1), has_file = all_if(file);

	all->end = BPF_CORE_READ(more, vm_end);
	all->changed |= is_code & (written | ~has_file);
	all->several |= is_code & has_file & all_if(all->file) & (all->file ^ file);
	all->file = (is_code & has_file & file) | (~(is_code & has_file) & all->file);
	return 0;
}

enum {
	AREAS_NONE, /* no code is among them */
	AREAS_CODE,
	AREAS_SEVERAL, /* code of several files, or more than is looked at */
};

/* look_at_areas looks at all areas that mprotect was given, and leaves what they are in
 * area. What is gone was moved by another thread, unless the call failed there.
 *
 * For the verifier it is a function by itself (not static): else it would follow what is
 * judged afterwards once for each way through the loop, which is more than it does. */
__attribute__((noinline)) int look_at_areas(u64 at, u64 end, u64 failed, struct area *area)
{
	struct areas all = {};
	long none = 0;

	if (!area)
		return AREAS_NONE;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MOST_AREAS; i++) {
		none = bpf_find_vma(bpf_get_current_task_btf(), at, look_at_next, &all, 0);
		if (none && !(none == -ENOENT && failed))
			all.changed = 1;
		at = all.end;
		if (none || at >= end)
			break;
	}
	if (!none && at < end)
		all.several = 1;
	area->file = all.file;
	area->changed = all.changed | all.several;
	if (all.several)
		return AREAS_SEVERAL;
	return all.file || all.changed ? AREAS_CODE : AREAS_NONE;
}

/* protected_given tells what mprotect was asked for and got, for signal_area. */
static __attribute__((noinline)) u64 protected_given(struct pt_regs *regs, bool compat, long ret, struct area *area)
{
	u64 at = arg_of(regs, 0, compat), end = at + arg_of(regs, 1, compat);
	struct asked asked;
	int what;

	look_at_call(regs, MAKES_PROTECTED, compat, &asked);
	if (!(asked.becomes & PROT_EXEC) || end <= at)
		return 0;
	what = look_at_areas(at, end, has_failed(ret), area);
	if (what == AREAS_NONE)
		return 0;
	return asked.protection | (what == AREAS_SEVERAL ? SEVERAL : 0) | (u64)asked.becomes << 32;
}

/* signal_persona is for who asks that all memory be code that can be read: killed before
 * that returns. What the kernel gives to programs of old by itself comes by no call. */
static __always_inline int signal_persona(u64 wanted, long ret)
{
	if (has_failed(ret) || (u32)wanted == ~0u /* asks which one it has */ || !(wanted & READ_IMPLIES_EXEC))
		return 0;
	if (judge_heap(PROT_READ | PROT_EXEC, REACTION_KILLED) == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	return 0;
}

/* What a call made code: killed before the call returns. As with the security
 * hooks, memory counts when the call itself asked for code. given is what it asked for,
 * and above that what it got. */
static __always_inline int signal_area(u64 given, struct area *area)
{
	int answer = ANSWER_OFF;

	if (!given)
		return 0;
	if (area->file)
		answer = judge_file(area->file, DEED_MAP, given >> 32, REACTION_KILLED);
	if (answer != ANSWER_DENY && given & PROT_EXEC && (area->changed || given & PROT_WRITE))
		answer = judge_heap(given & (7 | SEVERAL), REACTION_KILLED);
	if (answer == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	return 0;
}

#define SYS_SOCKET 1 /* of socketcall: include/uapi/linux/net.h */

/* socket_given tells what privilege a socket is that a call made: by its arguments, or
 * by itself. On a stack of its own, as what follows, which is given back before it is
 * judged. */
static __attribute__((noinline)) u32 socket_given(struct pt_regs *regs, u32 makes, long ret)
{
	bool compat = is_compat();
	u64 family = arg_of(regs, 0, compat), type = arg_of(regs, 1, compat);
	struct socket___guard *socket;
	struct sock___guard *sk;
	struct file *file;

	if (makes == MAKES_SOCKET_OF) {
		if (family != SYS_SOCKET)
			return PRIVILEGE_NONE;
		file = file_of(ret);
		socket = BPF_CORE_READ(file, private_data);
		sk = BPF_CORE_READ(socket, sk);
		family = BPF_CORE_READ(sk, __sk_common.skc_family);
		type = BPF_CORE_READ(sk, sk_type);
	}
	return privilege_of_socket(family, type);
}

#define O_ACCMODE 3

/* file_given does so for a file, and returns its flags above that: the memory of a
 * process, to write into it, is held. Nearly all opens are for reading, which their flags
 * say. Whose memory it is the open file says itself. Its path is left in at. */
static __attribute__((noinline)) u64 file_given(struct pt_regs *regs, u32 makes, long ret, struct area *at)
{
	bool compat = is_compat();
	struct file *file;
	u64 memory;

	if (makes == MAKES_OPENED && !(arg_of(regs, 1, compat) & O_ACCMODE))
		return PRIVILEGE_NONE;
	if (makes == MAKES_OPENED_AT && !(arg_of(regs, 2, compat) & O_ACCMODE))
		return PRIVILEGE_NONE;
	file = file_of(ret);
	if (!file || !(BPF_CORE_READ(file, f_mode) & FMODE_WRITE) || !memory_of(file))
		return PRIVILEGE_NONE;
	memory = (u64)BPF_CORE_READ(file, private_data);
	if (!memory)
		return PRIVILEGE_NONE;
	at->mnt = (u64)BPF_CORE_READ(file, f_path.mnt);
	at->leaf = (u64)BPF_CORE_READ(file, f_path.dentry);
	return (u64)BPF_CORE_READ(file, f_flags) << 32 | (memory == own_memory() ? PRIVILEGE_OWN_MEMORY : PRIVILEGE_PROCESS_WRITE);
}

/* A descriptor that a call made: killed before the call returns. As below, the caller
 * has the place of what is judged, and no more: 32 of the 512 bytes of stack are left. */
static __always_inline int signal_descriptor(struct pt_regs *regs, u32 makes, long ret, struct area *at)
{
	u64 given;

	if (has_failed(ret))
		return 0;
	at->leaf = 0;
	given = makes >= MAKES_SOCKET ? socket_given(regs, makes, ret) : file_given(regs, makes, ret, at);
	if (given && judge_privilege(given, call_slot(regs), at->mnt, at->leaf, given >> 32 | MORE_SIGNAL) == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	return 0;
}

/* code_given tells what a call asked for and got of code, for signal_area. */
static __attribute__((noinline)) u64 code_given(struct pt_regs *regs, u32 makes, bool compat, long ret, struct area *area)
{
	struct asked asked;
	long busy;

	look_at_call(regs, makes, compat, &asked);
	if (!(asked.becomes & PROT_EXEC) || has_failed(ret))
		return 0;
	/* What lies there, and not the file that the number of a call stands for by now:
	 * another thread can have changed that. When another thread changes the address
	 * space at this moment there is no other way; what then has no file any more
	 * counts as changed. */
	busy = bpf_find_vma(bpf_get_current_task_btf(), ret, look_at_area, area, 0);
	area->changed = 0;
	if (busy && makes & MAKES_ATTACHED)
		area->changed = 1;
	if (busy && makes & MAKES_MAPPED && !(arg_of(regs, 3, compat) & MAP_ANONYMOUS)) {
		area->file = (u64)file_of(arg_of(regs, 4, compat));
		area->changed = !area->file;
	}
	return asked.protection | (u64)asked.becomes << 32;
}

/* Where it goes on from here: to the sensors of an agent that runs. This map is not
 * pinned, so it is empty when there is none: a table of programs forgets them when no
 * process has it open (kernel/bpf/arraymap.c, prog_array_map_clear). */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} listeners SEC(".maps");

SEC("tp_btf/sys_exit")
int BPF_PROG(signal_call, struct pt_regs *regs, long ret)
{
	struct area area = { .changed = 1 };
	bool compat = false;
	u32 makes = half_of(making, regs, &compat);

	if (makes == MAKES_PERSONA)
		signal_persona(arg_of(regs, 0, compat), ret);
	else if (makes >= MAKES_OPENED)
		signal_descriptor(regs, makes, ret, &area);
	else if (makes & MAKES_PROTECTED)
		signal_area(protected_given(regs, compat, ret, &area), &area);
	else if (makes)
		signal_area(code_given(regs, makes, compat, ret, &area), &area);
	bpf_tail_call(ctx, &listeners, 0);
	return 0;
}

/* code_given_plain takes the file for the one that the number stands for by then. */
static __attribute__((noinline)) u64 code_given_plain(struct pt_regs *regs, u32 makes, bool compat, long ret, struct area *area)
{
	struct asked asked;

	look_at_call(regs, makes, compat, &asked);
	if (!(asked.becomes & PROT_EXEC))
		return 0;
	/* mprotect has changed what lies before the place where it failed. */
	if (has_failed(ret) && !(makes & MAKES_PROTECTED))
		return 0;
	area->changed = !(makes & MAKES_MAPPED);
	if (makes & MAKES_MAPPED && !(arg_of(regs, 3, compat) & MAP_ANONYMOUS))
		area->file = (u64)file_of(arg_of(regs, 4, compat));
	return asked.protection | (u64)asked.becomes << 32;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(signal_call_plain, struct pt_regs *regs, long ret)
{
	struct area area = {};
	bool compat = false;
	u32 makes = half_of(making, regs, &compat);

	if (!makes)
		return 0;
	if (makes == MAKES_PERSONA)
		return signal_persona(arg_of(regs, 0, compat), ret);
	if (makes >= MAKES_OPENED)
		return signal_descriptor(regs, makes, ret, &area);
	return signal_area(code_given_plain(regs, makes, compat, ret, &area), &area);
}

/* -- By the security hooks -------------------------------------------------- */

/* Called for the file that was asked for and, when that is a script, for its
 * interpreter; since 2.6 with this argument. */
SEC("lsm/bprm_check_security")
int BPF_PROG(deny_exec, struct linux_binprm *bprm)
{
	struct linux_binprm___guard *more = (void *)bprm;
	u8 begin[2] = {};
	u32 deed = DEED_EXEC;

	bpf_core_read(begin, sizeof(begin), &more->buf);
	if (begin[0] == '#' && begin[1] == '!')
		deed = DEED_SCRIPT;
	if (judge_file((u64)BPF_CORE_READ(bprm, file), deed, 0, REACTION_DENIED) == ANSWER_DENY)
		return -EPERM;
	return 0;
}

/* On the rung of security hooks, what signal_exec notes, and the script that an
 * interpreter was given. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(note_script, struct task_struct *task)
{
	u32 which;
	int noted;

	note_exec(task);
	which = open_case(CONTROL_EXEC, RUNTIME_NEVER);
	if (which == NOT_HELD)
		return 0;
	noted = note_argument(which);
	if (!noted) {
		struct slot *s = get_slot(which);

		/* Which file is its script will not be known: it can't be judged. */
		if (!s || s->answer == ANSWER_DENY)
			bpf_send_signal(SIGKILL);
	}
	free_slot(which);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(forget_script, struct task_struct *task)
{
	u32 tgid = task->tgid;

	if (!BPF_CORE_READ(task, signal, live.counter))
		bpf_map_delete_elem(&scripts, &tgid);
	return 0;
}

/* judge_script tells whether a process may open a file that may be its script. */
__attribute__((noinline)) int judge_script(u64 address)
{
	u32 which, answer, tgid = bpf_get_current_pid_tgid() >> 32;
	struct script *script = bpf_map_lookup_elem(&scripts, &tgid);
	struct file *file = (void *)address;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct slot *s;
	bool named;

	if (!script || script->start != BPF_CORE_READ(current_leader(), start_boottime))
		return ANSWER_OFF;
	which = open_case(CONTROL_EXEC, RUNTIME_NEVER);
	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	answer = ANSWER_OFF;
	named = script->any || has_name(which, (u64)dentry, script->name) || (!script->seen && asked_for(which, script->name));
	if (named || (script->runs && runs_in(which, (u64)dentry, script->name, script->length, script->runs))) {
		answer = judge_path(which, address, DEED_SCRIPT);
		if (answer != ANSWER_OFF)
			tell_denial(which, DEED_SCRIPT, answer == ANSWER_DENY ? REACTION_DENIED : REACTION_AUDITED);
		else if (named)
			script->seen = 1; /* of a folder, more may follow */
	}
	free_slot(which);
	return answer;
}

/* is_own_memory tells a file of procfs by which a process writes into its code. */
__attribute__((noinline)) int is_own_memory(u64 address)
{
	u64 memory = memory_of((void *)address);

	return memory && memory == own_memory();
}

/* Called for every open of the host, before the file system is asked; since 2.6.12. */
SEC("lsm/file_open")
int BPF_PROG(deny_script, struct file *file)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct script *script = bpf_map_lookup_elem(&scripts, &tgid);
	struct dentry *dentry;
	u64 head = 0;

	if (file->f_mode & FMODE_WRITE && file->f_inode->i_sb->s_magic == PROC_SUPER_MAGIC && is_own_memory(number_of(file)))
		return judge_privilege(PRIVILEGE_OWN_MEMORY, call_now(), number_of(file->f_path.mnt), number_of(file->f_path.dentry),
				       file->f_flags) == ANSWER_DENY ?
			       -EPERM :
			       0;
	if (!script)
		return 0;
	if (!(file->f_mode & FMODE_READ) || file->f_flags & FMODE_EXEC || (file->f_inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	/* Once the script was opened, most files are told from it by their names alone. */
	dentry = file->f_path.dentry;
	if (script->seen && !script->any) {
		if (BPF_CORE_READ((struct dentry___guard *)dentry, d_name.len) != script->length)
			return 0;
		bpf_probe_read_kernel_str(&head, sizeof(head), dentry->d_name.name);
		if (head != script->head)
			return 0;
	}
	return judge_script(number_of(file)) == ANSWER_DENY ? -EPERM : 0;
}

/* prot is what it becomes, with what a personality adds to what was asked for. Shared
 * memory has no file yet; what is written into it by another mapping of it is code here. */
SEC("lsm/mmap_file")
int BPF_PROG(deny_map, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)
{
	if (!((reqprot | prot) & PROT_EXEC))
		return 0;
	if (file && judge_file(number_of(file), DEED_MAP, (prot & 7) | (in_exec() ? IN_EXEC : 0),
			       REACTION_DENIED) == ANSWER_DENY)
		return -EPERM;
	/* Of an exec, the kernel maps what the file says. */
	if (!(reqprot & PROT_EXEC) || in_exec())
		return 0;
	if (!(reqprot & PROT_WRITE) && (file || !(flags & MAP_SHARED)))
		return 0;
	return judge_heap(reqprot & 7, REACTION_DENIED) == ANSWER_DENY ? -EPERM : 0;
}

SEC("lsm/file_mprotect")
int BPF_PROG(deny_protect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct file *file = BPF_CORE_READ(vma, vm_file);

	if (!((reqprot | prot) & PROT_EXEC))
		return 0;
	if (file && judge_file((u64)file, DEED_MAP, prot & 7, REACTION_DENIED) == ANSWER_DENY)
		return -EPERM;
	if (!(reqprot & PROT_EXEC) || in_exec())
		return 0;
	if (file && !(reqprot & PROT_WRITE) && !BPF_CORE_READ(vma, anon_vma))
		return 0;
	return judge_heap(reqprot & 7, REACTION_DENIED) == ANSWER_DENY ? -EPERM : 0;
}
