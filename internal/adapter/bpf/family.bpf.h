/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Families and types of sockets: include/linux/socket.h and net.h, never changed.
 */
#ifndef CASTELLAN_FAMILY_BPF_H
#define CASTELLAN_FAMILY_BPF_H

#include "kernel.bpf.h"
#include <bpf/bpf_helpers.h>

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17
#define AF_ALG 38
#define AF_VSOCK 40
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_PACKET 10

/* family_made returns of which family a socket will be: net/socket.c, __sock_create. */
static __always_inline u32 family_made(u32 family, u32 type)
{
	return family == AF_INET && (type & 0xf) == SOCK_PACKET ? AF_PACKET : family;
}

#endif
