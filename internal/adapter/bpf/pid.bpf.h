/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a process id stands for.
 */
#ifndef CASTELLAN_PID_BPF_H
#define CASTELLAN_PID_BPF_H

#include "sensor.bpf.h"

#define XA_NODE 2	 /* the two low bits of an entry that is a node: include/linux/xarray.h */
#define XA_LOWEST 4096	 /* below are marks, no nodes */
#define XA_MASK 63	 /* of an index within a node */
#define MAX_XA_LEVELS 5	 /* 6 bits each: 2^22 numbers and one to spare */

/* pid_in returns what a process id stands for in a pid namespace; NULL for none.
 * It walks the namespace's tree as xa_load (lib/xarray.c) does; 4 bits a level
 * where the kernel is built for the smallest machines, which is not looked for. */
static __always_inline struct pid *pid_in(struct pid_namespace *ns, u32 number)
{
	u64 entry = (u64)BPF_CORE_READ(ns, idr.idr_rt.xa_head);

#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_XA_LEVELS; i++) {
		struct xa_node *node = (void *)(entry - XA_NODE);
		u8 shift;

		if ((entry & 3) != XA_NODE || entry <= XA_LOWEST)
			break;
		shift = BPF_CORE_READ(node, shift);
		if (!i && number >> (shift & 31) > XA_MASK)
			return NULL;
		entry = 0;
		bpf_probe_read_kernel(&entry, sizeof(entry),
				      (void *)node + bpf_core_field_offset(struct xa_node, slots) +
					      (number >> (shift & 31) & XA_MASK) * sizeof(entry));
	}
	return entry & 3 ? NULL : (void *)entry;
}

/* pid_of_number is pid_in for the pid namespace of the running process. */
static __always_inline struct pid *pid_of_number(u32 number)
{
	struct pid_namespace *ns;

	innermost((void *)bpf_get_current_task(), &ns);
	return pid_in(ns, number);
}

/* task_of returns the thread whose number a struct pid is; NULL when it has ended. */
static __always_inline struct task_struct *task_of(struct pid *pid)
{
	void *link = BPF_CORE_READ(pid, tasks[0].first);

	return link ? link - bpf_core_field_offset(struct task_struct, pid_links) : NULL;
}

#endif
