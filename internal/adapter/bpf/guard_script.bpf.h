/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Scripts that are given to an interpreter as an argument, and programs that are
 * given to the dynamic loader: the kernel executes neither.
 *
 * Which argument is the script is found out when the interpreter is executed: the
 * first that is no option nor the value of one, as learn.Script does. A file of that
 * name, or that is opened by that name, is then judged when the interpreter opens it.
 * What else an interpreter reads is its data, and is not looked at: neither are
 * modules that a script loads, nor what comes by standard input or stands in an
 * argument itself.
 */
#ifndef CASTELLAN_GUARD_SCRIPT_BPF_H
#define CASTELLAN_GUARD_SCRIPT_BPF_H

#include "guard.bpf.h"

#define MAX_ARGS 512 /* of an interpreter, before its script; with more any file counts as that */
#define MAX_ARG 4096 /* PATH_MAX: what is longer is nothing that can be opened */
#define S_IFMT 0170000
#define S_IFREG 0100000
#define FMODE_READ 1
#define FMODE_EXEC 0x20 /* of f_flags: opened to be executed, which is judged there */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr___guard {
	u32 len;
};

struct dentry___guard {
	struct qstr___guard d_name;
};

#pragma clang attribute pop

/* What an interpreter was given: of a process, until it ends. */
struct script {
	u64 start; /* of the process: its number is used again */
	u64 name;  /* hash of the last name of the path */
	u64 head;  /* its first bytes, and its length: to tell most files from it at once */
	u32 length;
	u8 any;  /* which file it is is not known */
	u8 seen; /* it was opened, and may be */
	u16 reserved;
};

/* By the number of the process, which is had without reading its task: every open of
 * the host asks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, struct script);
} scripts SEC(".maps");

/* -- Interpreters ----------------------------------------------------------- */

#define WORD(a, b, c, d, e, f, g, h) (SIX(a, b, c, d, e, f) | (u64)(g) << 48 | (u64)(h) << 56)
#define WORD2(a, b) WORD(a, b, 0, 0, 0, 0, 0, 0)
#define WORD3(a, b, c) WORD(a, b, c, 0, 0, 0, 0, 0)
#define WORD4(a, b, c, d) WORD(a, b, c, d, 0, 0, 0, 0)
#define WORD5(a, b, c, d, e) WORD(a, b, c, d, e, 0, 0, 0)
#define WORD6(a, b, c, d, e, f) WORD(a, b, c, d, e, f, 0, 0)

#define BUSYBOX WORD('b', 'u', 's', 'y', 'b', 'o', 'x', 0)

/* letter is the bit of an option that is one letter. */
static __always_inline u64 letter(u8 c)
{
	if (c >= 'a' && c <= 'z')
		return 1ULL << ((c - 'a') & 31);
	if (c >= 'A' && c <= 'Z')
		return 1ULL << (26 + ((c - 'A') & 31));
	return 0;
}

#define A(c) (1ULL << ((c) - 'a'))
#define U(c) (1ULL << (26 + (c) - 'A'))

/* Options of an interpreter. */
struct options {
	u64 inside;  /* behind which the program itself stands, or a module's name */
	u64 valued;  /* that take a value */
	u64 file;    /* whose value is the script */
	bool lonely; /* there is a script behind such an option alone */
	bool known;
};

