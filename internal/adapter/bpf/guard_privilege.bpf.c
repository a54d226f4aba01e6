//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which privileged calls held containers make, and which capabilities they use.
 *
 * On the rung of BPF LSM most of it is refused at the hook of what it is about
 * (include/linux/lsm_hook_defs.h). For some calls there is no hook: there, and for all
 * calls on the rung of signals, a process is killed at sys_enter. What that holds: a
 * fatal signal that waits stops those calls that make processes (copy_process of
 * kernel/fork.c), reach into another's memory (__get_user_pages of mm/gup.c) or have a
 * program verified (kernel/bpf/verifier.c); at sys_exit they would be done. Any other
 * call that has begun goes on; the process ends before it returns, and with it all that
 * the call gave to the process alone: namespaces, descriptors, tracing. What the call
 * did to others stays done.
 */
#include "guard.bpf.h"
#include "guard_marks.bpf.h"
#include "guard_privilege.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SIGKILL 9

const enum privilege *unused_privilege __attribute__((unused));
const enum knob *unused_knob __attribute__((unused));

static __always_inline int refuse(u32 kind, u64 more)
{
	return judge_privilege(kind, call_now(), 0, 0, more) == ANSWER_DENY ? -EPERM : 0;
}

static __always_inline int refuse_at(u32 kind, const struct path *path, u64 more)
{
	return judge_privilege(kind, call_now(), (u64)BPF_CORE_READ(path, mnt), (u64)BPF_CORE_READ(path, dentry), more) ==
			       ANSWER_DENY ?
		       -EPERM :
		       0;
}

/* -- By signals ------------------------------------------------------------- */

/* What a call needs besides its number to be a privileged one. */
struct held_call {
	u8 kind;
	u8 flags;   /* which argument has them, from 1; 0: none */
	u8 pointed; /* that argument is where they are */
	u8 command; /* which argument is the command */
	u8 least;   /* of the command: below it does nothing */
	u8 capability; /* without which it fails anyway, from 1; 0: none */
	u8 hooked;     /* with a user namespace among the flags a hook decides */
	u8 reserved;
	u64 need;   /* one of these flags; 0: whatever they are */
	u64 except; /* flags with which it needs no capability */
};

const struct held_call *unused_held_call __attribute__((unused));

/* By the number of the call, those of 32-bit programs from COMPAT_CALLS. The loader
 * fills it with what its rung holds in this way. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COMPAT_CALLS + MAX_CALLS);
	__type(key, u32);
	__type(value, struct held_call);
} held_calls SEC(".maps");

/* is_able tells whether the running process has a capability, of whichever user
 * namespace. */
static __always_inline bool is_able(u32 capability)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cred *cred = BPF_CORE_READ(task, cred);
	u64 effective = 0;

	bpf_probe_read_kernel(&effective, sizeof(effective), &cred->cap_effective);
	return effective >> (capability & 63) & 1;
}

static __always_inline u64 argument(struct pt_regs *regs, u32 n, bool compat)
{
	switch (n) {
	case 1:
		return arg_of(regs, 0, compat);
	case 2:
		return arg_of(regs, 1, compat);
	case 3:
		return arg_of(regs, 2, compat);
	case 4:
		return arg_of(regs, 3, compat);
	case 5:
		return arg_of(regs, 4, compat);
	}
	return 0;
}

#define CLONE_NEWUSER 0x10000000

/* PTRACE_… that every other request comes after. */
#define PTRACE_TRACEME 0
#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206

/* begun tells a call of the table that does something by its arguments: it returns what
 * is to be told of them, with MORE_SIGNAL; 0 for any other. On a stack of its own, which
 * is given back before the call is judged. */
static __attribute__((noinline)) u64 begun(struct pt_regs *regs, struct held_call *call, u32 slot)
{
	bool compat = slot >= COMPAT_CALLS;
	struct pid_namespace *ns;
	u64 flags, command, more;

	command = argument(regs, call->command, compat);
	flags = argument(regs, call->flags, compat);
	if (call->pointed && bpf_probe_read_user(&flags, sizeof(flags), (void *)flags))
		return 0; /* the call will fail */
	more = (call->command ? command : flags) | MORE_SIGNAL;
	if ((call->need && !(flags & call->need)) || (call->hooked && flags & CLONE_NEWUSER))
		return 0;
	if (command < call->least)
		return 0;
	if (call->kind == PRIVILEGE_OWN_MEMORY && (u32)flags == ~0u) /* asks which personality it has */
		return 0;
	if (call->capability && !(flags & call->except) && !is_able(call->capability - 1))
		return 0;
	if (call->kind == PRIVILEGE_PROCESS_WRITE && /* of its own memory */
	    (u32)argument(regs, 1, compat) == innermost((void *)bpf_get_current_task(), &ns))
		return 0;
	if (call->kind == PRIVILEGE_PTRACE && call->command && command != PTRACE_TRACEME &&
	    command != PTRACE_ATTACH && command != PTRACE_SEIZE)
		return 0;
	return more;
}

