/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether a path is one of a list of patterns: a deterministic automaton that
 * reads the path's names, from the root on. Go compiles it (guard_automaton.go).
 *
 * In a state, the next name leads on:
 *   {hash of the name, state, EDGE_NAME}  if it is a name that a pattern has
 *   {set, state, EDGE_MASK}               else, by the set of the state's affixes
 *                                         ("pre*suf") that fit it; 0 where none
 *                                         does, which is the edge of "*"
 * and where there is no such edge, the path is none of the list. The affixes of a
 * state are numbered: {number, state, EDGE_AFFIX} has hashes and lengths of both
 * ends. No two tables have a state of one number, so that who goes on in another
 * one, which was put in place meanwhile, finds nothing.
 *
 * What a round of a loop does is a function of its own here, with all that it goes
 * by in the slot: the verifier looks at a function once, not once for each way
 * through all the rounds before. On Linux 6.1 that is the difference between two
 * hundred instructions a function and more than a million.
 */
#ifndef CASTELLAN_AUTOMATON_BPF_H
#define CASTELLAN_AUTOMATON_BPF_H

#include "siphash.bpf.h"

enum edge_flag {
	EDGE_ACCEPT = 1, /* a path that ends here is one of the list */
	EDGE_DEEP = 2,	 /* so are all that go on */
	EDGE_NAMES = 4,	 /* the state has edges by name */
	EDGE_OTHERS = 8, /* it has edges by set */
};

/* Lists of patterns. */
enum path_list {
	LIST_PROGRAMS,
	LIST_WRITTEN,
	LIST_WRITES,
	LIST_READS,
	LIST_PUBLIC, /* that end like keys and are none */
	LIST_BACKWARDS, /* from here on: read from their last name on */
	LIST_SENSITIVE = LIST_BACKWARDS,
	LIST_KEYS, /* sensitive, if not public */
};

#define MAX_AFFIXES 32
#define MAX_NAME_WORDS 32 /* of eight bytes: NAME_MAX is 255 */

/* hash_names hashes len bytes of the names of a slot, as siphash does: a name or a
 * part of one. What is longer is cut. */
__attribute__((noinline)) u64 hash_names(u32 which, u32 from, u32 len)
{
	struct guard_setting *setting = get_guard_setting();
	struct slot *s = get_slot(which);
	u64 v0, v1, v2, v3, word;

	if (!s || !setting)
		return 0;
	v0 = setting->hash_key[0] ^ 0x736f6d6570736575ULL;
	v1 = setting->hash_key[1] ^ 0x646f72616e646f6dULL;
	v2 = setting->hash_key[0] ^ 0x6c7967656e657261ULL;
	v3 = setting->hash_key[1] ^ 0x7465646279746573ULL;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NAME_WORDS; i++) {
		u32 left = len - 8 * i;

		if (8 * i >= len)
			break;
		word = *(u64 *)&s->names[(from + 8 * i) & NAMES_MASK];
		if (left < 8)
			word &= (1ULL << (8 * left)) - 1;
		v3 ^= word;
		SIP_ROUND;
		v0 ^= word;
	}
	v3 ^= len;
	SIP_ROUND;
	v0 ^= len;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

/* mix_name adds a name, by its hash, to what the paths of a slot come to. The hash
 * is one with a secret: nobody can choose paths that come to the same. */
static __always_inline void mix_name(struct slot *s, u64 hash)
{
	u64 mixed = (s->mixed ^ hash) * 0x9e3779b97f4a7c15ULL;

	s->mixed = mixed << 29 | mixed >> 35;
}

/* What walk returns when a path is not what a pattern can stand for. */
#define WALK_CUT -1	/* deeper or longer than is followed */
#define WALK_OUTSIDE -2 /* not below the root of the container */

#define WALK_ON 0
#define WALK_DONE 1

/* step_up goes from where the walk in a slot stands to the folder above, or through
 * a mount point, and writes the name that it leaves. */
__attribute__((noinline)) int step_up(u32 which, u32 at)
{
	struct slot *s = get_slot(which);
	struct dentry *dentry, *up;
	struct mount *mount;
	u32 begin, n;
	long len;

	if (!s)
		return WALK_CUT;
	dentry = (void *)s->dentry;
	if (s->dentry == s->top)
		return WALK_DONE;
	if ((u64)BPF_CORE_READ(dentry, d_sb) != s->overlay) {
		mount = (void *)s->mount;
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *below = BPF_CORE_READ(mount, mnt_parent);

			if (!below || below == mount || (u64)BPF_CORE_READ((struct mount___guard *)mount, mnt_ns) != s->mounts)
				return WALK_OUTSIDE;
			s->dentry = (u64)BPF_CORE_READ(mount, mnt_mountpoint);
			s->mount = (u64)below;
			s->crossed = 1;
			return WALK_ON;
		}
	}
	begin = s->cursor;
	if (begin - at >= MAX_PATH)
		return WALK_CUT;
	len = bpf_probe_read_kernel_str(&s->names[begin & NAMES_MASK], MAX_NAME, BPF_CORE_READ(dentry, d_name.name));
	if (len <= 1)
		return WALK_OUTSIDE;
	n = s->count;
	s->begin[n & (MAX_NAMES - 1)] = begin;
	s->length[n & (MAX_NAMES - 1)] = len - 1;
	s->hash[n & (MAX_NAMES - 1)] = hash_names(which, begin, len - 1);
	mix_name(s, s->hash[n & (MAX_NAMES - 1)]);
	s->count = n + 1;
	s->cursor = begin + len;
	up = BPF_CORE_READ(dentry, d_parent);
	if (!up || up == dentry)
		return WALK_OUTSIDE;
	s->dentry = (u64)up;
	return WALK_ON;
}

