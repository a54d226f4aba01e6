/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Scripts that are given to an interpreter as an argument, and programs that are
 * given to the dynamic loader: the kernel executes neither.
 *
 * Which argument is the script is found out when the interpreter is executed: the
 * first that is no option nor the value of one, as learn.Script does. A file of that
 * name, or that is opened by that name, is then judged when the interpreter opens it;
 * of a folder of that name, what Python and Node run in it.
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
	u8 runs; /* what runs of a folder of that name: RUNS_* */
	u8 reserved;
};

#define RUNS_PYTHON 1 /* __main__.py */
#define RUNS_NODE 2   /* index.js, or what package.json says; also a file without its ending */

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

/* Options of an interpreter, by their letters. The same is in internal/watch/learn/script.go;
 * test/vm/guest/scripts.txt holds both to the same. */
struct options {
	u64 inside;  /* behind which the program itself stands, or a module's name */
	u64 valued;  /* that take a value, in the same argument or the next */
	u64 stuck;   /* that take what follows in the same argument, if anything does */
	u64 file;    /* whose value is the script */
	bool plus;   /* options may begin with "+" */
	bool lonely; /* what stands alone is no script */
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
		o->inside = A('c') | A('s'); /* behind -s are arguments for standard input */
		o->valued = A('o') | U('O');
		o->plus = true;
		return;
	case WORD6('p', 'y', 't', 'h', 'o', 'n'):
		o->inside = A('c') | A('m');
		o->valued = U('W') | U('X') | U('Q');
		return;
	case WORD4('p', 'e', 'r', 'l'):
		o->inside = A('e') | U('E');
		o->valued = U('I');
		o->stuck = U('C') | U('D') | U('F') | U('M') | A('m') | U('V') | A('i') | A('x') | A('d');
		return;
	case WORD4('r', 'u', 'b', 'y'):
		o->inside = A('e');
		o->valued = U('I') | A('r') | U('C') | U('E') | U('X');
		o->stuck = U('F') | U('W') | U('T') | U('K') | A('i') | A('x');
		return;
	case WORD4('n', 'o', 'd', 'e'):
	case WORD6('n', 'o', 'd', 'e', 'j', 's'):
		o->inside = A('e') | A('p');
		o->valued = A('r') | U('C');
		return;
	case WORD3('p', 'h', 'p'):
		o->inside = A('r') | U('B') | U('R') | U('E');
		o->valued = A('d') | A('c') | A('z') | U('S') | A('t');
		o->file = A('f') | U('F');
		return;
	case WORD3('l', 'u', 'a'): /* a script may follow what -e says */
		o->valued = A('e') | A('l');
		return;
	case WORD6('l', 'u', 'a', 'j', 'i', 't'):
		o->inside = A('b');
		o->valued = A('e') | A('l') | A('j');
		o->stuck = U('O');
		return;
	case WORD5('t', 'c', 'l', 's', 'h'):
		return;
	case WORD3('a', 'w', 'k'):
	case WORD4('g', 'a', 'w', 'k'):
	case WORD4('m', 'a', 'w', 'k'):
		o->valued = U('F') | A('v') | A('e') | A('l');
		o->stuck = A('d') | A('o') | A('p') | U('D') | U('L') | U('W');
		o->file = A('f') | U('E') | A('i');
		o->lonely = true;
		return;
	case WORD4('j', 'a', 'v', 'a'):
		o->lonely = true; /* -jar */
		return;
	}
	o->known = false;
}

/* What an option means for the arguments behind it. */
#define OPTION_FLAG 0
#define OPTION_VALUED 1 /* the next is its value */
#define OPTION_INSIDE 2 /* there is no script */
#define OPTION_FILE 3	/* the next is the script */

#define IS(a, b, c, d) (last == (u32)WORD4(a, b, c, d))

/* long_of_node tells what a long option of Node's does, known by eight of its bytes
 * and its last four. */
