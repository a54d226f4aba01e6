/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which system calls a container makes, for the containers that are learned
 * from: a byte a call, set the first time. Nothing is told here; the loader
 * looks every second.
 *
 * It is a part of the program at sys_exit that is there anyway, because a second
 * program at every call costs more than what this does. So calls that never come
 * back (exit, exit_group, rt_sigreturn) are not seen: every program needs them.
 * Each CPU remembers whose call it saw last: mostly the next one is of the same
 * program.
 *
 * What notes is inlined: before 6.0, programs of arm64 that call a function may not
 * jump to others. What a cgroup is takes functions to find out, so that is for those
 * who have met it: the sensors at what they watch, or on_unmet (syscall.bpf.c).
 */
#ifndef CASTELLAN_FIRSTCALL_BPF_H
#define CASTELLAN_FIRSTCALL_BPF_H

#include "learner.bpf.h"

#define ANOTHER (-2) /* no place: of a container that is not learned from */
#define UNMET (-3)   /* no place: nobody has looked at a cgroup of the task yet */
#define EPERM 1
#define ENOSYS 38

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seccomp {
	int mode;
};

struct task_struct___calls {
	struct seccomp seccomp;
};

#pragma clang attribute pop

/* By the places of learners. */
struct made {
	u8 calls[COMPAT_CALLS + MAX_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u32);
	__type(value, struct made);
} made SEC(".maps");

/* place_in finds out where the calls of a cgroup's container are noted. */
static __always_inline s32 place_in(struct cgroup *cgroup)
{
	struct cgroup_key key;
	struct container *c;
	s32 *place;

	if (!BPF_CORE_READ(cgroup, self.parent))
		return NOBODY; /* the root */
	key_of_cgroup(cgroup, &key);
	c = bpf_map_lookup_elem(&cgroups, &key);
	if (!c)
		return UNMET;
	if (!c->known)
		return NOBODY;
	place = bpf_map_lookup_elem(&learners, c->id);
	return place ? *place : ANOTHER;
}

/* As CONTAINER_OF_CONTROLLER of container.bpf.h. */
#define PLACE_OF_CONTROLLER(set, controller)                                                      \
	({                                                                                        \
		s32 __place = NOBODY;                                                             \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, controller)) {              \
			u64 __i = bpf_core_enum_value(enum cgroup_subsys_id, controller);         \
			struct cgroup_subsys_state *__css = NULL;                                 \
			struct cgroup *__g;                                                       \
			bpf_probe_read_kernel(&__css, sizeof(__css),                              \
					      (void *)&(set)->subsys[0] + __i * sizeof(__css));   \
			__g = BPF_CORE_READ(__css, cgroup);                                       \
			if (BPF_CORE_READ(__g, root, hierarchy_id))                               \
				__place = place_in(__g);                                          \
		}                                                                                 \
		__place;                                                                          \
	})

/* find_place finds out where the calls of a task are noted. */
static __always_inline s32 find_place(struct task_struct *task, struct css_set *set)
{
	s32 place;

	place = place_in(BPF_CORE_READ(set, dfl_cgrp));
	if (place == NOBODY)
		place = PLACE_OF_CONTROLLER(set, pids_cgrp_id);
	if (place == NOBODY)
		place = PLACE_OF_CONTROLLER(set, memory_cgrp_id);
	if (place == NOBODY)
		place = PLACE_OF_CONTROLLER(set, devices_cgrp_id);
	if (place == NOBODY)
		place = PLACE_OF_CONTROLLER(set, cpu_cgrp_id);
	return place >= 0 && is_runtime(task) ? ANOTHER : place;
}

/* is_refused tells whether seccomp may have refused a call, whose program has a
 * filter: that must not be learned. Filters of engines say EPERM, and ENOSYS of what
 * is newer than they are. Calls that the kernel itself refuses so are not learned
 * either: a filter will say the same. */
static __always_inline bool is_refused(struct task_struct *task, long ret)
{
	struct task_struct___calls *t = (void *)task;

	return (ret == -EPERM || ret == -ENOSYS) && bpf_core_field_exists(t->seccomp) && BPF_CORE_READ(t, seccomp.mode);
}

/* Of a task: which half of the table its call is in, and whether it is followed. */
#if defined(__TARGET_ARCH_x86)
#define IN_COMPAT(status) ((status) & TS_COMPAT)
#define STATUS status

static __always_inline bool is_followed(struct task_struct *task)
{
	return true;
}
#else
/* TIF_32BIT of arch/arm64/include/asm/thread_info.h; numbers of 32-bit programs
 * mean other calls, and are not followed. */
#define IS_32BIT (1ul << 22)
#define IN_COMPAT(flags) ((void)(flags), false)
#define STATUS flags

static __always_inline bool is_followed(struct task_struct *task)
{
	return !(BPF_CORE_READ(task, thread_info.flags) & IS_32BIT);
}
#endif

/* note_call notes a call by its number, below MAX_CALLS, if its container is
 * learned from. It returns whether that is not known, because nobody has looked at
 * a cgroup of the task yet. Each helper that is called shows in every call. */
static __always_inline bool note_call(u64 number, long ret)
{
	struct task_struct *task;
	u64 set, mm, status;
	struct made *calls;
	struct last *last;
	u32 zero = 0;
	s32 place;

	last = bpf_map_lookup_elem(&lasts, &zero);
	if (!last)
		return false;
	if (HAS_TASK) {
		task = bpf_get_current_task_btf();
		set = (u64)task->cgroups;
		mm = (u64)task->mm;
		status = task->thread_info.STATUS;
	} else {
		task = (void *)bpf_get_current_task();
		set = (u64)BPF_CORE_READ(task, cgroups);
		mm = (u64)BPF_CORE_READ(task, mm);
		status = BPF_CORE_READ(task, thread_info.STATUS);
	}
	if (last->cgroups != set || last->mm != mm || last->epoch != epoch || last->place == UNMET) {
		last->place = find_place(task, (void *)set);
		last->cgroups = set;
		last->mm = mm;
		last->epoch = epoch;
	}
	place = last->place;
	if (place < 0)
		return place == UNMET;
	calls = bpf_map_lookup_elem(&made, &place);
	if (IN_COMPAT(status))
		number += COMPAT_CALLS;
	barrier_var(number);
	if (!calls || number >= COMPAT_CALLS + MAX_CALLS || calls->calls[number])
		return false;
	if (!is_refused(task, ret) && is_followed(task))
		calls->calls[number] = 1;
	return false;
}

#endif
