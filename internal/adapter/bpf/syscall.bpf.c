//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The switchboard of system calls: one program at sys_exit for all sensors,
 * because each further one would be paid for by every call of every process.
 *
 * sys_exit (include/trace/events/syscalls.h) exists since 2.6.31 with these
 * arguments; a jump to a slot without a program goes on behind it.
 */
#include "syscall.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, COMPAT_CALLS + MAX_CALLS);
	__type(key, u32);
	__type(value, u32);
} calls SEC(".maps");

/* One bit for each number with a handler in either half of the table, set by the
 * loader: most calls have none, and a failed jump costs more than this. */
u64 handled[MAX_CALLS / 64];

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	u64 number = call_number(regs);

	/* Kept as 64 bits: a verifier of 6.1 loses the check of a half that is
	 * compared as a copy. */
	barrier_var(number);
	if (number >= MAX_CALLS || !(handled[number / 64] >> (number % 64) & 1))
		return 0;
	if (is_compat())
		number += COMPAT_CALLS;
	bpf_tail_call(ctx, &calls, number);
	return 0;
}