/* Which halves of held_calls have a number. */
CALL_TABLE(held_halves);

SEC("tp_btf/sys_enter")
int BPF_PROG(signal_privilege, struct pt_regs *regs, long id)
{
	struct held_call *call;
	bool compat = false;
	u64 more;
	u32 slot;

	if (!half_of(held_halves, regs, &compat))
		return 0;
	slot = slot_of(regs, compat);
	call = bpf_map_lookup_elem(&held_calls, &slot);
	if (!call || !call->kind)
		return 0;
	more = begun(regs, call, slot);
	if (more && judge_privilege(call->kind, slot, 0, 0, more) == ANSWER_DENY)
		bpf_send_signal(SIGKILL);
	return 0;
}

/* -- By the security hooks: mounts ------------------------------------------ */

/* Of mount(2), whatever it does. */
SEC("lsm/sb_mount")
int BPF_PROG(deny_mount, const char *device, const struct path *path, const char *type, unsigned long flags)
{
	return refuse_at(PRIVILEGE_MOUNT, path, flags);
}

SEC("lsm/move_mount")
int BPF_PROG(deny_move_mount, const struct path *from, const struct path *to)
{
	return refuse_at(PRIVILEGE_MOUNT, to, 0);
}

SEC("lsm/sb_umount")
int BPF_PROG(deny_umount, struct vfsmount *mnt, int flags)
{
	return judge_privilege(PRIVILEGE_UMOUNT, call_now(), number_of(mnt), (u64)BPF_CORE_READ(mnt, mnt_root), flags) == ANSWER_DENY ?
		       -EPERM :
		       0;
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(deny_pivot_root, const struct path *old, const struct path *new)
{
	return refuse_at(PRIVILEGE_PIVOT_ROOT, new, 0);
}

SEC("lsm/path_chroot")
int BPF_PROG(deny_chroot, const struct path *path)
{
	return refuse_at(PRIVILEGE_PIVOT_ROOT, path, 0);
}

/* -- Other processes -------------------------------------------------------- */

/* Numbers of the calls as call_slot has them, set by the loader. */
const volatile u32 calls_memory[4] = { ~0u, ~0u, ~0u, ~0u };  /* process_vm_readv, process_vm_writev */
const volatile u32 calls_tracing[4] = { ~0u, ~0u, ~0u, ~0u }; /* ptrace, pidfd_getfd */
const volatile u32 calls_leaving[4] = { ~0u, ~0u, ~0u, ~0u }; /* unshare */

static __always_inline bool is_one(const volatile u32 *list, u32 slot)
{
	return slot == list[0] || slot == list[1] || slot == list[2] || slot == list[3];
}

#define PTRACE_MODE_ATTACH 2 /* include/linux/ptrace.h */

/* Called for whoever looks into another process; /proc/PID/mem is a file. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(deny_ptrace, struct task_struct *child, unsigned int mode)
{
	u32 call;

	if (!(mode & PTRACE_MODE_ATTACH))
		return 0;
	call = call_now();
	if (is_one(calls_memory, call))
		return judge_privilege(PRIVILEGE_PROCESS_WRITE, call, 0, 0, 0) == ANSWER_DENY ? -EPERM : 0;
	if (is_one(calls_tracing, call))
		return judge_privilege(PRIVILEGE_PTRACE, call, 0, 0, PTRACE_ATTACH) == ANSWER_DENY ? -EPERM : 0;
	return 0;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(deny_traceme)
{
	return refuse(PRIVILEGE_PTRACE, PTRACE_TRACEME);
}

/* -- The kernel ------------------------------------------------------------- */

/* Only the names count: the loader replaces the values by the kernel's. */
enum kernel_read_file_id {
	READING_MODULE = 2,
	READING_KEXEC_IMAGE,
};

enum kernel_load_data_id {
	LOADING_MODULE = 2,
	LOADING_KEXEC_IMAGE,
};

static __always_inline int load(u32 id, u32 module, u32 kexec)
{
	if (id == module)
		return refuse(PRIVILEGE_MODULE, 0);
	if (id == kexec)
		return refuse(PRIVILEGE_KEXEC, 0);
	return 0;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(deny_read_file, struct file *file, u32 id)
{
	return load(id, bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE),
		    bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_IMAGE));
}

