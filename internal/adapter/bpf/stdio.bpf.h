/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a program is given as its standard input, output and error: a shell that
 * reads a connection is told by that alone, whoever made the connection, and when.
 */
#ifndef CASTELLAN_STDIO_BPF_H
#define CASTELLAN_STDIO_BPF_H

#include "kernel.bpf.h"
#include "socket.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define STREAMS 3

#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFREG 0100000

enum stream_kind {
	STREAM_NONE = 1, /* the descriptor is closed */
	STREAM_FILE,
	STREAM_FOLDER,
	STREAM_PIPE, /* named or not */
	STREAM_TERMINAL,
	STREAM_NULL,
	STREAM_DEVICE,
	STREAM_TCP,
	STREAM_UDP,
	STREAM_UNIX,
	STREAM_SOCKET, /* of another kind */
	STREAM_OTHER,
};

/* One of the three. */
struct stream {
	u64 inode; /* of a pipe or socket: what two processes have in common */
	u8 kind;
	u8 reserved[5];
	u16 port;      /* of the peer; 0: none */
	u8 remote[16]; /* its address */
};

/* include/uapi/linux/major.h; numbers of devices as in include/linux/kdev_t.h */
#define MAJOR(device) ((device) >> 20)
#define NULL_DEVICE (1 << 20 | 3)
#define TTY_MAJOR 4
#define TTYAUX_MAJOR 5
#define UNIX98_PTY_MASTER_MAJOR 128
#define UNIX98_PTY_LAST_MAJOR 143

static __always_inline u8 device_kind(u32 device)
{
	u32 major = MAJOR(device);

	if (device == NULL_DEVICE)
		return STREAM_NULL;
	if (major == TTY_MAJOR || major == TTYAUX_MAJOR ||
	    (major >= UNIX98_PTY_MASTER_MAJOR && major <= UNIX98_PTY_LAST_MAJOR))
		return STREAM_TERMINAL;
	return STREAM_DEVICE;
}

/* see_socket writes what a socket is and whom it is connected with. */
static __always_inline void see_socket(struct stream *s, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	struct place place;

	s->kind = STREAM_SOCKET;
	if (family == AF_UNIX)
		s->kind = STREAM_UNIX;
	if (family != AF_INET && family != AF_INET6)
		return;
	if (protocol == IPPROTO_TCP || protocol == (u16)IPPROTO_MPTCP)
		s->kind = STREAM_TCP;
	if (protocol == IPPROTO_UDP)
		s->kind = STREAM_UDP;
	set_place(&place, sk);
	if (!place.remote_port)
		return;
	__builtin_memcpy(s->remote, place.remote, sizeof(s->remote));
	s->port = place.remote_port;
}

/* see_stream writes what an open file is. */
static __always_inline void see_stream(struct stream *s, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u16 mode = BPF_CORE_READ(inode, i_mode);
	struct sock *sk;

	switch (mode & S_IFMT) {
	case S_IFREG:
		s->kind = STREAM_FILE;
		return;
	case S_IFDIR:
		s->kind = STREAM_FOLDER;
		return;
	case S_IFCHR:
		s->kind = device_kind(BPF_CORE_READ(inode, i_rdev));
		return;
	case S_IFIFO:
		s->kind = STREAM_PIPE;
		s->inode = BPF_CORE_READ(inode, i_ino);
		return;
	case S_IFSOCK:
		s->inode = BPF_CORE_READ(inode, i_ino);
		sk = socket_of(file);
		if (sk) {
			see_socket(s, sk);
			return;
		}
	}
	s->kind = STREAM_OTHER;
}

/* see_streams writes what the program that was just put in place has as its first
 * three descriptors: those that an exec closes are closed by then. */
static __always_inline void see_streams(struct stream *streams, struct task_struct *task)
{
	struct fdtable *table = task->files->fdt;
	struct file *files[STREAMS] = {};

	__builtin_memset(streams, 0, STREAMS * sizeof(*streams));
	/* A table has room for 64 at least: BITS_PER_LONG. */
	bpf_probe_read_kernel(files, sizeof(files), table->fd);
#pragma clang loop unroll(full)
	for (int i = 0; i < STREAMS; i++) {
		if (!files[i])
			streams[i].kind = STREAM_NONE;
		else if (i && files[i] == files[i - 1])
			streams[i] = streams[i - 1];
		else
			see_stream(&streams[i], files[i]);
	}
}

#endif
