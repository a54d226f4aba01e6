/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Privileges: their kinds, what sockets and files are of one, and whether a group's
 * profile has them.
 */
#ifndef CASTELLAN_GUARD_PRIVILEGE_BPF_H
#define CASTELLAN_GUARD_PRIVILEGE_BPF_H

#include "family.bpf.h"
#include "guard.bpf.h"
#include "pseudo.bpf.h"
#include "syscall.bpf.h"

/* The kinds of privileges, by which META_KINDS has them: see guardprivilege.go. */
enum privilege {
	PRIVILEGE_NONE,
	PRIVILEGE_MOUNT,
	PRIVILEGE_UMOUNT,
	PRIVILEGE_PIVOT_ROOT,
	PRIVILEGE_UNSHARE,
	PRIVILEGE_SETNS,
	PRIVILEGE_CLONE,
	PRIVILEGE_PTRACE,
	PRIVILEGE_PROCESS_WRITE,
	PRIVILEGE_MODULE,
	PRIVILEGE_KEXEC,
	PRIVILEGE_BPF,
	PRIVILEGE_PERF,
	PRIVILEGE_KEYRING,
	PRIVILEGE_USERFAULT,
	PRIVILEGE_IO_URING,
	PRIVILEGE_USER,
	PRIVILEGE_KNOB,
	PRIVILEGE_DEVICE,
	PRIVILEGE_OWN_MEMORY, /* writing into its own code, by /proc/self/mem: a matter of what runs */
	/* Sockets, of the control of the network; in this order up to the last. */
	PRIVILEGE_PACKET,
	PRIVILEGE_VSOCK,
	PRIVILEGE_ALG,
	PRIVILEGE_RAW, /* of any other family, raw or not */
};

#define MORE_SIGNAL (1ull << 63) /* of more: it is answered by a signal */

static __always_inline u32 call_now(void)
{
	return call_slot((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()));
}

static __always_inline enum control control_of(u32 kind)
{
	if (kind == PRIVILEGE_OWN_MEMORY)
		return CONTROL_EXEC;
	return kind >= PRIVILEGE_PACKET ? CONTROL_NETWORK : CONTROL_PRIVILEGE;
}

/* judge_privilege tells what is to be done about a privileged call: an enum answer.
 * What lies outside the rules is told with the path that it is about, if there is
 * one, and with what more says (flags, a command). */
__attribute__((noinline)) int judge_privilege(u32 kind, u32 call, u64 mnt, u64 leaf, u64 more)
{
	u32 which = open_case(control_of(kind), RUNTIME_NEVER), answer;
	struct edge *meta;
	struct slot *s;
	int n;

	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	answer = s->answer;
	meta = get_meta(s->group);
	if (meta && meta->META_KINDS >> (kind & 63) & 1) {
		free_slot(which);
		return ANSWER_OFF;
	}
	if (leaf) {
		n = walk(which, mnt, leaf, 0);
		if (n == WALK_CUT)
			s->record.head.flags |= DENIAL_CUT;
		if (n == WALK_OUTSIDE)
			s->record.head.flags |= DENIAL_OUTSIDE;
		s->record.path_len = s->cursor & NAMES_MASK;
		describe(s, (void *)leaf);
		s->record.origin = origin_for(s, (void *)leaf);
	}
	s->record.detail = kind;
	s->record.call = call + 1;
	s->record.more = more & ~MORE_SIGNAL;
	tell_denial(which, DEED_PRIVILEGE, answer != ANSWER_DENY ? REACTION_AUDITED :
					   more & MORE_SIGNAL	 ? REACTION_KILLED :
								   REACTION_DENIED);
	free_slot(which);
	return answer;
}

/* -- Sockets ---------------------------------------------------------------- */

/* privilege_of_socket tells sockets that few programs make, as the network sensor has
 * it: see made of network.bpf.c. Those of the internet are netguard.bpf.c's. */
static __always_inline u32 privilege_of_socket(u32 family, u32 type)
{
	switch (family_made(family, type)) {
	case AF_PACKET:
		return PRIVILEGE_PACKET;
	case AF_VSOCK:
		return PRIVILEGE_VSOCK;
	case AF_ALG:
		return PRIVILEGE_ALG;
	case AF_UNIX:
	case AF_INET:
	case AF_INET6:
	case AF_NETLINK:
		return PRIVILEGE_NONE;
	}
	return PRIVILEGE_RAW;
}

/* -- The memory of processes ------------------------------------------------ */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* fs/proc/internal.h; both since 2.6.23. */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

#pragma clang attribute pop

#define FMODE_WRITE 0x2

/* memory_of returns whose memory a file of procfs is, which nobody need have opened
 * yet: a number of its struct mm_struct, 0 for any other file. */
static __always_inline u64 memory_of(struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct hlist_node *first;
	struct proc_inode *proc;
	struct task_struct *task;

	if (BPF_CORE_READ(dentry, d_sb, s_magic) != PROC_SUPER_MAGIC || !is_name(dentry, SIX('m', 'e', 'm', 0, 0, 0), 3))
		return 0;
	proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	first = BPF_CORE_READ(proc, pid, tasks[0].first);
	if (!first)
		return 0;
	task = (void *)first - bpf_core_field_offset(struct task_struct, pid_links);
	return (u64)BPF_CORE_READ(task, mm);
}

static __always_inline u64 own_memory(void)
{
	return (u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), mm);
}

static __always_inline bool is_others_memory(struct file *file)
{
	u64 memory = memory_of(file);

	return memory && memory != own_memory();
}

#endif
