//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What runs now: an iterator over all tasks (since 5.8) that writes a record for
 * each process, for whoever reads it. No sensor: it tells what is, not what
 * happens, and has maps of its own, because it can be interrupted by the others.
 */
#define SPEAKS_ITSELF /* it sends nothing */
#include "sensor.bpf.h"
#include "layer.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Followed by the path of the executable, as put_path writes it. */
struct running {
	struct header head;
	u16 executable_len;
	u8 origin;
	u8 cut; /* the beginning of the path is missing */
	u32 reserved;
};

const struct running *unused_running __attribute__((unused));

/* put_executable writes the path and the origin of what the task runs, and
 * returns the length of the path. */
static __always_inline u32 put_executable(struct running *r, struct task_struct *task,
					  struct container *c)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct host *host = get_host(task);
	struct top top;
	u32 n;

	r->origin = ORIGIN_UNKNOWN;
	r->cut = 0;
	if (!file)
		return 0;
	if (in_memory(file))
		r->origin = ORIGIN_MEMORY;
	else if (!c || !host || sees_host(host, task))
		r->origin = ORIGIN_HOST;
	else
		r->origin = origin(BPF_CORE_READ(file, f_inode), settle(host, task, c));
	find_top(task, c, c, &top);
	n = put_path((u64)BPF_CORE_READ(file, f_path.mnt), (u64)BPF_CORE_READ(file, f_path.dentry),
		     top.mnt, top.dentry, sizeof(*r));
	r->cut = !!(n & PATH_CUT);
	return n & PATH_BYTES;
}

SEC("iter/task")
int list_running(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct scratch *s = get_scratch();
	struct running *r = (void *)s;
	struct container *c;

	if (!task || !s || task->pid != task->tgid || task->flags & PF_KTHREAD)
		return 0;
	if (task->signal->live.counter <= 0)
		return 0; /* it has ended, and its parent has not asked yet */
	c = find_container(task);
	fill(&r->head, SENSOR_PROCESS, task, c);
	r->head.kind = 0;
	r->reserved = 0;
	r->executable_len = put_executable(r, task, c);
	bpf_seq_write(ctx->meta->seq, s, sizeof(*r) + (r->executable_len & PATH_BYTES));
	return 0;
}