static __always_inline void options_of(u64 kind, struct options *o)
{
	__builtin_memset(o, 0, sizeof(*o));
	o->known = true;
	switch (kind) {
	case WORD2('s', 'h'):
	case WORD4('b', 'a', 's', 'h'):
	case WORD4('d', 'a', 's', 'h'):
	case WORD3('a', 's', 'h'):
	case WORD3('k', 's', 'h'):
	case WORD3('z', 's', 'h'):
		o->inside = A('c');
		o->valued = A('o') | U('O');
		return;
	case WORD6('p', 'y', 't', 'h', 'o', 'n'):
		o->inside = A('c') | A('m');
		o->valued = U('W') | U('X') | U('Q');
		return;
	case WORD4('p', 'e', 'r', 'l'):
		o->inside = A('e') | U('E');
		o->valued = U('I');
		return;
	case WORD4('r', 'u', 'b', 'y'):
		o->inside = A('e');
		o->valued = U('I') | A('r') | U('C') | U('E');
		return;
	case WORD4('n', 'o', 'd', 'e'):
	case WORD6('n', 'o', 'd', 'e', 'j', 's'):
		o->inside = A('e') | A('p');
		o->valued = A('r') | U('C');
		return;
	case WORD3('p', 'h', 'p'):
		o->inside = A('r') | U('B') | U('R');
		o->valued = A('d') | A('c') | U('E') | A('z');
		o->file = A('f');
		return;
	case WORD3('l', 'u', 'a'):
		o->inside = A('e');
		o->valued = A('l');
		return;
	case WORD6('l', 'u', 'a', 'j', 'i', 't'):
		o->inside = A('e') | A('b');
		o->valued = A('l') | A('j');
		return;
	case WORD5('t', 'c', 'l', 's', 'h'):
		return;
	case WORD3('a', 'w', 'k'):
	case WORD4('g', 'a', 'w', 'k'):
	case WORD4('m', 'a', 'w', 'k'):
		o->file = A('f');
		o->lonely = true;
		return;
	case WORD4('j', 'a', 'v', 'a'):
		o->lonely = true; /* -jar */
		return;
	}
	o->known = false;
}

/* What a long option does, known by eight of its bytes. */
static __always_inline u64 long_option(u64 kind, u64 word, bool *inside)
{
	*inside = false;
	switch (word) {
	case WORD6('r', 'c', 'f', 'i', 'l', 'e'):
	case WORD('i', 'n', 'i', 't', '-', 'f', 'i', 'l'):
		return kind == WORD4('b', 'a', 's', 'h');
	case WORD('c', 'h', 'e', 'c', 'k', '-', 'h', 'a'):
		return kind == WORD6('p', 'y', 't', 'h', 'o', 'n');
	case WORD4('e', 'v', 'a', 'l'):
	case WORD5('p', 'r', 'i', 'n', 't'):
		*inside = kind == WORD4('n', 'o', 'd', 'e') || kind == WORD6('n', 'o', 'd', 'e', 'j', 's');
		return 0;
	case WORD('r', 'e', 'q', 'u', 'i', 'r', 'e', 0):
	case WORD6('i', 'm', 'p', 'o', 'r', 't'):
	case WORD6('l', 'o', 'a', 'd', 'e', 'r'):
	case WORD('e', 'x', 'p', 'e', 'r', 'i', 'm', 'e'):
	case WORD('e', 'n', 'v', '-', 'f', 'i', 'l', 'e'):
	case WORD('c', 'o', 'n', 'd', 'i', 't', 'i', 'o'):
		return kind == WORD4('n', 'o', 'd', 'e') || kind == WORD6('n', 'o', 'd', 'e', 'j', 's');
	}
	return 0;
}

/* kind_of returns a program's name without its version as a number, of the names of a
 * slot: python3.11 is python; 0 for what is longer than any interpreter's. */
__attribute__((noinline)) u64 kind_of(u32 which, u32 from, u32 len)
{
	struct slot *s = get_slot(which);
	u64 word = 0;

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 16; i++) {
		u8 c = s->names[(from + i) & NAMES_MASK];

		if (i >= len)
			break;
		/* The version begins, if there is nothing else behind it. */
		if ((c >= '0' && c <= '9') || c == '.' || c == '-')
			continue;
		if (i > 7)
			return 0;
		word |= (u64)c << (8 * i);
	}
	return word;
}

/* last_name returns where the last name of a path begins that is in the names of a
 * slot; it ends at len. */
__attribute__((noinline)) u32 last_name(u32 which, u32 len)
{
	struct slot *s = get_slot(which);

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NAME; i++) {
		if (i >= len)
			break;
		if (s->names[(len - 1 - i) & NAMES_MASK] == '/')
			return len - i;
	}
	return len < MAX_NAME ? 0 : len;
}

/* -- At exec ---------------------------------------------------------------- */

/* What read_arg returns. */
#define ARG_ON 0
#define ARG_SCRIPT 1 /* it is in the names of the slot, s->count bytes long */
#define ARG_NONE 2   /* there is no script */

