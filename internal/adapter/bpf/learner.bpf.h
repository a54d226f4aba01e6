/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The containers that are learned from, for programs that note what each of them
 * does for the first time.
 */
#ifndef CASTELLAN_LEARNER_BPF_H
#define CASTELLAN_LEARNER_BPF_H

#include "container.bpf.h"
#include "read.bpf.h"
#include "syscall.bpf.h"

#define MAX_LEARNERS 256 /* containers at once; the Go side has it too */
#define NOBODY (-1)

/* The containers that are learned from, and their places. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u8[CONTAINER_ID_LEN]);
	__type(value, s32);
} learners SEC(".maps");

/* Whose this CPU saw last: mostly the next one is of the same program. Addresses may be used again: then a call too few
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
 * names that runc gives it, and is none of the container's root. Until the runtime
 * changes the root it has that of the host, where its own file lies too: so a root
 * that is no overlay says nothing, and what is called runc there is not learned from.
 * Nor is a program that passes itself off as runc. */
static __always_inline bool is_runtime(struct task_struct *task)
{
	struct super_block *root = BPF_CORE_READ(task, fs, root.dentry, d_sb);
	struct dentry *exe = BPF_CORE_READ(task, mm, exe_file, f_path.dentry);
	const unsigned char *name;

	if (BPF_CORE_READ(exe, d_sb) == root && BPF_CORE_READ(root, s_magic) == OVERLAYFS_SUPER_MAGIC)
		return false;
	name = BPF_CORE_READ(exe, d_name.name);
	if (first_six(name) == MEMFD) /* runc runs a copy of itself from memory */
		name += 6;
	return (first_six(name) & FIRST_FOUR) == RUNC;
}

/* place_of finds out the place of the container of a task, or NOBODY. */
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

/* learner_of returns the place of the container of the running task, or NOBODY. */
static __always_inline s32 learner_of(struct task_struct *task)
{
	u64 cgroups, mm;
	struct last *last;
	u32 zero = 0;

	last = bpf_map_lookup_elem(&lasts, &zero);
	if (!last)
		return NOBODY;
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
	return last->place;
}

#endif
