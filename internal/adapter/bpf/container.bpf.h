/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The container of a task.
 *
 * The names of a task's cgroups are those that the container engine gave:
 *   /docker/<id>                              cgroupfs driver, v1 and v2
 *   /ecs/<task>/<id>                          the same below an ECS task
 *   …/docker-<id>.scope                       systemd driver
 *   …/cri-containerd-<id>.scope               other engines
 * with 64 hex digits as the id. Further cgroups can follow below, made inside
 * the container; of several ids on the way up the outermost is the one that
 * the engine of this host knows.
 */
#ifndef CASTELLAN_CONTAINER_BPF_H
#define CASTELLAN_CONTAINER_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define CONTAINER_ID_LEN 32 /* bytes: 64 hex digits as the engine writes them */

/* A process as long as the host runs: a pid is used again, with its start it is
 * not. */
struct process_key {
	u64 start;
	u32 tgid;
	u32 reserved;
};

/* Ids of cgroups are unique within one hierarchy only. */
struct cgroup_key {
	u64 id;
	u32 hierarchy;
	u32 reserved;
};

struct container {
	struct cgroup_key cgroup; /* the one that carries the name */
	u32 known;		  /* 0: of the host */
	u32 reserved;
	u8 id[CONTAINER_ID_LEN];
};

/* What a cgroup was found to be; most hosts have a few hundred. An entry that
 * is pushed out is found out again. Ids are not used again before reboot. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct cgroup_key);
	__type(value, struct container);
} cgroups SEC(".maps");

/* SIX and first_six compare short strings as numbers: memcmp would become a
 * call of a function that there isn't. */
#define SIX(a, b, c, d, e, f)                                                                     \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40)

static __always_inline u64 first_six(const void *string)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, 6, string);
	return word;
}

#define ID_DIGITS (2 * CONTAINER_ID_LEN)
#define SUFFIX SIX('.', 's', 'c', 'o', 'p', 'e')
#define SUFFIX_LEN 6
#define MAX_CGROUP_NAME 96 /* the longest known is 85 */
/* A process that may make cgroups could hide below many of them. The kernel
 * allows more levels than this only to who may write cgroup.max.depth. */
#define MAX_CGROUP_DEPTH 32

/* nibble returns the value of a lower-case hex digit, and sets bits of bad for
 * any other character: those don't come back as they were. */
static __always_inline u8 nibble(u8 c, u32 *bad)
{
	u32 v = ((c & 0xf) + 9 * (c >> 6)) & 0xf;

	*bad |= c ^ (v + '0' + ((9 - v) >> 31) * ('a' - '0' - 10));
	return v;
}

/* read_id writes the id whose digits begin there, and returns whether all of
 * them are digits. */
static __always_inline bool read_id(const char *digits, u8 *id)
{
	u8 buf[ID_DIGITS];
	u32 bad = 0;

	if (bpf_probe_read_kernel(buf, sizeof(buf), digits))
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < CONTAINER_ID_LEN; i++)
		id[i] = nibble(buf[2 * i], &bad) << 4 | nibble(buf[2 * i + 1], &bad);
	return !bad;
}

/* name_length returns the length of a cgroup's name, cut. What it reads into is
 * gone from the stack when it is done. */
static __always_inline long name_length(const char *name)
{
	char buf[MAX_CGROUP_NAME];

	return bpf_probe_read_kernel_str(buf, sizeof(buf), name) - 1;
}

/* find_id returns where in a cgroup's name an id begins, or -1. The address is
 * a number because global functions of 5.10 take nothing else; everything is
 * read by helpers, which survive a wrong one. */
