/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * System calls: what they were asked and what they answered, when they return.
 *
 * One program sits at sys_exit (syscall.bpf.c) and jumps to the handler of the
 * call, if a sensor has one. A handler is a program of section "tp_btf/sys_exit"
 * that the sensor's Go file lists under calls; it looks like
 *
 *   SEC("tp_btf/sys_exit")
 *   int BPF_PROG(on_mount, struct pt_regs *regs, long ret)
 *
 * Memory of the process may have changed since the kernel read it, by another
 * thread: a path in it is what the process claims. What hangs on the task (its
 * open files, its root) is what the kernel knows.
 */
#ifndef CASTELLAN_SYSCALL_BPF_H
#define CASTELLAN_SYSCALL_BPF_H

#include "kernel.bpf.h"
#include "read.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* HAS_TASK says that bpf_get_current_task_btf (5.11) is there: what hangs on its
 * task costs a load, where elsewhere it costs the call of a helper. */
#define HAS_TASK                                                                                  \
	bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)

#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 0x0002 /* arch/x86/include/asm/thread_info.h: in a call of a 32-bit program */

static __always_inline bool is_compat(void)
{
	struct task_struct *task;

	if (HAS_TASK)
		return bpf_get_current_task_btf()->thread_info.status & TS_COMPAT;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, thread_info.status) & TS_COMPAT;
}

/* Some kernels also take calls of x32 programs (__X32_SYSCALL_BIT), from any 64-bit
 * program: with the numbers of 64-bit ones, but for those from 512 on, of which
 * these are calls that sensors handle (arch/x86/entry/syscalls/syscall_64.tbl). */
#define X32_CALL 0x40000000ul

static __always_inline u64 x32_number(u64 number)
{
	switch (number) {
	case 521:
		return 101; /* ptrace */
	case 528:
		return 246; /* kexec_load */
	case 539:
		return 310; /* process_vm_readv */
	case 540:
		return 311; /* process_vm_writev */
	}
	return number;
}

/* The kernel looks at the lower half of the register alone, whatever a program put into
 * the upper one (arch/x86/entry/entry_64.S, since 5.14). */
static __always_inline u64 call_number(struct pt_regs *regs)
{
	u64 number = (u32)regs->orig_ax;

	return number < X32_CALL ? number : x32_number(number - X32_CALL);
}

/* arg_of returns argument n, 0 to 5, of a call of a 32-bit program or another one:
 * for who needs several. n is a constant. */
static __always_inline u64 arg_of(struct pt_regs *regs, int n, bool compat)
{
	switch (n) {
	case 0:
		return compat ? (u32)regs->bx : regs->di;
	case 1:
		return compat ? (u32)regs->cx : regs->si;
	case 2:
		return compat ? (u32)regs->dx : regs->dx;
	case 3:
		return compat ? (u32)regs->si : regs->r10;
	case 4:
		return compat ? (u32)regs->di : regs->r8;
	default:
		return compat ? (u32)regs->bp : regs->r9;
	}
}
#else
static __always_inline bool is_compat(void)
{
	return false; /* 32-bit programs of arm64 hosts are not followed */
}

static __always_inline u64 call_number(struct pt_regs *regs)
{
	return (u32)regs->syscallno;
}

static __always_inline u64 arg_of(struct pt_regs *regs, int n, bool compat)
{
	return n == 0 ? regs->orig_x0 : regs->regs[n];
}
#endif

/* call_arg returns argument n, 0 to 5. n is a constant. */
static __always_inline u64 call_arg(struct pt_regs *regs, int n)
{
	return arg_of(regs, n, is_compat());
}

#define MAX_CALLS 512	     /* numbers of one table; the highest of 6.18 is below 480 */
#define COMPAT_CALLS MAX_CALLS /* where those of 32-bit programs begin */

/* slot_of returns where in the table of calls a call is. */
static __always_inline u32 slot_of(struct pt_regs *regs, bool compat)
{
	return call_number(regs) + (compat ? COMPAT_CALLS : 0);
}

static __always_inline u32 call_slot(struct pt_regs *regs)
{
	return slot_of(regs, is_compat());
}

/* A table of a program that looks at few calls, and at them by itself: a byte for each
 * number, the lower half for those of programs of this architecture and the upper one
 * for those of 32-bit programs, filled by the loader. Every call of the host pays for
 * being looked up: finding a bit takes longer, and a map longer still. */
#define CALL_TABLE(name) const volatile u8 name[MAX_CALLS]

/* half_of returns what such a table has of a call, 0 for most, and tells whether it is
 * of a 32-bit program: that takes a helper, so it is asked of few. */
static __always_inline u32 half_of(const volatile u8 *table, struct pt_regs *regs, bool *compat)
{
	u64 number = call_number(regs);
	u32 halves;

	/* Kept as 64 bits: a verifier of 6.1 loses the check of a half that is compared
	 * as a copy. */
	barrier_var(number);
	if (number >= MAX_CALLS)
		return 0;
	halves = table[number];
	if (!halves)
		return 0;
	*compat = is_compat();
	return *compat ? halves >> 4 : halves & 15;
}

/* has_failed tells an error from a result: -4095 to -1 are errors. */
static __always_inline bool has_failed(long ret)
{
	return (unsigned long)ret >= (unsigned long)-4095;
}

/* file_of returns the open file that the current process has under a number, or
 * NULL. */
static __always_inline struct file *file_of(int fd)
{
	struct fdtable *table;
	struct file **open;
	u32 max;

	if (HAS_TASK) {
		table = bpf_get_current_task_btf()->files->fdt;
		max = table->max_fds;
		open = table->fd;
	} else {
		table = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files, fdt);
		max = BPF_CORE_READ(table, max_fds);
		open = BPF_CORE_READ(table, fd);
	}
	if (fd < 0 || (u32)fd >= max)
		return NULL;
	return (void *)word_at(&open[fd]);
}

#endif