SEC("lsm/kernel_load_data")
int BPF_PROG(deny_load_data, u32 id)
{
	return load(id, bpf_core_enum_value(enum kernel_load_data_id, LOADING_MODULE),
		    bpf_core_enum_value(enum kernel_load_data_id, LOADING_KEXEC_IMAGE));
}

SEC("lsm/bpf")
int BPF_PROG(deny_bpf, int command)
{
	return refuse(PRIVILEGE_BPF, command);
}

SEC("lsm/perf_event_open")
int BPF_PROG(deny_perf)
{
	return refuse(PRIVILEGE_PERF, 0);
}

SEC("lsm/key_permission")
int BPF_PROG(deny_key)
{
	return refuse(PRIVILEGE_KEYRING, 0);
}

SEC("lsm/key_alloc")
int BPF_PROG(deny_new_key)
{
	return refuse(PRIVILEGE_KEYRING, 0);
}

/* Of descriptors that are no files: by their names. Since 5.12; of an io_uring since
 * 5.16. */
SEC("lsm/inode_init_security_anon")
int BPF_PROG(deny_anonymous, struct inode *inode, const struct qstr *name)
{
	u64 begin = first_six(BPF_CORE_READ(name, name));

	if (begin == SIX('[', 'u', 's', 'e', 'r', 'f'))
		return refuse(PRIVILEGE_USERFAULT, 0);
	if (begin == SIX('[', 'i', 'o', '_', 'u', 'r'))
		return refuse(PRIVILEGE_IO_URING, 0);
	return 0;
}

/* -- Who a process is ------------------------------------------------------- */

/* Of setuid and its kin, not of an exec: which programs have that bit is a matter of
 * what runs. */
SEC("lsm/task_fix_setuid")
int BPF_PROG(deny_setuid, struct cred *new, const struct cred *old)
{
	u32 to = BPF_CORE_READ(new, euid.val), from = BPF_CORE_READ(old, euid.val);

	return to == from ? 0 : refuse(PRIVILEGE_USER, (u64)from << 32 | to);
}

/* A user namespace of its own, by unshare or clone; since 6.1. */
SEC("lsm/userns_create")
int BPF_PROG(deny_userns)
{
	return refuse(is_one(calls_leaving, call_now()) ? PRIVILEGE_UNSHARE : PRIVILEGE_CLONE, CLONE_NEWUSER);
}

#define CAP_OPT_NOAUDIT 2 /* include/linux/security.h, since 5.1: asked to choose a way, not to refuse */

/* Why a capability is judged in another way, in judge_capability's how. */
#define HOW_SILENT 1	   /* it is only asked about */
#define HOW_BORROWED 2	   /* by credentials that have some which the process has not */
#define HOW_BEYOND 4	   /* and some that no process of the container can have */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cred___lent {
	kernel_cap_t cap_effective;
	kernel_cap_t cap_bset;
};

struct task_struct___lent {
	struct cred *real_cred;
	struct cred *cred;
};

#pragma clang attribute pop

/* lent tells of credentials whether the kernel reaches files with them for the running
 * process: an overlay goes to its layers with those of who mounted it, the engine, and is
 * asked at nearly every change in it for SYS_ADMIN, for the attributes that it keeps
 * there. Those of another process, or of an open file, are none: who opened it is asked. */
static __always_inline u32 lent(const struct cred *cred)
{
	struct task_struct___lent *task = (void *)bpf_get_current_task();
	struct cred___lent *own = (void *)BPF_CORE_READ(task, real_cred), *used = (void *)cred;
	u64 effective = 0, mine = 0, most = 0;

	if ((u64)cred != (u64)BPF_CORE_READ(task, cred) || (u64)cred == (u64)own)
		return 0;
	/* Their type was an array before 6.3, so they are read by their address. */
	bpf_probe_read_kernel(&effective, sizeof(effective), &used->cap_effective);
	bpf_probe_read_kernel(&mine, sizeof(mine), &own->cap_effective);
	bpf_probe_read_kernel(&most, sizeof(most), &own->cap_bset);
	return (effective & ~mine ? HOW_BORROWED : 0) | (effective & ~most ? HOW_BEYOND : 0);
}