__attribute__((noinline)) int find_id(u64 address)
{
	const char *name = (void *)address;
	long len = name_length(name);
	long begin = 0;
	char before;
	u8 id[CONTAINER_ID_LEN];

	if (len > ID_DIGITS + SUFFIX_LEN && len < MAX_CGROUP_NAME - 1) {
		begin = len - SUFFIX_LEN - ID_DIGITS;
		if (first_six(name + len - SUFFIX_LEN) != SUFFIX)
			return -1;
		if (bpf_probe_read_kernel(&before, 1, name + begin - 1) || before != '-')
			return -1;
	} else if (len != ID_DIGITS) {
		return -1;
	}
	return read_id(name + begin, id) ? begin : -1;
}

static __always_inline void key_of_cgroup(struct cgroup *cgroup, struct cgroup_key *key)
{
	key->id = BPF_CORE_READ(cgroup, kn, id);
	key->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	key->reserved = 0;
}

/* resolve_cgroup finds out what a cgroup is and remembers it. Parents are
 * followed through cgroup.self, because kernfs_node.parent became __parent in
 * 6.15. */
__attribute__((noinline)) int resolve_cgroup(u64 address)
{
	struct cgroup *cgroup = (void *)address, *named = NULL;
	struct container found = {};
	struct cgroup_key key;
	int begin = 0;

	key_of_cgroup(cgroup, &key);
	for (int i = 0; i < MAX_CGROUP_DEPTH; i++) {
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
		int id;

		if (!parent)
			break;
		id = find_id((u64)BPF_CORE_READ(cgroup, kn, name));
		if (id >= 0) {
			begin = id;
			named = cgroup;
		}
		cgroup = BPF_CORE_READ(parent, cgroup);
	}
	if (named && read_id(BPF_CORE_READ(named, kn, name) + begin, found.id)) {
		key_of_cgroup(named, &found.cgroup);
		found.known = 1;
	}
	return bpf_map_update_elem(&cgroups, &key, &found, BPF_ANY);
}

/* container_of_cgroup returns what the cgroup is, or NULL for the host's. */
static __always_inline struct container *container_of_cgroup(struct cgroup *cgroup)
{
	struct container *c;
	struct cgroup_key key;

	if (!BPF_CORE_READ(cgroup, self.parent))
		return NULL; /* the root */
	key_of_cgroup(cgroup, &key);
	c = bpf_map_lookup_elem(&cgroups, &key);
	if (!c) {
		resolve_cgroup((u64)cgroup);
		c = bpf_map_lookup_elem(&cgroups, &key);
	}
	return c && c->known ? c : NULL;
}

/* Looks into one hierarchy of version 1, where there is such a controller. One
 * that sits in the default hierarchy (0) has been asked about already. */
#define CONTAINER_OF_CONTROLLER(set, controller)                                                  \
	({                                                                                        \
		struct container *__c = NULL;                                                     \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, controller)) {              \
			u64 __i = bpf_core_enum_value(enum cgroup_subsys_id, controller);         \
			struct cgroup_subsys_state *__css = NULL;                                 \
			struct cgroup *__g;                                                       \
			bpf_probe_read_kernel(&__css, sizeof(__css),                              \
					      (void *)&(set)->subsys[0] + __i * sizeof(__css));   \
			__g = BPF_CORE_READ(__css, cgroup);                                       \
			if (BPF_CORE_READ(__g, root, hierarchy_id))                               \
				__c = container_of_cgroup(__g);                                   \
		}                                                                                 \
		__c;                                                                              \
	})

/* find_container returns the container of a task, or NULL for one of the host.
 * The default hierarchy (v2, hybrid) is asked first, then those of version 1:
 * a container is in all of them, but which are mounted is the host's choice. */
static __always_inline struct container *find_container(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct container *c = container_of_cgroup(BPF_CORE_READ(set, dfl_cgrp));

	if (!c)
		c = CONTAINER_OF_CONTROLLER(set, pids_cgrp_id);
	if (!c)
		c = CONTAINER_OF_CONTROLLER(set, memory_cgrp_id);
	if (!c)
		c = CONTAINER_OF_CONTROLLER(set, devices_cgrp_id);
	if (!c)
		c = CONTAINER_OF_CONTROLLER(set, cpu_cgrp_id);
	return c;
}

#endif