/* Where the arguments are read, in fields of a slot that nobody uses meanwhile. */
#define ARG_AT dentry	 /* address of the next one */
#define ARG_END mount	 /* behind the last one */
#define ARG_KIND mixed	 /* of the interpreter */
#define ARG_NUMBER state /* of the next one; the interpreter's own name is the first */
#define ARG_SKIP flags	 /* it is the value of an option */
#define ARG_TAKE affixes /* it is the script */
#define ARG_REST crossed /* it is more of the one before */

/* read_arg looks at the next argument. */
__attribute__((noinline)) int read_arg(u32 which)
{
	struct slot *s = get_slot(which);
	u64 word = 0, bit;
	struct options o;
	bool inside, cut;
	long len;
	u8 *b;

	if (!s || s->ARG_AT >= s->ARG_END)
		return ARG_NONE;
	b = s->names;
	len = bpf_probe_read_user_str(b, MAX_ARG, (void *)s->ARG_AT);
	if (len <= 0)
		return ARG_NONE;
	cut = len == MAX_ARG && s->ARG_AT + MAX_ARG < s->ARG_END;
	s->ARG_AT += cut ? len - 1 : len;
	len--;
	if (s->ARG_REST) {
		s->ARG_REST = cut;
		return ARG_ON;
	}
	s->ARG_REST = cut;
	s->count = len;
	if (!s->ARG_NUMBER++) {
		u32 from = last_name(which, len);

		if (s->ARG_KIND != BUSYBOX)
			return ARG_ON;
		s->ARG_KIND = kind_of(which, from, len - from);
		if (s->ARG_KIND == BUSYBOX)
			s->ARG_NUMBER = 0; /* the name of the applet follows */
		return ARG_ON;
	}
	if (s->ARG_TAKE)
		return ARG_SCRIPT;
	if (s->ARG_SKIP) {
		s->ARG_SKIP = 0;
		return ARG_ON;
	}
	options_of(s->ARG_KIND, &o);
	if (!o.known)
		return ARG_NONE;
	if (b[0] != '-' && b[0] != '+')
		return o.lonely ? ARG_ON : ARG_SCRIPT;
	bpf_probe_read_kernel(&word, sizeof(word), b + 2);
	if (o.lonely && !o.file) { /* Java */
		s->ARG_TAKE = b[1] == 'j' && (word & 0xffffff) == WORD2('a', 'r');
		return ARG_ON;
	}
	if (!b[1])
		return ARG_NONE; /* standard input */
	if (b[1] == '-') {
		if (!b[2]) {
			s->ARG_TAKE = 1;
			return ARG_ON;
		}
		if (len < 10) /* behind its end lies what was read before */
			word &= (1ULL << (8 * ((len - 2) & 7))) - 1;
		s->ARG_SKIP = long_option(s->ARG_KIND, word, &inside);
		return inside ? ARG_NONE : ARG_ON;
	}
	bit = letter(b[1]);
	if (!b[2]) {
		s->ARG_TAKE = !!(bit & o.file);
		s->ARG_SKIP = !!(bit & o.valued);
		return bit & o.inside ? ARG_NONE : ARG_ON;
	}
	if (s->ARG_KIND == WORD5('t', 'c', 'l', 's', 'h')) {
		s->ARG_SKIP = b[1] == 'e'; /* -encoding */
		return ARG_ON;
	}
	/* -ec and the like: letters in one, the last of which begins a program. */
	if (b[1] >= 'a' && b[1] <= 'z' && letter(b[(len - 1) & (MAX_ARG - 1)]) & o.inside)
		return ARG_NONE;
	return ARG_ON;
}

/* find_script leaves the script that the current process was given in the names of
 * a slot, and returns as read_arg does; ARG_ON when it gave up. */