static __always_inline u32 long_of_node(u64 word, u32 last)
{
	switch (word) {
	case WORD4('e', 'v', 'a', 'l'):
	case WORD5('p', 'r', 'i', 'n', 't'):
		return OPTION_INSIDE;
	case WORD('r', 'e', 'q', 'u', 'i', 'r', 'e', 0):
	case WORD6('i', 'm', 'p', 'o', 'r', 't'):
	case WORD6('l', 'o', 'a', 'd', 'e', 'r'):
	case WORD5('t', 'i', 't', 'l', 'e'):
		return OPTION_VALUED;
	case WORD('e', 'x', 'p', 'e', 'r', 'i', 'm', 'e'): /* -ntal-loader, -ntal-config-file */
		return IS('a', 'd', 'e', 'r') || IS('f', 'i', 'l', 'e');
	case WORD('e', 'n', 'v', '-', 'f', 'i', 'l', 'e'): /* -if-exists */
		return IS('f', 'i', 'l', 'e') || IS('i', 's', 't', 's');
	case WORD('c', 'o', 'n', 'd', 'i', 't', 'i', 'o'):
	case WORD('r', 'e', 'd', 'i', 'r', 'e', 'c', 't'): /* -warnings */
	case WORD('u', 'n', 'h', 'a', 'n', 'd', 'l', 'e'): /* d-rejections */
		return IS('i', 'o', 'n', 's') || IS('i', 'n', 'g', 's');
	case WORD('i', 'n', 'p', 'u', 't', '-', 't', 'y'):
		return IS('t', 'y', 'p', 'e');
	case WORD('d', 'i', 's', 'a', 'b', 'l', 'e', '-'): /* warning */
		return IS('n', 'i', 'n', 'g');
	case WORD('t', 'r', 'a', 'c', 'e', '-', 'e', 'v'): /* ent-categories */
		return IS('r', 'i', 'e', 's');
	case WORD('i', 'n', 's', 'p', 'e', 'c', 't', '-'): /* port */
		return IS('p', 'o', 'r', 't');
	case WORD('i', 'c', 'u', '-', 'd', 'a', 't', 'a'):
	case WORD('d', 'i', 'a', 'g', 'n', 'o', 's', 't'): /* ic-dir */
		return IS('-', 'd', 'i', 'r');
	case WORD('o', 'p', 'e', 'n', 's', 's', 'l', '-'): /* config */
		return IS('n', 'f', 'i', 'g');
	case WORD('t', 'l', 's', '-', 'c', 'i', 'p', 'h'): /* er-list */
		return IS('l', 'i', 's', 't');
	case WORD('d', 'n', 's', '-', 'r', 'e', 's', 'u'): /* lt-order */
		return IS('r', 'd', 'e', 'r');
	case WORD('w', 'a', 't', 'c', 'h', '-', 'p', 'a'):
		return IS('p', 'a', 't', 'h');
	case WORD('r', 'e', 'p', 'o', 'r', 't', '-', 'd'): /* -ir, -irectory */
		return IS('-', 'd', 'i', 'r') || IS('t', 'o', 'r', 'y');
	case WORD('r', 'e', 'p', 'o', 'r', 't', '-', 'f'): /* ilename */
		return IS('n', 'a', 'm', 'e');
	case WORD('s', 'e', 'c', 'u', 'r', 'e', '-', 'h'):
		return IS('h', 'e', 'a', 'p');
	case WORD('m', 'a', 'x', '-', 'h', 't', 't', 'p'): /* -header-size */
		return IS('s', 'i', 'z', 'e');
	case WORD('l', 'o', 'c', 'a', 'l', 's', 't', 'o'): /* rage-file */
		return IS('f', 'i', 'l', 'e');
	case WORD('t', 'e', 's', 't', '-', 'r', 'e', 'p'): /* orter */
		return IS('r', 't', 'e', 'r');
	}
	return OPTION_FLAG;
}

/* long_option tells what a long option does, known by eight of its bytes and its last
 * four. */
