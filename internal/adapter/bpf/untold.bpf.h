/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Processes whose beginning has not been told: those that were forked and have
 * not executed anything yet, and those whose exec was like one that was told.
 * Most are gone before anybody could ask for them; then they are counted.
 *
 * Who is about to tell something else of such a process tells its beginning
 * first (speak). Who lives longer is told by the loader (untold.go). Whoever
 * removes the entry has the duty to tell it or to count it.
 *
 * Included by sensor.bpf.h.
 */
#ifndef CASTELLAN_UNTOLD_BPF_H
#define CASTELLAN_UNTOLD_BPF_H

/* What makes two execs, forks or exits of the process sensor alike. */
struct alike {
	u64 cgroup; /* of the container; 0: the host's */
	u64 parent_start;
	u64 inode;
	u64 content; /* exec: hash of all that has no field here; fork: which
		      * program the parent runs; exit: id of what is like its exec */
	u64 cwd;
	u64 capabilities;
	u32 hierarchy; /* of the cgroup */
	u32 parent_tgid;
	u32 device;
	u32 uid;
	u32 euid;
	u32 gid;
	u32 kind;
	u32 flags; /* exec: of the header, and the origin; exit: the status */
};

struct beginning {
	struct header head; /* KIND_FORK or KIND_REPEAT; to be sent as it is */
	u64 id;		    /* of the repeats that its exec is one of */
	struct alike like;  /* where it is to be counted; not sent */
};

#define UNTOLD_RECORD __builtin_offsetof(struct beginning, like)

/* One map for all sensors: the process sensor alone writes to it. Room for three
 * seconds of 5,000 processes a second; when it is full, everything is told. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, struct beginning);
} untold SEC(".maps");

#define MAX_UNTOLD_PARENTS 8

struct taking {
	struct beginning taken;
	struct process_key chain[MAX_UNTOLD_PARENTS];
	struct alike like; /* of what is told now */
};

/* Space to take an entry out into, and for what the stack of 512 bytes, all
 * functions together, has no room for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct taking);
} takings SEC(".maps");

static __always_inline struct taking *get_taking(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&takings, &zero);
}

/* take removes the entry of a process, and returns false if there is none, or
 * somebody else was faster. It is copied first: once removed, its memory can
 * become another's. */
static __always_inline bool take(struct taking *t, const struct process_key *key)
{
	struct beginning *u = bpf_map_lookup_elem(&untold, key);

	if (!u)
		return false;
	__builtin_memcpy(&t->taken, u, sizeof(t->taken));
	return !bpf_map_delete_elem(&untold, key);
}

/* doer returns who does something, for the keys of windows: what a process does
 * that was told of is told, too, and what processes do that are only counted is
 * counted as the doing of one. */
static __always_inline u64 doer(struct task_struct *leader)
{
	struct process_key key = {};
	struct beginning *u;

	key.start = BPF_CORE_READ(leader, start_boottime);
	key.tgid = BPF_CORE_READ(leader, tgid);
	u = bpf_map_lookup_elem(&untold, &key);
	return u && u->id ? u->id : key.start ^ (u64)key.tgid << 40;
}

/* speak tells the beginning of a process and of its parents, as far up as that
 * has not been told, the oldest first. Sent and lost ones count for the sensor
 * that calls it. */
__attribute__((noinline)) int speak(u64 start, u32 tgid)
{
	struct process_key key = { .start = start, .tgid = tgid };
	struct taking *t = get_taking();
	int n = 0;

	if (!t)
		return 0;
	for (int i = 0; i < MAX_UNTOLD_PARENTS; i++) {
		struct beginning *u = bpf_map_lookup_elem(&untold, &key);

		if (!u)
			break;
		t->chain[i] = key;
		key.start = u->head.parent_start;
		key.tgid = u->head.parent_tgid;
		n = i + 1;
	}
	for (int i = MAX_UNTOLD_PARENTS - 1; i >= 0; i--) {
		if (i >= n)
			continue;
		key = t->chain[i];
		if (take(t, &key))
			send(&t->taken, UNTOLD_RECORD);
	}
	return n;
}

#endif
