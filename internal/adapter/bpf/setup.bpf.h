/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The runtime's own work in a container, which is not the container's.
 *
 * To start a container or an exec in one, the runtime ("runc init") is put into
 * the container's cgroup first and then makes or joins its namespaces, mounts
 * some 40 file systems, changes roots, users and capabilities, and executes the
 * program at last. By its cgroup all that is the container's doing. By its
 * mount namespace it is not the host's either from half way on, so that alone
 * does not tell it from the container.
 *
 * What does is how it came in: somebody outside any container put it there,
 * by writing to cgroup.procs or by cloning it into the cgroup
 * (CLONE_INTO_CGROUP). A process of the container was born there. So whoever is
 * put in is marked, and so are its children, until it executes a file with
 * another mount namespace than the host's: that is the container's program.
 *
 * A process that broke out has no mark: it was born in the container, or
 * executed a file there, and joining the host's namespaces gives it none. It
 * can't get one either. Moving between cgroups by itself gives none, because
 * the mover is then of a container; when it has left every container's cgroup,
 * it is one of the host, to be told as such; and a process that is known to
 * have been in a container keeps that when somebody of the host moves it.
 */
#ifndef CASTELLAN_SETUP_BPF_H
#define CASTELLAN_SETUP_BPF_H

#include "kernel.bpf.h"
#include "container.bpf.h"
#include "resident.bpf.h"

/* A mark lives for some 100 ms, and only what is put into a container has one;
 * one that is pushed out makes a runtime's work look like the container's. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct process_key);
	__type(value, u8);
} setups SEC(".maps");

/* met_host is get_host for those who come after the iterator, which has met
 * process 1. */
static __always_inline struct host *met_host(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&hosts, &zero);
}

static __always_inline void key_of(struct task_struct *leader, struct process_key *key)
{
	key->start = BPF_CORE_READ(leader, start_boottime);
	key->tgid = BPF_CORE_READ(leader, tgid);
	key->reserved = 0;
}

static __always_inline bool is_setup(struct task_struct *leader)
{
	struct process_key key;

	key_of(leader, &key);
	return bpf_map_lookup_elem(&setups, &key);
}

static __always_inline void mark_setup(struct task_struct *leader)
{
	struct process_key key;
	u8 yes = 1;

	key_of(leader, &key);
	bpf_map_update_elem(&setups, &key, &yes, BPF_ANY);
}

static __always_inline void end_setup(struct task_struct *leader)
{
	struct process_key key;

	key_of(leader, &key);
	bpf_map_delete_elem(&setups, &key);
}

/* inherit_setup marks the child of a marked process, and one that was cloned
 * into a container from outside. Most children have their parent's cgroups. */
static __always_inline void inherit_setup(struct task_struct *parent, struct task_struct *child)
{
	if (is_setup(BPF_CORE_READ(parent, group_leader))) {
		mark_setup(child);
		return;
	}
	if (BPF_CORE_READ(parent, cgroups) == BPF_CORE_READ(child, cgroups))
		return;
	if (find_container(child) && !find_container(parent))
		mark_setup(child);
}

#endif
