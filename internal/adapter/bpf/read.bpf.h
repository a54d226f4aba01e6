/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reading the kernel's memory without a helper, for what is done at nearly every
 * system call: a helper takes some sixty instructions, a load takes one to ten.
 *
 * Since 6.2 a program may load from an address of which it says the type
 * (bpf_rdonly_cast of kernel/bpf/helpers.c). What cannot be read is 0 then, as it
 * is where a helper fails.
 */
#ifndef CASTELLAN_READ_BPF_H
#define CASTELLAN_READ_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

extern void *bpf_rdonly_cast(void *address, u32 type) __ksym __weak;

/* HAS_CAST says that AS may be used. */
#define HAS_CAST (!!bpf_rdonly_cast)

/* AS makes an address one that fields of a type can be loaded from. */
#define AS(type, address)                                                                         \
	((type *)bpf_rdonly_cast((void *)(address), bpf_core_type_id_kernel(type)))

/* word_at reads eight bytes. Any type will do that begins with a number of that
 * size. */
static __always_inline u64 word_at(const void *address)
{
	u64 word = 0;

	if (HAS_CAST)
		return AS(struct timespec64, address)->tv_sec;
	bpf_probe_read_kernel(&word, sizeof(word), address);
	return word;
}

#endif
