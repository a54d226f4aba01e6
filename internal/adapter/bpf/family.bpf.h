/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Families and types of sockets: include/linux/socket.h and net.h, never changed.
 */
#ifndef CASTELLAN_FAMILY_BPF_H
#define CASTELLAN_FAMILY_BPF_H

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

#endif
