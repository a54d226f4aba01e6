/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What all sensors share: the head of every record, the ring buffer and the
 * counters; with container.bpf.h and path.bpf.h.
 *
 * Loops are bounded by constants and the slow parts are global functions,
 * which the verifier checks once each (5.6), so that a 5.10 verifier accepts
 * every program with room to spare. No helper is newer than 5.8.
 */
#ifndef CASTELLAN_SENSOR_BPF_H
#define CASTELLAN_SENSOR_BPF_H

#include "kernel.bpf.h"
#include "container.bpf.h"
#include "path.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* The first number of a record: whose it is. Go has the same list in sensor.go. */
enum sensor_id {
	SENSOR_PROCESS = 1,
	SENSOR_FILE,
	SENSOR_NETWORK,
	SENSOR_DNS,
	SENSOR_PRIVILEGE,
	SENSOR_MEMORY,
	/* 7 and 8 are those of guards. */
	SENSOR_RESOURCE = 9,
};

/* Flags of struct header, all sensors. A sensor's own begin at bit 8. */
enum {
	FLAG_CONTAINER = 1 << 0, /* container is set */
};

/* Begins every record. All numbers little endian, as are the machines. */
struct header {
	u8 sensor;
	u8 kind;
	u16 reserved;
	u32 flags;
	u64 time; /* nanoseconds since boot, suspend included */
	u64 repeat; /* id of struct repeats that counts what is alike; 0: none */
	u64 start;
	u64 parent_start;
	u32 tgid;
	u32 parent_tgid;
	u32 innermost_tgid;
	u32 uid;
	u32 euid;
	u32 gid;
	u8 comm[TASK_COMM_LEN];
	u8 container[CONTAINER_ID_LEN];
};

/* One ring buffer for all sensors. The loader sets its size and hands the same
 * map to every sensor. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

enum { COUNT_SENT, COUNT_LOST, COUNTERS };

/* Of this sensor alone: every record is counted in one or the other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

/* send hands a record over, or counts it as lost and returns false. The reader
 * is woken when it had read everything before; while it is behind, a record
 * costs no wake-up. */
static __always_inline bool send(void *record, u64 size)
{
	u32 which = bpf_ringbuf_output(&events, record, size, 0) ? COUNT_LOST : COUNT_SENT;
	u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
	return which == COUNT_SENT;
}

#include "untold.bpf.h"

/* submit sends a record, and before it what has not been told yet of the
 * process that it is about. */
static __always_inline bool submit(void *record, u64 size)
{
#ifndef SPEAKS_ITSELF /* the process sensor knows best when */
	struct header *h = record;

	speak(h->start, h->tgid);
	/* Around the call an older verifier forgets what it knew of the size. */
	barrier_var(size);
	if (size > sizeof(struct scratch))
		return false;
#endif
	return send(record, size);
}

/* innermost returns the process id as the task's own pid namespace counts, and
 * that namespace. */
static __always_inline u32 innermost(struct task_struct *task, struct pid_namespace **ns)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct upid *last;

	last = (void *)&pid->numbers[0] +
	       (u64)BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
	*ns = BPF_CORE_READ(last, ns);
	return BPF_CORE_READ(last, nr);
}

/* fill writes everything but the kind; task is a thread group leader. */
static __always_inline void fill(struct header *h, enum sensor_id sensor, struct task_struct *task,
				 struct container *c)
{
	struct task_struct *parent = task->real_parent->group_leader;
	struct pid_namespace *ns;

	h->sensor = sensor;
	h->reserved = 0;
	h->flags = 0;
	h->time = bpf_ktime_get_boot_ns();
	h->repeat = 0;
	h->start = task->start_boottime;
	h->parent_start = parent->start_boottime;
	h->tgid = task->tgid;
	h->parent_tgid = parent->tgid;
	h->innermost_tgid = innermost(task, &ns);
	h->uid = task->cred->uid.val;
	h->euid = task->cred->euid.val;
	h->gid = task->cred->gid.val;
	bpf_probe_read_kernel(h->comm, sizeof(h->comm), &task->comm);
	if (c) {
		h->flags = FLAG_CONTAINER;
		__builtin_memcpy(h->container, c->id, sizeof(h->container));
	} else {
		__builtin_memset(h->container, 0, sizeof(h->container));
	}
}

/* current_leader returns the process of the running thread. It and what hangs
 * on it is to be read with BPF_CORE_READ: bpf_get_current_task_btf, which would
 * allow more, came with 5.11. */
static __always_inline struct task_struct *current_leader(void)
{
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
}

/* fill_read is fill for a task that is only known as an address; it must be a
 * thread group leader. The credentials are the leader's; a system call that
 * changed those of one thread shows in the payload. */
static __always_inline void fill_read(struct header *h, enum sensor_id sensor,
				      struct task_struct *task, struct container *c)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct cred *cred = BPF_CORE_READ(task, cred);
	struct pid_namespace *ns;

	h->sensor = sensor;
	h->reserved = 0;
	h->flags = 0;
	h->time = bpf_ktime_get_boot_ns();
	h->repeat = 0;
	h->start = BPF_CORE_READ(task, start_boottime);
	h->parent_start = BPF_CORE_READ(parent, start_boottime);
	h->tgid = BPF_CORE_READ(task, tgid);
	h->parent_tgid = BPF_CORE_READ(parent, tgid);
	h->innermost_tgid = innermost(task, &ns);
	h->uid = BPF_CORE_READ(cred, uid.val);
	h->euid = BPF_CORE_READ(cred, euid.val);
	h->gid = BPF_CORE_READ(cred, gid.val);
	bpf_probe_read_kernel(h->comm, sizeof(h->comm), &task->comm);
	if (c) {
		h->flags = FLAG_CONTAINER;
		__builtin_memcpy(h->container, c->id, sizeof(h->container));
	} else {
		__builtin_memset(h->container, 0, sizeof(h->container));
	}
}

#endif