/* walk writes the names of a path into the slot, last name first, each with its
 * NUL, from a place on; and returns how many bytes that took, or with what is
 * wrong above. All arguments are numbers, as in find_id.
 *
 * The path is that below the container's root (open_case has noted it), whatever the
 * process has as its root. Of a file of the container's overlay it is the way through
 * the folders of that, where no mount can lead to by another name; of what is mounted
 * on it, by the mounts of the container's own namespace and no others. */
__attribute__((noinline)) int walk(u32 which, u64 mnt, u64 leaf, u32 at)
{
	struct slot *s = get_slot(which);

	if (!s)
		return WALK_CUT;
	s->dentry = leaf;
	s->mount = (u64)mount_of((void *)mnt);
	s->crossed = 0;
	s->count = 0;
	s->cursor = at;
	if (!at)
		s->mixed = 0;
	mix_name(s, at);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NAMES; i++) {
		int step = step_up(which, at);

		if (step == WALK_DONE)
			return (s->cursor - at) & NAMES_MASK;
		if (step)
			return step;
	}
	return WALK_CUT;
}

/* fits tells whether an affix of the state in which a slot is fits a name of it. */
__attribute__((noinline)) int fits(u32 which, u32 group, u32 number, u32 name)
{
	void *table = bpf_map_lookup_elem(&tables, &group);
	struct slot *s = get_slot(which);
	struct edge_key key = { .hash = number, .kind = EDGE_AFFIX };
	struct edge *affix;
	u32 begin, length;

	if (!s || !table)
		return 0;
	key.state = s->state;
	affix = bpf_map_lookup_elem(table, &key);
	begin = s->begin[name & (MAX_NAMES - 1)];
	length = s->length[name & (MAX_NAMES - 1)];
	if (!affix || length < (u32)affix->prefix_len + affix->suffix_len)
		return 0;
	if (affix->prefix_len && affix->prefix != hash_names(which, begin, affix->prefix_len))
		return 0;
	return !affix->suffix_len ||
	       affix->suffix == hash_names(which, begin + length - affix->suffix_len, affix->suffix_len);
}

/* fitting returns the set of the affixes of the state in which a slot is that fit a
 * name of it. */
__attribute__((noinline)) u64 fitting(u32 which, u32 group, u32 affixes, u32 name)
{
	u64 set = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_AFFIXES; i++) {
		if (i >= affixes)
			break;
		set |= (u64)(fits(which, group, i, name) & 1) << i;
	}
	return set;
}

static __always_inline void enter_state(struct slot *s, struct edge *e)
{
	s->state = e->state;
	s->flags = e->flags;
	s->affixes = e->affixes;
}

/* What follow returns. */
#define FOLLOW_NOWHERE 0
#define FOLLOW_ON 1
#define FOLLOW_DEEP 2 /* whatever comes */

/* follow goes on from the state in which a slot is, by one of its names. */
__attribute__((noinline)) int follow(u32 which, u32 group, u32 name)
{
	void *table = bpf_map_lookup_elem(&tables, &group);
	struct edge_key key = { .kind = EDGE_NAME };
	struct slot *s = get_slot(which);
	struct edge *e = NULL;

	if (!s || !table)
		return FOLLOW_NOWHERE;
	key.state = s->state;
	key.hash = s->hash[name & (MAX_NAMES - 1)];
	if (s->flags & EDGE_NAMES)
		e = bpf_map_lookup_elem(table, &key);
	if (!e && s->flags & EDGE_OTHERS) {
		key.kind = EDGE_MASK;
		key.hash = s->affixes ? fitting(which, group, s->affixes, name) : 0;
		e = bpf_map_lookup_elem(table, &key);
	}
	if (!e)
		return FOLLOW_NOWHERE;
	enter_state(s, e);
	return e->flags & EDGE_DEEP ? FOLLOW_DEEP : FOLLOW_ON;
}

/* start_list has a slot begin with a list of the group, and returns its first
 * state; 0 when there is no such list. */
__attribute__((noinline)) u32 start_list(u32 which, u32 group, u32 list)
{
	void *table = bpf_map_lookup_elem(&tables, &group);
	struct edge_key key = { .state = list, .kind = EDGE_START };
	struct slot *s = get_slot(which);
	struct edge *e;

	if (!s || !table)
		return 0;
	e = bpf_map_lookup_elem(table, &key);
	if (!e)
		return 0;
	enter_state(s, e);
	s->ahead = s->count;
	return e->state;
}

/* is_listed_path tells whether the path that was walked last in a slot is one of
 * a list of the group. */
__attribute__((noinline)) int is_listed_path(u32 which, u32 group, u32 list)
{
	struct slot *s = get_slot(which);
	u32 first;

	if (!s)
		return 0;
	first = start_list(which, group, list);
	if (!first)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 round = 0; round < 2 * MAX_NAMES; round++) {
		u32 now, on;

		if (!s->ahead)
			return s->flags & EDGE_ACCEPT;
		s->ahead--;
		on = follow(which, group, list >= LIST_BACKWARDS ? s->count - 1 - s->ahead : s->ahead);
		if (on == FOLLOW_DEEP)
			return 1;
		if (on == FOLLOW_ON)
			continue;
		/* Not listed, or the rules were replaced: then once more, by the new ones. */
		now = start_list(which, group, list);
		if (!now || now == first)
			return 0;
		first = now;
	}
	return 0;
}

#endif
