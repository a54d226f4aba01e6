/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's types that the sensors read, with the fields that they read and
 * no others. Order and offsets here mean nothing: preserve_access_index makes
 * the loader move each access to where the running kernel keeps the field.
 *
 * Written for Linux 5.8 to 6.18. What changed in between is said at the field.
 */
#ifndef CASTELLAN_KERNEL_BPF_H
#define CASTELLAN_KERNEL_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h: numbers of the kernel's interface, never changed. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

#define BPF_F_NO_PREALLOC 1 /* map flag: memory is taken as entries come */

#define TASK_COMM_LEN 16
#define PF_KTHREAD 0x00200000	 /* include/linux/sched.h */
#define SIGNAL_GROUP_EXIT 0x4	 /* include/linux/sched/signal.h */
#define OVERLAYFS_SUPER_MAGIC 0x794c7630 /* include/uapi/linux/magic.h */
#define S_ISUID 04000
#define S_ISGID 02000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	u64 hash_len; /* the upper half is the length */
	const unsigned char *name;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
	void *s_fs_info;
};

struct inode {
	u16 i_mode;
	u32 i_rdev;
	unsigned int i_nlink;
	unsigned long i_ino;
	struct super_block *i_sb;
	void *i_private;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
	void *d_fsdata;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
	unsigned int f_flags;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct anon_vma;

struct vm_area_struct {
	struct anon_vma *anon_vma; /* set once a page of it was written */
	struct file *vm_file;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

/* u32 cap[2] until 6.2, u64 val since 6.3: the same eight bytes on the little
 * endian machines that we build for. */
typedef struct {
	u64 val;
} kernel_cap_t;

struct user_namespace {
	int level; /* 0: the host's */
};

/* What the inode of an open namespace has as i_private. */
struct proc_ns_operations {
	const char *name;
};

struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;
};

/* What a descriptor of fsopen has as private_data. */
struct fs_context {
	struct file_system_type *fs_type;
	const char *source;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kernel_cap_t cap_effective;
	kgid_t egid;
	struct user_namespace *user_ns;
};

struct mnt_namespace;
struct net;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
};

struct task_struct;

/* The tree of numbers: radix_tree_root is another name of xarray since 4.20. */
struct xarray {
	void *xa_head;
};

struct xa_node {
	unsigned char shift;
	void *slots[64]; /* 16 of them where CONFIG_BASE_SMALL is set */
};

struct idr {
	struct xarray idr_rt;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid_namespace {
	struct task_struct *child_reaper;
	struct idr idr;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	struct hlist_head tasks[4]; /* by enum pid_type: the first is of one thread */
	unsigned int level;
	struct upid numbers[1]; /* level + 1 of them */
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	unsigned int is_child_subreaper : 1;
	unsigned long long sum_sched_runtime; /* of threads that are gone */
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct thread_info {
	u32 status; /* of x86 alone */
	unsigned long flags;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	u64 start_boottime; /* real_start_time before 5.5 */
	u64 self_exec_id;   /* counts execs; u32 before 5.7 */
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct cred *cred;
	char comm[TASK_COMM_LEN];
	struct fs_struct *fs;
	struct files_struct *files;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct hlist_node pid_links[4];
};

/* The registers at the entry of a system call, as sys_exit hands them over: the
 * arguments are still in them, but for the first one on arm64. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bp;
	unsigned long bx;
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#else
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
};
#endif

struct timespec64 {
	s64 tv_sec;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/* Of the helpers that not every kernel has; only the names count, as below. */
enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158,
};

/* Only the names count: the loader replaces the values by the kernel's, and a
 * controller that is not built in does not exist there. */
enum cgroup_subsys_id {
	cpu_cgrp_id,
	memory_cgrp_id,
	devices_cgrp_id,
	pids_cgrp_id,
};

#endif
