/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The variables of an exec's environment that change what a program does, such
 * as LD_PRELOAD. Environments hold secrets: no other variable leaves the kernel.
 *
 * Names are looked for eight bytes at a time. A name begins behind a zero, and of
 * several zeros within eight bytes only the last can be before a name that is
 * looked for: those in between are shorter.
 */
#ifndef CASTELLAN_ENVIRON_BPF_H
#define CASTELLAN_ENVIRON_BPF_H

#include "kernel.bpf.h"
#include "container.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define ENVIRON_PIECE 4096  /* bytes that are looked at at a time; most environments are shorter */
#define ENVIRON_PIECES 8    /* what is behind them is not looked at: ARG_MAX would be 2 MiB */
#define ENVIRON_FOUND 8	    /* variables that are kept; most programs have none */
#define ENVIRON_VALUE 256   /* bytes of one, with its name and the NUL */
#define ENVIRON_KEPT 2048   /* of all; a power of two */

struct environ {
	u8 piece[ENVIRON_PIECE + 8]; /* eight more, for names that begin at its end */
	u8 kept[ENVIRON_KEPT + ENVIRON_VALUE];
	u64 base; /* where the piece is in the process's memory */
	u64 found[ENVIRON_FOUND];
	u32 count;  /* of found; may be more than there is room for */
	u32 length; /* of kept */
};

/* Used by the program of execs alone. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct environ);
} environs SEC(".maps");

/* The first eight bytes of variables that are looked for, with the "=" where it is
 * among them: filled by Go before the programs are loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, u8);
} variables SEC(".maps");

/* One bit for each of them, by which most names are ruled out without a look-up:
 * set by the loader, too. */
#define VARIABLE_BITS 10
#define VARIABLE_FACTOR 0x9e3779b97f4a7c15ull
const volatile u64 variable_marks[(1 << VARIABLE_BITS) / 64];

/* "ENV=" is shorter than eight bytes. */
#define SHORT_ENV ((u32)'E' | (u32)'N' << 8 | (u32)'V' << 16 | (u32)'=' << 24)

/* mm_struct with more of its fields: the part of the name behind ___ is ignored. */
struct mm_struct___environ {
	unsigned long env_start;
	unsigned long env_end;
} __attribute__((preserve_access_index));

static __always_inline struct environ *get_environ(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&environs, &zero);
}

/* look_at notes the name that begins in a piece, if it is looked for. */
static __always_inline void look_at(struct environ *e, u32 at)
{
	u64 word = *(u64 *)&e->piece[at];
	u32 bit = (word * VARIABLE_FACTOR) >> (64 - VARIABLE_BITS);
	u32 n;

	if ((u32)word != SHORT_ENV) {
		if (!(variable_marks[bit / 64] >> (bit % 64) & 1))
			return;
		if (!bpf_map_lookup_elem(&variables, &word))
			return;
	}
	n = e->count;
	e->count = n + 1;
	if (n < ENVIRON_FOUND)
		e->found[n] = e->base + at;
}

#define ONES 0x0101010101010101ull

/* look_through notes the names in a piece of len bytes, which was read. */
__attribute__((noinline)) int look_through(u32 len)
{
	struct environ *e = get_environ();

	if (!e)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ENVIRON_PIECE; i += 8) {
		u64 word = *(u64 *)&e->piece[i], zeros;
		u32 at;

		if (i >= len)
			break;
		/* Whether there is a zero: most have none. */
		if (!((word - ONES) & ~word & 0x80 * ONES))
			continue;
		/* The upper bit of each byte that is zero, and of no other. */
		zeros = ~(((word & 0x7f * ONES) + 0x7f * ONES) | word | 0x7f * ONES);
		/* All bytes up to the last of them, counted. */
		zeros |= zeros >> 8;
		zeros |= zeros >> 16;
		zeros |= zeros >> 32;
		at = i + (u32)((((zeros >> 7) & ONES) * ONES) >> 56);
		if (at >= len || at > ENVIRON_PIECE)
			continue;
		look_at(e, at);
	}
	return 0;
}

/* keep_variables copies what was found to kept, and returns whether each is whole. */
__attribute__((noinline)) int keep_variables(void)
{
	struct environ *e = get_environ();
	bool whole = true;

	if (!e)
		return false;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ENVIRON_FOUND; i++) {
		u32 at = e->length & (ENVIRON_KEPT - 1);
		long n;

		if (i >= e->count)
			break;
		n = bpf_probe_read_user_str(&e->kept[at], ENVIRON_VALUE, (void *)e->found[i]);
		if (n <= 0 || n == ENVIRON_VALUE)
			whole = false;
		if (n > 0)
			e->length += n;
	}
	return whole && e->count <= ENVIRON_FOUND;
}

/* read_environ finds the variables of a program that was just put in place, and
 * returns false when there may be more. The pages are present, as those of the
 * arguments are. All arguments are numbers, as in find_id. */
__attribute__((noinline)) int read_environ(u64 begin, u64 len)
{
	struct environ *e = get_environ();
	bool whole = true;

	if (!e)
		return false;
	e->count = 0;
	e->length = 0;
	if (len > ENVIRON_PIECES * ENVIRON_PIECE)
		whole = false;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < ENVIRON_PIECES; i++) {
		u64 at = i * ENVIRON_PIECE, left;

		if (at >= len)
			break;
		left = len - at;
		if (left > ENVIRON_PIECE + 8)
			left = ENVIRON_PIECE + 8;
		if (bpf_probe_read_user(e->piece, left, (void *)(begin + at))) {
			whole = false;
			break;
		}
		e->base = begin + at;
		if (!i)
			look_at(e, 0);
		look_through(left);
	}
	if (e->count && !keep_variables())
		whole = false;
	return whole;
}

#endif
