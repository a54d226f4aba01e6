/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is of a container, and who sets it up: programs that go with whatever holds
 * containers. They tell a runtime from what runs in the container, and note its root.
 */
#ifndef CASTELLAN_GUARD_MARKS_BPF_H
#define CASTELLAN_GUARD_MARKS_BPF_H

#include "guard.bpf.h"

/* Compilers drop the types of what only maps within maps have. */
const struct edge_key *unused_edge_key __attribute__((unused));
const struct edge *unused_edge __attribute__((unused));

/* Run once at the start and whenever a container is held that may run already:
 * its root is that of its oldest process. */
SEC("iter/task")
int settle_holds(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct container *c;
	struct hold *h;

	if (!task || task->pid != task->tgid || !task->mm)
		return 0;
	get_host(task);
	c = find_container(task);
	h = hold_of(c);
	if (!h || is_setup(task) || runs_outside(task))
		return 0;
	settle_hold(h, c, task);
	note_member(task);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *leader;

	if (child->pid != child->tgid || child->flags & PF_KTHREAD)
		return 0; /* a thread */
	leader = BPF_CORE_READ(parent, group_leader);
	/* No member has a mark, so none is looked for. */
	if (is_member(leader))
		note_member(child);
	else
		inherit_setup(parent, child);
	return 0;
}

/* was_inside tells of a process that is not known as a member, as members are
 * forgotten when there are very many, whether it is one all the same: it runs a file
 * of the container, or its parent is in one. */
static __always_inline bool was_inside(struct task_struct *leader, u64 root)
{
	if (root && (u64)BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_sb) == root)
		return true;
	return find_container(BPF_CORE_READ(leader, real_parent, group_leader));
}

/* Called after the task has moved: see setup.bpf.h. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_attach, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct container *c;
	struct hold *h;

	if (is_member(leader) || find_container(current_leader()))
		return 0;
	c = find_container(task);
	if (!c)
		return 0;
	h = hold_of(c);
	if (was_inside(leader, h ? h->root : 0))
		return 0;
	mark_setup(leader);
	return 0;
}

/* note_task is for a task that executes a file: it is of its container from then
 * on, unless it is still the runtime. On a stack of its own, which is given back. */
__attribute__((noinline)) int note_task(u64 address)
{
	struct task_struct *task = (void *)address;
	bool outside, marked;
	struct container *c;
	struct hold *h;

	/* Most are: their parents were when they forked. */
	if (is_member(task))
		return 0;
	outside = runs_outside(task);
	marked = is_setup(task);
	if (marked && outside)
		return 0;
	c = find_container(task);
	if (!c)
		return 0;
	if (marked)
		end_setup(task);
	h = hold_of(c);
	if (h && !(outside && is_runtime(task, h, c)))
		note_member(task);
	return 0;
}

static __always_inline void note_exec(struct task_struct *task)
{
	note_task(number_of(task));
}

/* For programs that look at no exec themselves. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(note_program, struct task_struct *task)
{
	note_exec(task);
	return 0;
}

#endif
