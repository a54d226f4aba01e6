/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SipHash-1-3 of a part of the scratch (Aumasson, Bernstein: "SipHash: a fast
 * short-input PRF"). With a key that nobody else knows, a program cannot choose
 * arguments that are taken for others.
 */
#ifndef CASTELLAN_SIPHASH_BPF_H
#define CASTELLAN_SIPHASH_BPF_H

#include "path.bpf.h"

/* Set by the loader, at random. */
const volatile u64 hash_key[2];

#define MAX_HASH_WORDS 1024 /* 8 KiB */

#define ROTATE(x, b) (x) = (x) << (b) | (x) >> (64 - (b))
#define SIP_ROUND                                                                                 \
	do {                                                                                      \
		v0 += v1;                                                                         \
		v2 += v3;                                                                         \
		ROTATE(v1, 13);                                                                   \
		ROTATE(v3, 16);                                                                   \
		v1 ^= v0;                                                                         \
		v3 ^= v2;                                                                         \
		ROTATE(v0, 32);                                                                   \
		v2 += v1;                                                                         \
		v0 += v3;                                                                         \
		ROTATE(v1, 17);                                                                   \
		ROTATE(v3, 21);                                                                   \
		v1 ^= v2;                                                                         \
		v3 ^= v0;                                                                         \
		ROTATE(v2, 32);                                                                   \
	} while (0)

/* siphash hashes len bytes of the scratch from a place that is a multiple of
 * eight; bytes behind the 8192nd are left out. */
__attribute__((noinline)) u64 siphash(u32 from, u32 len)
{
	u64 k0 = hash_key[0], k1 = hash_key[1];
	u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
	u64 v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
	struct scratch *s = get_scratch();
	u64 word = 0;

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_HASH_WORDS; i++) {
		u32 left = len - 8 * i;

		if (8 * i >= len)
			break;
		word = *(u64 *)&s->b[(from + 8 * i) & (SCRATCH_HEAD - 8)];
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

#endif
