/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who the processes of containers were when last looked at, and what they have
 * become. It is looked at each exec and each call that the sensor handles, so
 * that credentials which come from a defect of the kernel, and from no call at
 * all, are told at the next of those.
 */
#ifndef CASTELLAN_CREDS_BPF_H
#define CASTELLAN_CREDS_BPF_H

#include "privilege.bpf.h"
#include "resident.bpf.h"
#include "setup.bpf.h"

struct creds {
	u64 effective; /* capabilities */
	u64 user_ns;   /* what they are of */
	u32 euid;
	u32 egid;
};

/* Of containers alone. One that is pushed out is that of the parent again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, struct creds);
} known SEC(".maps");

static __always_inline void read_creds(struct task_struct *task, struct creds *c)
{
	struct cred *cred = BPF_CORE_READ(task, cred);

	/* Its type was an array before 6.3, so it is read by its address. */
	c->effective = 0;
	bpf_probe_read_kernel(&c->effective, sizeof(c->effective), &cred->cap_effective);
	c->user_ns = (u64)BPF_CORE_READ(cred, user_ns);
	c->euid = BPF_CORE_READ(cred, euid.val);
	c->egid = BPF_CORE_READ(cred, egid.val);
}

static __always_inline void note_creds(struct task_struct *leader)
{
	struct process_key key;
	struct creds now;

	key_of(leader, &key);
	read_creds(leader, &now);
	bpf_map_update_elem(&known, &key, &now, BPF_ANY);
}

static __always_inline struct creds *get_creds(struct task_struct *leader)
{
	struct process_key key;

	key_of(leader, &key);
	return bpf_map_lookup_elem(&known, &key);
}

static __always_inline bool has_creds(struct task_struct *leader)
{
	return get_creds(leader) || get_creds(BPF_CORE_READ(leader, real_parent, group_leader));
}

static __always_inline void tell_change(u32 kind, u32 call, u32 old_id, u32 new_id, u64 gained,
					u32 bits)
{
	struct privilege *r = new_record(kind, call);

	if (!r)
		return;
	r->old_id = old_id;
	r->new_id = new_id;
	r->gained = gained;
	r->bits |= bits;
	finish(sizeof(*r));
}

/* check_creds tells what the running thread has become since its process was
 * last looked at; w->container is set. A new process is compared with its
 * parent. Threads that have credentials of their own are compared with one
 * another, and the window counts what goes back and forth. */
static __always_inline void check_creds(struct task_struct *leader, u32 call)
{
	struct creds *old = get_creds(leader);
	struct creds now, before;
	u64 gained;
	bool is_new = !old;

	if (is_new)
		old = get_creds(BPF_CORE_READ(leader, real_parent, group_leader));
	read_creds((void *)bpf_get_current_task(), &now);
	before = old ? *old : now;
	gained = now.effective & ~before.effective;
	if (is_new || now.effective != before.effective || now.user_ns != before.user_ns ||
	    now.euid != before.euid || now.egid != before.egid) {
		struct process_key key;

		key_of(leader, &key);
		bpf_map_update_elem(&known, &key, &now, BPF_ANY);
	}
	if (now.egid != before.egid)
		tell_change(KIND_USER, call, before.egid, now.egid, 0, BIT_GROUP);
	if (now.euid != before.euid)
		tell_change(KIND_USER, call, before.euid, now.euid, 0, 0);
	if (gained)
		tell_change(KIND_CAPABILITY, call, before.euid, now.euid, gained, 0);
}

#endif
