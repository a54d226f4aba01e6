//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which system calls a container makes, for the containers that are learned
 * from: a byte a call, set the first time. Nothing is told here; the loader
 * looks every second.
 *
 * sys_enter (include/trace/events/syscalls.h) comes behind seccomp: a call that
 * was refused there is not seen, and must not be learned. Every call of every
 * process pays for the program, so it is attached only while somebody learns.
 */
#include "learner.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct made {
	u8 calls[COMPAT_CALLS + MAX_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u32);
	__type(value, struct made);
} made SEC(".maps");

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
	struct made *calls;
	u64 number;
	s32 place;

	place = learner_of(task);
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
