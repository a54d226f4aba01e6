//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The resource sensor: processes that the kernel kills for want of memory.
 *
 * mark_victim (include/trace/events/oom.h) exists since 4.14. It is called by
 * whoever asked for memory, before the victim gets its signal, and was given the
 * victim's number; since 6.9, and in kernels that took that over, the victim's
 * task. A raw tracepoint takes both: all that it is given are numbers.
 */
#include "sensor.bpf.h"
#include "pid.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whose memory ran out. */
enum scope {
	SCOPE_HOST = 1,
	SCOPE_CONTAINER, /* a container's, or that of a cgroup made in it */
	SCOPE_CGROUP,	 /* of a cgroup that is no container's: around a task, or a service of the host */
};

/* All sizes in pages. */
struct oom {
	struct header head;
	u64 used;     /* by all that share the limit; 0 for the host */
	u64 limit;    /* likewise */
	u64 resident; /* of the victim */
	u32 scope;
	u32 reserved;
};

const enum scope *unused_scope __attribute__((unused));
const struct oom *unused_oom __attribute__((unused));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	s64 counter;
} atomic64_t;

struct page_counter {
	atomic64_t usage;
	unsigned long max;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
};

/* Until 6.1. */
struct mm_rss_stat {
	atomic64_t count[4];
};

struct mm_struct___counted {
	struct mm_rss_stat rss_stat;
};

/* Since 6.2. What CPUs have not added yet is left out: some hundred KiB. */
struct percpu_counter {
	s64 count;
};

struct mm_struct___percpu {
	struct percpu_counter rss_stat[4];
};

#pragma clang attribute pop

/* include/linux/mm_types_task.h: what is in memory, swapped pages are not. */
enum { MM_FILEPAGES = 0, MM_ANONPAGES = 1, MM_SHMEMPAGES = 3 };

struct bpf_raw_tracepoint_args {
	u64 args[1];
};

static __always_inline u64 resident_of(struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	s64 file, anonymous, shared;

	if (!mm)
		return 0;
	if (bpf_core_type_exists(struct mm_rss_stat)) {
		struct mm_struct___counted *m = (void *)mm;

		file = BPF_CORE_READ(m, rss_stat.count[MM_FILEPAGES].counter);
		anonymous = BPF_CORE_READ(m, rss_stat.count[MM_ANONPAGES].counter);
		shared = BPF_CORE_READ(m, rss_stat.count[MM_SHMEMPAGES].counter);
	} else {
		struct mm_struct___percpu *m = (void *)mm;

		file = BPF_CORE_READ(m, rss_stat[MM_FILEPAGES].count);
		anonymous = BPF_CORE_READ(m, rss_stat[MM_ANONPAGES].count);
		shared = BPF_CORE_READ(m, rss_stat[MM_SHMEMPAGES].count);
	}
	file += anonymous + shared;
	return file > 0 ? file : 0;
}

/* memory_of returns the memory controller's part of a task's cgroups, or NULL. */
static __always_inline struct cgroup_subsys_state *memory_of(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return NULL;
	bpf_probe_read_kernel(&css, sizeof(css),
			      (void *)&set->subsys[0] +
				      bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) *
					      sizeof(css));
	return css;
}

/* is_member tells whether the running process counts for a cgroup. The argument is
 * a number, as in find_id. */
__attribute__((noinline)) int is_member(u64 address)
{
	struct cgroup_subsys_state *css = memory_of((void *)bpf_get_current_task());

	for (int i = 0; i < MAX_CGROUP_DEPTH && css; i++) {
		if ((u64)css == address)
			return 1;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

/* Kernels charge up to this many pages in advance (MEMCG_CHARGE_BATCH). */
#define BATCH 64

/* find_limit writes which limit was reached: that of the nearest cgroup of the
 * victim that has no room left, and that whoever asked for memory is of as well.
 * The kernel does not say it. When none is full, the host is. */
static __always_inline void find_limit(struct oom *r, struct task_struct *victim)
{
	struct cgroup_subsys_state *css = memory_of(victim);

	r->scope = SCOPE_HOST;
	for (int i = 0; i < MAX_CGROUP_DEPTH && css; i++) {
		struct mem_cgroup *group =
			(void *)css - bpf_core_field_offset(struct mem_cgroup, css);
		u64 used = BPF_CORE_READ(group, memory.usage.counter);
		u64 limit = BPF_CORE_READ(group, memory.max);

		/* One whose limit was just lowered below what it uses has somebody
		 * else who asked. */
		if (used > limit ||
		    (limit - used <= limit / 32 + BATCH && is_member((u64)css))) {
			r->used = used;
			r->limit = limit;
			r->scope = container_of_cgroup(BPF_CORE_READ(css, cgroup)) ?
					   SCOPE_CONTAINER :
					   SCOPE_CGROUP;
			return;
		}
		css = BPF_CORE_READ(css, parent);
	}
}

static __always_inline struct task_struct *victim_of(u64 argument)
{
	struct pid *own;

	if (argument >> 32)
		return (void *)argument; /* an address of the kernel */
	/* The number is the host's. */
	own = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_pid);
	return task_of(pid_in(BPF_CORE_READ(own, numbers[0].ns), argument));
}

SEC("raw_tp/mark_victim")
int on_victim(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *victim = victim_of(ctx->args[0]);
	struct oom *r = (void *)get_scratch();
	struct task_struct *leader;

	if (!victim || !r)
		return 0;
	leader = BPF_CORE_READ(victim, group_leader);
	fill_read(&r->head, SENSOR_RESOURCE, leader, find_container(leader));
	r->head.kind = 1;
	r->used = 0;
	r->limit = 0;
	r->resident = resident_of(victim);
	r->reserved = 0;
	find_limit(r, victim);
	submit(r, sizeof(*r));
	return 0;
}
