//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which system calls a container makes, for the containers that are learned
 * from: a byte a call, set the first time. Nothing is told here; the loader
 * looks every second.
 *
 * sys_enter (include/trace/events/syscalls.h) comes behind seccomp: a call that
 * was refused there is not seen, and must not be learned. Every call of every
 * process pays for the program, so it is attached only while somebody learns,
 * and each CPU remembers whose call it saw last: mostly the next one is of the
 * same program.
 */
#include "container.bpf.h"
#include "read.bpf.h"
#include "syscall.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_LEARNERS 256 /* containers at once; the Go side has it too */
#define NOBODY (-1)

/* The containers that are learned from, and their places in made. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u8[CONTAINER_ID_LEN]);
	__type(value, s32);
} learners SEC(".maps");

struct made {
	u8 calls[COMPAT_CALLS + MAX_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u32);
	__type(value, struct made);
} made SEC(".maps");

/* Whose call this CPU saw last. Addresses may be used again: then a call too few
 * or too many is learned, which takes an exec, an exit and a new container with
 * no other call on this CPU in between. */
struct last {
	u64 cgroups;
	u64 mm;
	u32 epoch;
	s32 place;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct last);
} lasts SEC(".maps");

/* Counts changes of learners, by the loader. */
u32 epoch;

#define RUNC SIX('r', 'u', 'n', 'c', 0, 0)
#define MEMFD SIX('m', 'e', 'm', 'f', 'd', ':')
#define FIRST_FOUR 0xffffffffull

/* is_runtime tells whether a task still runs the engine's runtime, which sets the
 * container up before it starts the container's program: its file has one of the
 * names that runc gives it, and is not on the container's root. A program that
 * passes itself off as runc is not learned from. */
static __always_inline bool is_runtime(struct task_struct *task)
{
	struct dentry *exe = BPF_CORE_READ(task, mm, exe_file, f_path.dentry);
	const unsigned char *name;

	if (BPF_CORE_READ(exe, d_sb) == BPF_CORE_READ(task, fs, root.dentry, d_sb))
		return false;
	name = BPF_CORE_READ(exe, d_name.name);
	if (first_six(name) == MEMFD) /* runc runs a copy of itself from memory */
		name += 6;
	return (first_six(name) & FIRST_FOUR) == RUNC;
}

/* place_of finds out where the calls of a task are noted, or NOBODY. */
__attribute__((noinline)) int place_of(u64 address)
{
	struct task_struct *task = (void *)address;
	struct container *c = find_container(task);
	s32 *place;

	if (!c)
		return NOBODY;
	place = bpf_map_lookup_elem(&learners, c->id);
	if (!place || is_runtime(task))
		return NOBODY;
	return *place;
}

#if defined(__TARGET_ARCH_x86)
static __always_inline u64 number_of(struct pt_regs *regs, long id)
{
	return is_compat() ? (u32)id + COMPAT_CALLS : call_number(regs);
}
#else
/* TIF_32BIT of arch/arm64/include/asm/thread_info.h; numbers of 32-bit programs
 * mean other calls, and are not followed. */
#define IS_32BIT (1ul << 22)

static __always_inline u64 number_of(struct pt_regs *regs, long id)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, thread_info.flags) & IS_32BIT)
		return COMPAT_CALLS + MAX_CALLS;
	return (u32)id < MAX_CALLS ? (u32)id : COMPAT_CALLS + MAX_CALLS;
}
#endif

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long id)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 cgroups, mm, number;
	struct made *calls;
	struct last *last;
	u32 zero = 0;
	s32 place;

	last = bpf_map_lookup_elem(&lasts, &zero);
	if (!last)
		return 0;
	if (HAS_TASK) {
		cgroups = (u64)bpf_get_current_task_btf()->cgroups;
		mm = (u64)bpf_get_current_task_btf()->mm;
	} else {
		cgroups = (u64)BPF_CORE_READ(task, cgroups);
		mm = (u64)BPF_CORE_READ(task, mm);
	}
	if (last->cgroups != cgroups || last->mm != mm || last->epoch != epoch) {
		last->place = place_of((u64)task);
		last->cgroups = cgroups;
		last->mm = mm;
		last->epoch = epoch;
	}
	place = last->place;
	if (place < 0)
		return 0;
	calls = bpf_map_lookup_elem(&made, &place);
	number = number_of(regs, id);
	barrier_var(number);
	if (!calls || number >= COMPAT_CALLS + MAX_CALLS)
		return 0;
	if (!calls->calls[number])
		calls->calls[number] = 1;
	return 0;
}