static __always_inline u32 long_option(u64 kind, u64 word, u32 last)
{
	switch (kind) {
	case WORD4('b', 'a', 's', 'h'):
		if (word == WORD6('r', 'c', 'f', 'i', 'l', 'e') || (word == WORD('i', 'n', 'i', 't', '-', 'f', 'i', 'l') && IS('f', 'i', 'l', 'e')))
			return OPTION_VALUED;
		return OPTION_FLAG;
	case WORD6('p', 'y', 't', 'h', 'o', 'n'):
		return word == WORD('c', 'h', 'e', 'c', 'k', '-', 'h', 'a') && IS('p', 'y', 'c', 's');
	case WORD4('n', 'o', 'd', 'e'):
	case WORD6('n', 'o', 'd', 'e', 'j', 's'):
		return long_of_node(word, last);
	case WORD4('r', 'u', 'b', 'y'):
		switch (word) {
		case WORD('e', 'n', 'c', 'o', 'd', 'i', 'n', 'g'):
		case WORD('e', 'x', 't', 'e', 'r', 'n', 'a', 'l'): /* -encoding */
		case WORD('i', 'n', 't', 'e', 'r', 'n', 'a', 'l'):
			return IS('d', 'i', 'n', 'g');
		case WORD6('e', 'n', 'a', 'b', 'l', 'e'):
		case WORD('d', 'i', 's', 'a', 'b', 'l', 'e', 0):
		case WORD4('d', 'u', 'm', 'p'):
			return OPTION_VALUED;
		}
		return OPTION_FLAG;
	case WORD3('p', 'h', 'p'):
		switch (word) {
		case WORD4('f', 'i', 'l', 'e'):
			return OPTION_FILE;
		case WORD3('r', 'u', 'n'):
			return OPTION_INSIDE;
		case WORD6('d', 'e', 'f', 'i', 'n', 'e'):
		case WORD('p', 'h', 'p', '-', 'i', 'n', 'i', 0):
			return OPTION_VALUED;
		case WORD('z', 'e', 'n', 'd', '-', 'e', 'x', 't'): /* ension */
			return IS('s', 'i', 'o', 'n');
		case WORD('p', 'r', 'o', 'c', 'e', 's', 's', '-'):
			if (IS('f', 'i', 'l', 'e'))
				return OPTION_FILE;
			return IS('e', 'g', 'i', 'n') || IS('c', 'o', 'd', 'e') || IS('-', 'e', 'n', 'd') ? OPTION_INSIDE : OPTION_FLAG;
		}
		return OPTION_FLAG;
	case WORD3('a', 'w', 'k'):
	case WORD4('g', 'a', 'w', 'k'):
	case WORD4('m', 'a', 'w', 'k'):
		switch (word) {
		case WORD4('f', 'i', 'l', 'e'):
		case WORD4('e', 'x', 'e', 'c'):
		case WORD('i', 'n', 'c', 'l', 'u', 'd', 'e', 0):
			return OPTION_FILE;
		case WORD6('a', 's', 's', 'i', 'g', 'n'):
		case WORD6('s', 'o', 'u', 'r', 'c', 'e'):
			return OPTION_VALUED;
		case WORD('f', 'i', 'e', 'l', 'd', '-', 's', 'e'): /* parator */
			return IS('a', 't', 'o', 'r');
		}
		return OPTION_FLAG;
	}
	return OPTION_FLAG;
}

/* java_valued tells an option of Java whose value is the next argument. */
static __always_inline bool java_valued(u64 word, u32 last, u32 len)
{
	switch (len) {
	case 2:
		return word == WORD2('-', 'p') || word == WORD2('-', 'd');
	case 3:
		return word == WORD3('-', 'c', 'p');
	case 8:
		return word == WORD('-', '-', 's', 'o', 'u', 'r', 'c', 'e');
	case 10:
		return word == WORD('-', 'c', 'l', 'a', 's', 's', 'p', 'a') && IS('p', 'a', 't', 'h');
	case 11:
		return (word == WORD('-', '-', 'a', 'd', 'd', '-', 'o', 'p') && IS('p', 'e', 'n', 's')) ||
		       (word == WORD('-', '-', 'a', 'd', 'd', '-', 'r', 'e') && IS('e', 'a', 'd', 's'));
	case 12:
		return word == WORD('-', '-', 'c', 'l', 'a', 's', 's', '-') && IS('p', 'a', 't', 'h');
	case 13:
		return (word == WORD('-', '-', 'm', 'o', 'd', 'u', 'l', 'e') && IS('p', 'a', 't', 'h')) ||
		       (word == WORD('-', '-', 'a', 'd', 'd', '-', 'm', 'o') && IS('u', 'l', 'e', 's')) ||
		       (word == WORD('-', '-', 'a', 'd', 'd', '-', 'e', 'x') && IS('o', 'r', 't', 's'));
	case 15:
		return word == WORD('-', '-', 'l', 'i', 'm', 'i', 't', '-') && IS('u', 'l', 'e', 's');
	case 17:
		return word == WORD('-', '-', 'd', 'e', 's', 'c', 'r', 'i') && IS('d', 'u', 'l', 'e');
	case 21:
		return word == WORD('-', '-', 'u', 'p', 'g', 'r', 'a', 'd') && IS('p', 'a', 't', 'h');
	case 22:
		return word == WORD('-', '-', 'e', 'n', 'a', 'b', 'l', 'e') && IS('c', 'e', 's', 's');
	}
	return false;
}

static __always_inline bool is_node(u64 kind)
{
	return kind == WORD4('n', 'o', 'd', 'e') || kind == WORD6('n', 'o', 'd', 'e', 'j', 's');
}

static __always_inline bool is_awk(u64 kind)
{
	return kind == WORD3('a', 'w', 'k') || kind == WORD4('g', 'a', 'w', 'k') || kind == WORD4('m', 'a', 'w', 'k');
}

