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
 * ends.
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
enum path_list { LIST_PROGRAMS, LIST_WRITTEN, LIST_WRITES, LIST_READS };

#define MAX_AFFIXES 32
#define MAX_NAME_WORDS 32

/* hash_names hashes len bytes of the names of a slot, as siphash does: of one
 * name, or of what is longer. */
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
	for (u32 i = 0; i < MAX_HASH_WORDS; i++) {
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

/* What walk returns when a path is not what a pattern can stand for. */
#define WALK_CUT -1	/* deeper or longer than is followed */
#define WALK_OUTSIDE -2 /* not below the root of the process */

/* walk writes the names of a path into the slot, last name first, each with its
 * NUL, from a place on; and returns how many bytes that took, or with what is
 * wrong above. All arguments are numbers, as in find_id. */
__attribute__((noinline)) int walk(u32 which, u64 mnt, u64 leaf, u32 at)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct mount *mount = mount_of((void *)mnt);
	struct mount *top = mount_of(BPF_CORE_READ(fs, root.mnt));
	u64 root = (u64)BPF_CORE_READ(fs, root.dentry);
	struct dentry *dentry = (void *)leaf, *up;
	struct slot *s = get_slot(which);

	if (!s)
		return WALK_CUT;
	s->count = 0;
	s->cursor = at;
	for (int i = 0; i < MAX_NAMES; i++) {
		u32 begin = s->cursor, n = s->count;
		long len;

		if ((u64)dentry == root && mount == top)
			return (begin - at) & NAMES_MASK;
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *below = BPF_CORE_READ(mount, mnt_parent);

			if (!below || below == mount)
				return WALK_OUTSIDE;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = below;
			continue;
		}
		if (begin - at >= MAX_PATH)
			break;
		len = bpf_probe_read_kernel_str(&s->names[begin & NAMES_MASK], MAX_NAME,
						BPF_CORE_READ(dentry, d_name.name));
		if (len <= 1)
			return WALK_OUTSIDE;
		s->begin[n & (MAX_NAMES - 1)] = begin;
		s->length[n & (MAX_NAMES - 1)] = len - 1;
		s->count = n + 1;
		s->cursor = begin + len;
		up = BPF_CORE_READ(dentry, d_parent);
		if (!up || up == dentry)
			return WALK_OUTSIDE;
		dentry = up;
	}
	return WALK_CUT;
}

/* fitting returns the set of a state's affixes that fit a name of the slot. */
__attribute__((noinline)) u64 fitting(u32 which, u32 group, u32 state, u32 affixes, u32 name)
{
	void *table = bpf_map_lookup_elem(&tables, &group);
	struct edge_key key = { .state = state, .kind = EDGE_AFFIX };
	struct slot *s = get_slot(which);
	u32 begin, length;
	u64 set = 0;

	if (!s || !table)
		return 0;
	begin = s->begin[name & (MAX_NAMES - 1)];
	length = s->length[name & (MAX_NAMES - 1)];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_AFFIXES; i++) {
		struct edge *affix;

		if (i >= affixes)
			break;
		key.hash = i;
		affix = bpf_map_lookup_elem(table, &key);
		if (!affix || length < (u32)affix->prefix_len + affix->suffix_len)
			continue;
		if (affix->prefix_len && affix->prefix != hash_names(which, begin, affix->prefix_len))
			continue;
		if (affix->suffix_len &&
		    affix->suffix != hash_names(which, begin + length - affix->suffix_len, affix->suffix_len))
			continue;
		set |= 1ULL << i;
	}
	return set;
}

/* is_listed_path tells whether the path that was walked last in a slot is one of
 * a list of the group. */
__attribute__((noinline)) int is_listed_path(u32 which, u32 group, u32 list)
{
	void *table = bpf_map_lookup_elem(&tables, &group);
	struct edge_key key = { .hash = 0, .state = list, .kind = EDGE_START };
	struct slot *s = get_slot(which);
	struct edge *e;
	u32 count;

	if (!s || !table)
		return 0;
	e = bpf_map_lookup_elem(table, &key);
	count = s->count;
	for (u32 i = 0; i < MAX_NAMES; i++) {
		u32 name = count - 1 - i, flags, affixes;

		if (!e)
			return 0;
		if (i >= count)
			return e->flags & EDGE_ACCEPT;
		flags = e->flags;
		affixes = e->affixes;
		key.state = e->state;
		e = NULL;
		if (flags & EDGE_NAMES) {
			key.kind = EDGE_NAME;
			key.hash = hash_names(which, s->begin[name & (MAX_NAMES - 1)],
					      s->length[name & (MAX_NAMES - 1)]);
			e = bpf_map_lookup_elem(table, &key);
		}
		if (!e && flags & EDGE_OTHERS) {
			key.kind = EDGE_MASK;
			key.hash = affixes ? fitting(which, group, key.state, affixes, name) : 0;
			e = bpf_map_lookup_elem(table, &key);
		}
		if (e && e->flags & EDGE_DEEP)
			return 1;
	}
	return e && count == MAX_NAMES && e->flags & EDGE_ACCEPT;
}

#endif
