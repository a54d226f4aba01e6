//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which capabilities a container uses, for the containers that are learned from:
 * a byte a capability, set the first time. Nothing is told here; the loader looks
 * every second. To have a capability is not to use it: root of a container has
 * fourteen, and most services need none.
 *
 * cap_capable (security/commoncap.c) is asked for each use. It has a tracepoint
 * since 6.13 (include/trace/events/capability.h); before, a kprobe at its begin
 * sees the same, and works out the answer by itself. Its first three arguments
 * are the same since 3.8. What is only looked whether it could be used counts as
 * used: rather too much is kept than too little.
 */
#include "learner.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_CAPABILITIES 64

struct used {
	u8 capabilities[MAX_CAPABILITIES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEARNERS);
	__type(key, u32);
	__type(value, struct used);
} used SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pid_namespace___use {
	struct user_namespace *user_ns;
};

struct nsproxy___use {
	struct pid_namespace___use *pid_ns_for_children;
};

struct task_struct___use {
	struct nsproxy___use *nsproxy;
	struct cred *real_cred;
};

#pragma clang attribute pop

/* is_own tells whether credentials are of the container's own user namespace, and
 * not of one that a program of it made for itself: there everybody has all
 * capabilities, and they are good for nothing outside. */
static __always_inline bool is_own(struct user_namespace *user_ns)
{
	struct task_struct___use *task = (void *)bpf_get_current_task();

	return user_ns == BPF_CORE_READ(task, nsproxy, pid_ns_for_children, user_ns);
}

/* borrowed tells whether credentials have capabilities that the task itself has not:
 * overlayfs reaches its layers with those of who mounted it, the engine. */
static __always_inline bool borrowed(u64 effective)
{
	struct task_struct___use *task = (void *)bpf_get_current_task();
	struct cred *own = BPF_CORE_READ(task, real_cred);
	u64 mine = 0;

	bpf_probe_read_kernel(&mine, sizeof(mine), &own->cap_effective);
	return effective & ~mine;
}

static __always_inline int note_use(struct cred *cred, struct user_namespace *target, u32 cap)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct user_namespace *user_ns;
	struct used *u;
	u64 effective = 0, at = cap;
	u8 *mine;
	s32 place;

	if (cap >= MAX_CAPABILITIES)
		return 0;
	place = learner_of(task);
	if (place < 0)
		return 0;
	u = bpf_map_lookup_elem(&used, &place);
	barrier_var(at); /* or a verifier forgets what it was compared with */
	at &= MAX_CAPABILITIES - 1;
	if (!u)
		return 0;
	mine = &u->capabilities[at];
	if (*mine)
		return 0;
	/* Its type was an array before 6.3, so it is read by its address. */
	bpf_probe_read_kernel(&effective, sizeof(effective), &cred->cap_effective);
	user_ns = BPF_CORE_READ(cred, user_ns);
	if (!(effective >> cap & 1) || borrowed(effective) || user_ns != target || !is_own(user_ns))
		return 0;
	*mine = 1;
	return 0;
}

SEC("tp_btf/cap_capable")
int BPF_PROG(on_capable, struct cred *cred, struct user_namespace *target,
	     struct user_namespace *capable, int cap, int ret)
{
	return ret ? 0 : note_use(cred, target, cap);
}

SEC("kprobe/cap_capable")
int on_capable_entry(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return note_use((void *)BPF_CORE_READ(regs, di), (void *)BPF_CORE_READ(regs, si),
			BPF_CORE_READ(regs, dx));
#else
	return note_use((void *)BPF_CORE_READ(regs, regs[0]), (void *)BPF_CORE_READ(regs, regs[1]),
			BPF_CORE_READ(regs, regs[2]));
#endif
}
