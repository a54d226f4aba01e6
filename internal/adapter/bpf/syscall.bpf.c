//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The switchboard of system calls: one program at sys_exit for all sensors,
 * because each further one would be paid for by every call of every process.
 *
 * sys_exit (include/trace/events/syscalls.h) exists since 2.6.31 with these
 * arguments; a jump to a slot without a program goes on behind it.
 */
#include "firstcall.bpf.h"
#include "syscall.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, COMPAT_CALLS + MAX_CALLS);
	__type(key, u32);
	__type(value, u32);
} calls SEC(".maps");

/* Which halves of the table have a handler for a number, set by the loader: most
 * calls have none, and a failed jump costs more than this. A byte for each, because
 * finding a bit takes longer. */
u8 handled[MAX_CALLS];

enum { HANDLED_NATIVE = 1, HANDLED_COMPAT = 2 };

/* One place, for on_unmet. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} unmet SEC(".maps");

/* on_unmet finds out what the cgroups of a task are, and notes its call. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_unmet, struct pt_regs *regs, long ret)
{
	u64 number = call_number(regs);

	barrier_var(number);
	if (number >= MAX_CALLS)
		return 0;
	find_container((void *)bpf_get_current_task());
	note_call(number, ret);
	return 0;
}

/* Set by the loader while programs that hold containers go on to on_joined: see
 * listeners of guard_exec.bpf.c. Who is asked changes with this alone, so that no call
 * is told twice while both are there. */
volatile u8 joined;

static __always_inline int hand_on(void *ctx, struct pt_regs *regs, long ret)
{
	u64 number = call_number(regs);
	bool stranger = false;
	u8 halves;

	/* Kept as 64 bits: a verifier of 6.1 loses the check of a half that is
	 * compared as a copy. */
	barrier_var(number);
	if (number >= MAX_CALLS)
		return 0;
	if (epoch)
		stranger = note_call(number, ret);
	halves = handled[number];
	if (!halves) {
		/* A handler looks at the cgroups itself. */
		if (stranger)
			bpf_tail_call(ctx, &unmet, 0);
		return 0;
	}
	if (is_compat()) {
		if (!(halves & HANDLED_COMPAT))
			return 0;
		number += COMPAT_CALLS;
	} else if (!(halves & HANDLED_NATIVE)) {
		return 0;
	}
	bpf_tail_call(ctx, &calls, number);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	return joined ? 0 : hand_on(ctx, regs, ret);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_joined, struct pt_regs *regs, long ret)
{
	return joined ? hand_on(ctx, regs, ret) : 0;
}