/* is_lent tells whether what lent has found is no use of a capability by the container,
 * as usedcap.bpf.c has it. An io_uring does what it is asked with credentials that a
 * process gave it (IORING_REGISTER_PERSONALITY), also after that has lost them: where it
 * may be used, only what no process of the container could give it is lent. */
static __always_inline bool is_lent(struct edge *meta, u32 how)
{
	return how & (meta->META_KINDS >> PRIVILEGE_IO_URING & 1 ? HOW_BEYOND : HOW_BORROWED);
}

/* judge_capability is for one that credentials have, since the kernel's own module is
 * asked first. */
__attribute__((noinline)) int judge_capability(u32 capability, u32 how)
{
	u32 which = open_case(CONTROL_PRIVILEGE, RUNTIME_NEVER), answer;
	struct edge *meta;
	struct slot *s;

	if (which == NOT_HELD)
		return ANSWER_OFF;
	s = get_slot(which);
	if (!s)
		return ANSWER_DENY;
	answer = s->answer;
	meta = get_meta(s->group);
	if (meta && (meta->META_CAPABILITIES >> (capability & 63) & 1 || is_lent(meta, how))) {
		answer = ANSWER_OFF;
	} else if (!(how & HOW_SILENT)) {
		s->record.detail = capability;
		tell_denial(which, DEED_CAPABILITY, answer == ANSWER_DENY ? REACTION_DENIED : REACTION_AUDITED);
	}
	free_slot(which);
	return answer;
}

SEC("lsm/capable")
int BPF_PROG(deny_capability, const struct cred *cred, struct user_namespace *ns, int capability, unsigned int options)
{
	u32 how = (options & CAP_OPT_NOAUDIT ? HOW_SILENT : 0) | lent(cred);

	return judge_capability(capability, how) == ANSWER_DENY ? -EPERM : 0;
}

/* -- Sockets ---------------------------------------------------------------- */

/* When it is made and nobody has it yet; since 2.6 with these arguments. */
SEC("lsm/socket_post_create")
int BPF_PROG(deny_socket, struct socket *sock, int family, int type, int protocol, int kernel)
{
	u32 kind = kernel ? PRIVILEGE_NONE : privilege_of_socket(family, type);

	return kind ? refuse(kind, 0) : 0;
}

/* -- Devices and knobs ------------------------------------------------------ */

#define O_TRUNC 01000

/* is_harmless tells the devices that every container has and uses: as in
 * file.bpf.c. */
static __always_inline bool is_harmless(u32 rdev)
{
	u32 major = rdev >> 20, minor = rdev & 0xfffff;

	if (major == 1) /* null, zero, full, random, urandom */
		return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
	if (major == 5) /* tty, console, ptmx */
		return minor <= 2;
	return major >= 136 && major <= 143; /* pts */
}

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFCHR 0020000

static __always_inline u32 privilege_of_open(struct file *file, u16 mode)
{
	if ((mode & S_IFMT) == S_IFCHR)
		return is_harmless(file->f_inode->i_rdev) ? PRIVILEGE_NONE : PRIVILEGE_DEVICE;
	if ((mode & S_IFMT) == S_IFBLK)
		return PRIVILEGE_DEVICE;
	if ((mode & S_IFMT) != S_IFREG || !(file->f_mode & FMODE_WRITE || file->f_flags & O_TRUNC))
		return PRIVILEGE_NONE;
	switch (knob_of((u64)BPF_CORE_READ(file, f_path.dentry))) {
	case KNOB_KERNEL:
		return PRIVILEGE_KNOB;
	case KNOB_DEVICES:
		return PRIVILEGE_DEVICE;
	case KNOB_MEMORY: /* of its own: guard_exec.bpf.c */
		return is_others_memory(file) ? PRIVILEGE_PROCESS_WRITE : PRIVILEGE_NONE;
	}
	return PRIVILEGE_NONE;
}

SEC("lsm/file_open")
int BPF_PROG(deny_device, struct file *file)
{
	u32 kind;

	if (file->f_mode & FMODE_NOACCOUNT)
		return 0;
	kind = privilege_of_open(file, file->f_inode->i_mode);
	return kind ? refuse_at(kind, (struct path *)&file->f_path, file->f_flags) : 0;
}
