/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What was told once is only counted for a while. Of what is alike, the first
 * becomes a record at once; those that follow within the window cost one
 * look-up and no record. The loader reads the counts and tells them as one event
 * (window.go). Sent and counted ones together are what happened.
 *
 * An entry is removed by the loader alone, when nothing like it has happened
 * for a whole window. A program that meets such an entry before it is removed
 * sends a record, so nothing is lost whichever of the two comes first.
 */
#ifndef CASTELLAN_WINDOW_BPF_H
#define CASTELLAN_WINDOW_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>

struct repeats {
	u64 id;	   /* random, not 0: the loader remembers the event by it */
	u64 since; /* when the last record of it was sent; 0: there was no room for it */
	u64 last;  /* when it was last counted */
	u64 count; /* how many were not sent; only grows */
};

/* WINDOW declares the sensor's one window. When it is full, what is new is sent
 * each time and not counted. No LRU: it would forget counts. */
#define WINDOW(key_type, entries)                                                                 \
	struct {                                                                                  \
		__uint(type, BPF_MAP_TYPE_HASH);                                                  \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                             \
		__uint(max_entries, entries);                                                     \
		__type(key, key_type);                                                            \
		__type(value, struct repeats);                                                    \
	} window SEC(".maps")

/* Of all sensors: set by the loader. */
struct settings {
	u64 window; /* nanoseconds; 0: everything is sent */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* What once returns; anything else is the id for struct header. */
#define COUNTED 0 /* nothing is to be sent */
#define ALONE 1	  /* it is to be sent, and is not remembered: id 0 */

/* window_length returns how long what is alike is only counted; 0: not at all. */
static __always_inline u64 window_length(void)
{
	u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set ? set->window : 0;
}

/* counts tells whether what is like r was told within the window, so that it is
 * only to be counted. */
static __always_inline bool counts(struct repeats *r, u64 now, u64 length)
{
	return r && r->since && now - r->since < length;
}

static __always_inline void count_one(struct repeats *r, u64 now)
{
	r->last = now;
	__sync_fetch_and_add(&r->count, 1);
}

/* begin returns the id of what is to be sent, with r as found under the key,
 * NULL if nothing was: from now on what is like it counts. */
static __always_inline u64 begin(void *map, const void *key, struct repeats *r, u64 now, u64 length)
{
	struct repeats fresh = {};

	if (!length)
		return ALONE;
	if (r) {
		r->since = now;
		return r->id;
	}
	fresh.id = ((u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32()) | 2;
	fresh.since = now;
	fresh.last = now;
	return bpf_map_update_elem(map, key, &fresh, BPF_NOEXIST) ? ALONE : fresh.id;
}

/* once tells whether something must be sent now, or was counted. The key must
 * hold all that makes two events alike, without padding that is not zero. */
static __always_inline u64 once(void *map, const void *key)
{
	u64 length = window_length(), now = bpf_ktime_get_boot_ns();
	struct repeats *r;

	if (!length)
		return ALONE;
	r = bpf_map_lookup_elem(map, key);
	if (!counts(r, now, length))
		return begin(map, key, r, now, length);
	count_one(r, now);
	return COUNTED;
}

/* unsent says that there was no room for the record with this id: the next like
 * it is to be sent. The entry stays, for what another CPU may have counted. A
 * macro, because the verifier wants the map itself. */
#define unsent(map, key, id)                                                                      \
	({                                                                                        \
		struct repeats *__r = (id) == ALONE ? NULL : bpf_map_lookup_elem(map, key);       \
		if (__r)                                                                          \
			__r->since = 0;                                                           \
	})

/* submit_once sends a record for which once did not say COUNTED. It begins with
 * struct header. */
#define submit_once(map, key, id, record, size)                                                   \
	({                                                                                        \
		((struct header *)(record))->repeat = (id) == ALONE ? 0 : (id);                   \
		if (!submit(record, size))                                                        \
			unsent(map, key, id);                                                     \
	})

#endif