__attribute__((noinline)) int find_script(u32 which)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct slot *s = get_slot(which);
	struct file *file;
	struct path path;
	u32 len;

	if (!s)
		return ARG_NONE;
	file = BPF_CORE_READ(task, mm, exe_file);
	path_of(file, &path);
	len = bpf_probe_read_kernel_str(s->names, MAX_NAME, BPF_CORE_READ(path.dentry, d_name.name)) - 1;
	s->ARG_KIND = kind_of(which, 0, len);
	if (!s->ARG_KIND)
		return ARG_NONE;
	s->ARG_AT = BPF_CORE_READ(task, mm, arg_start);
	s->ARG_END = BPF_CORE_READ(task, mm, arg_end);
	s->ARG_NUMBER = 0;
	s->ARG_SKIP = 0;
	s->ARG_TAKE = 0;
	s->ARG_REST = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_ARGS; i++) {
		int found = read_arg(which);

		if (found != ARG_ON)
			return found;
	}
	return ARG_ON;
}

/* note_argument remembers the script that the current process was given, in a case.
 * It returns false if it can't. */
__attribute__((noinline)) int note_argument(u32 which)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, from;
	struct slot *s = get_slot(which);
	struct script script = {};
	int found;

	if (!s)
		return 0;
	found = find_script(which);
	if (found == ARG_NONE) {
		bpf_map_delete_elem(&scripts, &tgid);
		return 1;
	}
	script.any = found == ARG_ON;
	script.start = BPF_CORE_READ(current_leader(), start_boottime);
	from = last_name(which, s->count);
	script.length = s->count - from;
	script.name = hash_names(which, from, script.length);
	bpf_probe_read_kernel_str(&script.head, sizeof(script.head), &s->names[from & NAMES_MASK]);
	return !bpf_map_update_elem(&scripts, &tgid, &script, BPF_ANY);
}

/* -- At open ---------------------------------------------------------------- */

/* asked_for tells whether the call that opens a file names it as the script was
 * named: a link has another name than the file. */
__attribute__((noinline)) int asked_for(u32 which, u64 name)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	struct slot *s = get_slot(which);
	u64 number, path;
	u32 from;
	long len;

	if (!s)
		return 0;
#if defined(__TARGET_ARCH_x86)
	number = BPF_CORE_READ(regs, orig_ax);
	path = number == 2 ? BPF_CORE_READ(regs, di) : BPF_CORE_READ(regs, si);
	if (number != 2 && number != 257 && number != 437)
		return 0;
#else
	number = (u32)BPF_CORE_READ(regs, syscallno);
	path = BPF_CORE_READ(regs, regs[1]);
	if (number != 56 && number != 437)
		return 0;
#endif
	len = bpf_probe_read_user_str(s->names, MAX_ARG, (void *)path);
	if (len <= 1)
		return 0;
	from = last_name(which, len - 1);
	return hash_names(which, from, len - 1 - from) == name;
}

/* has_name tells whether that is the name of a file. */
__attribute__((noinline)) int has_name(u32 which, u64 leaf, u64 name)
{
	struct dentry *dentry = (void *)leaf;
	struct slot *s = get_slot(which);
	long len;

	if (!s)
		return 0;
	len = bpf_probe_read_kernel_str(s->names, MAX_NAME, BPF_CORE_READ(dentry, d_name.name));
	return len > 1 && hash_names(which, 0, len - 1) == name;
}

/* -- The dynamic loader ----------------------------------------------------- */

/* is_loader tells whether a program is the dynamic loader, which was executed by
 * itself to run a file. */
static __always_inline bool is_loader(struct task_struct *task)
{
	u64 name = first_six(BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	u64 five = name & 0xffffffffffULL;

	return (name & 0xffffff) == SIX('l', 'd', '-', 0, 0, 0) || five == SIX('l', 'd', '.', 's', 'o', 0) ||
	       five == SIX('l', 'd', '6', '4', '.', 0);
}

/* is_library tells whether a file has the name of one: the rest of what the loader
 * maps is the program that it runs. Files of the image have the names that the image
 * gave them. */
__attribute__((noinline)) int is_library(u32 which, u64 file)
{
	struct slot *s = get_slot(which);
	struct path path;
	long len;

	if (!s)
		return 0;
	path_of((void *)file, &path);
	len = bpf_probe_read_kernel_str(s->names, MAX_NAME, BPF_CORE_READ(path.dentry, d_name.name));
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_NAME; i++) {
		u8 *b = &s->names[i];

		if ((long)i >= len)
			break;
		if (b[0] == '.' && b[1] == 's' && b[2] == 'o')
			return 1;
	}
	return 0;
}

#endif