/* last_four returns the last bytes of an argument as a number; 0 of a shorter one. */
static __always_inline u32 last_four(const u8 *names, u32 len)
{
	u32 last = 0;

	if (len >= 4)
		bpf_probe_read_kernel(&last, sizeof(last), names + ((len - 4) & (MAX_ARG - 1)));
	return last;
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
#define ARG_THIS hash[0] /* and of this one */
#define ARG_END mount	 /* behind the last one */
#define ARG_KIND mixed	 /* of the interpreter */
#define ARG_NUMBER state /* of the next one; the interpreter's own name is the first */
#define ARG_SKIP flags	 /* it is the value of an option */
#define ARG_TAKE affixes /* it is the script */
#define ARG_REST crossed /* it is more of the one before */

/* again reads what an argument has behind an option: a script. */
static __always_inline int again(struct slot *s, u32 from)
{
	long len = bpf_probe_read_user_str(s->names, MAX_ARG, (void *)s->ARG_THIS + from);

	if (len <= 1)
		return ARG_NONE;
	s->count = len - 1;
	return ARG_SCRIPT;
}

/* read_long looks at an argument that is a long option. */
__attribute__((noinline)) int read_long(u32 which, u32 len)
{
	struct slot *s = get_slot(which);
	u64 word = 0;
	u32 does;

	if (!s || len < 3 || len >= MAX_ARG)
		return ARG_ON;
	bpf_probe_read_kernel(&word, sizeof(word), s->names + 2);
	if ((s->ARG_KIND == WORD3('p', 'h', 'p') || is_awk(s->ARG_KIND)) && len > 7 &&
	    ((word & 0xffffffffffULL) == WORD5('f', 'i', 'l', 'e', '=') ||
	     ((word & 0xffffffffffULL) == WORD5('e', 'x', 'e', 'c', '=') && is_awk(s->ARG_KIND))))
		return again(s, 7);
	if (len < 10) /* behind its end lies what was read before */
		word &= (1ULL << (8 * ((len - 2) & 7))) - 1;
	does = long_option(s->ARG_KIND, word, last_four(s->names, len));
	s->ARG_SKIP = does == OPTION_VALUED;
	s->ARG_TAKE = does == OPTION_FILE;
	return does == OPTION_INSIDE ? ARG_NONE : ARG_ON;
}

#define MAX_LETTERS 32 /* of one argument; more than any interpreter has */

/* read_java looks at an argument of Java: its source, or what ends its options. What is
 * behind a class is for that. */
__attribute__((noinline)) int read_java(u32 which, u64 word, u32 len)
{
	struct slot *s = get_slot(which);
	u32 last;
	u8 *b;

	if (!s || !len || len >= MAX_ARG)
		return ARG_ON;
	b = s->names;
	last = last_four(b, len);
	if (b[0] == '@') /* further arguments are in a file */
		return ARG_ON;
	if (b[0] != '-')
		return len > 5 && IS('j', 'a', 'v', 'a') && b[(len - 5) & (MAX_ARG - 1)] == '.' ? ARG_SCRIPT : ARG_NONE;
	if (word == WORD2('-', 'm') || (word == WORD('-', '-', 'm', 'o', 'd', 'u', 'l', 'e') && (len == 8 || b[8] == '=')))
		return ARG_NONE;
	s->ARG_TAKE = word == WORD4('-', 'j', 'a', 'r');
	s->ARG_SKIP = java_valued(word, last, len);
	return ARG_ON;
}

/* read_letters looks at an argument that is options of one letter: -euo. */
__attribute__((noinline)) int read_letters(u32 which, u32 len)
{
	struct slot *s = get_slot(which);
	struct options o;
	bool minus;

	if (!s)
		return ARG_ON;
	options_of(s->ARG_KIND, &o);
	minus = s->names[0] == '-';
#pragma clang loop unroll(disable)
	for (u32 i = 1; i < MAX_LETTERS; i++) {
		u64 bit = letter(s->names[i & NAMES_MASK]);

		if (i >= len)
			break;
		if ((bit & o.inside) && minus)
			return ARG_NONE;
		if (bit & o.file) {
			if (i + 1 < len)
				return again(s, i + 1);
			s->ARG_TAKE = 1;
			break;
		}
		if (bit & o.valued) {
			s->ARG_SKIP = i + 1 == len;
			break;
		}
		if (bit & o.stuck)
			break;
	}
	return ARG_ON;
}

/* read_arg looks at the next argument. */
__attribute__((noinline)) int read_arg(u32 which)
{
	struct slot *s = get_slot(which);
	u64 word = 0;
	struct options o;
	bool cut;
	long len;
	u8 *b;

	if (!s || s->ARG_AT >= s->ARG_END)
		return ARG_NONE;
	b = s->names;
	len = bpf_probe_read_user_str(b, MAX_ARG, (void *)s->ARG_AT);
	if (len <= 0)
		return ARG_NONE;
	s->ARG_THIS = s->ARG_AT;
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
	bpf_probe_read_kernel(&word, sizeof(word), b);
	if (len < 8) /* behind its end lies what was read before */
		word &= (1ULL << (8 * (len & 7))) - 1;
	if (o.lonely && !o.file)
		return read_java(which, word, len);
	if (b[0] != '-' && (b[0] != '+' || !o.plus)) {
		if (is_node(s->ARG_KIND) && (word == WORD('i', 'n', 's', 'p', 'e', 'c', 't', 0) || word == WORD5('d', 'e', 'b', 'u', 'g')))
			return ARG_ON; /* the script follows */
		return o.lonely ? ARG_ON : ARG_SCRIPT;
	}
	if (word == '-')
		return ARG_NONE; /* standard input */
	if (b[0] == '-' && b[1] == '-') {
		if (len == 2) {
			s->ARG_TAKE = !o.lonely;
			return ARG_ON;
		}
		return read_long(which, len);
	}
	if (s->ARG_KIND == WORD5('t', 'c', 'l', 's', 'h')) {
		s->ARG_SKIP = word == WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') && len == 9;
		return ARG_ON;
	}
	return read_letters(which, len);
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

#define MAX_SLASHES 4 /* at the end of a path; nobody writes as many */

/* name_folder makes the script in the names of a slot one that is the name of a folder,
 * too: without slashes at its end, and of the working folder its own name. */
__attribute__((noinline)) int name_folder(u32 which)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct slot *s = get_slot(which);
	long len;

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_SLASHES; i++) {
		if (s->count < 2 || s->names[(s->count - 1) & NAMES_MASK] != '/')
			break;
		s->count--;
	}
	if (s->count != 1 || s->names[0] != '.')
		return 0;
	len = bpf_probe_read_kernel_str(s->names, MAX_NAME, BPF_CORE_READ(task, fs, pwd.dentry, d_name.name));
	if (len > 1)
		s->count = len - 1;
	return 0;
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
	script.runs = s->ARG_KIND == WORD6('p', 'y', 't', 'h', 'o', 'n') ? RUNS_PYTHON : is_node(s->ARG_KIND) ? RUNS_NODE : 0;
	if (script.runs)
		name_folder(which);
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
	number = (u32)BPF_CORE_READ(regs, orig_ax);
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

/* runs_in tells whether an interpreter that is given a folder, or a name without its
 * ending, runs a file: what is name is the name of that. */
__attribute__((noinline)) int runs_in(u32 which, u64 leaf, u64 name, u32 length, u32 runs)
{
	struct dentry *dentry = (void *)leaf, *up = BPF_CORE_READ(dentry, d_parent);
	struct slot *s = get_slot(which);
	u64 word = 0;
	u32 last, len;

	if (!s)
		return 0;
	len = bpf_probe_read_kernel_str(s->names, MAX_NAME, BPF_CORE_READ(dentry, d_name.name)) - 1;
	if (len < 4 || len >= MAX_NAME)
		return 0;
	bpf_probe_read_kernel(&word, sizeof(word), s->names);
	if (runs == RUNS_PYTHON) /* or as it was compiled, there or in __pycache__ */
		return word == WORD('_', '_', 'm', 'a', 'i', 'n', '_', '_') &&
		       (has_name(which, (u64)up, name) || has_name(which, (u64)BPF_CORE_READ(up, d_parent), name));
	last = last_four(s->names, len);
	if ((len == length + 3 && last >> 8 == WORD3('.', 'j', 's')) ||
	    (len == length + 5 && s->names[length & NAMES_MASK] == '.' && (IS('j', 's', 'o', 'n') || IS('n', 'o', 'd', 'e'))))
		return hash_names(which, 0, length) == name;
	if ((word == WORD('p', 'a', 'c', 'k', 'a', 'g', 'e', '.') && len == 12 && IS('j', 's', 'o', 'n')) ||
	    (word == WORD('i', 'n', 'd', 'e', 'x', '.', 'j', 's') && (len == 8 || len == 10)) ||
	    (word == WORD('i', 'n', 'd', 'e', 'x', '.', 'n', 'o') && len == 10))
		return has_name(which, (u64)up, name);
	return 0;
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
