//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Holds containers to whom they may speak with: programs at the root of the
 * cgroups that are asked before a socket connects, sends, is bound or made.
 *
 * Everything is pinned by netguard.go, and goes on without the agent.
 *
 *   holds[id of the container] -> its group, as a hash of its name
 *   rules[group]               -> the answer, and the number of the table that
 *                                 holds the rest of the group's rules
 *   destinations, listens, named, resolvers: entries of all tables, by number
 *
 * A group's rules are replaced by filling another table and then putting its
 * number into rules, so that a program sees the old ones or the new ones.
 *
 * Addresses behind DNS names are known by the answers that come: every answer of
 * the host is noted by the network namespace that it came to, whoever asked, so
 * that a container that is held later can go on with what it resolved before. An
 * answer counts if the rules of who connects know the server that gave it.
 */
#define SPEAKS_ITSELF /* processes that were not told yet are the sensors' matter */
#include "sensor.bpf.h"
#include "socket.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BPF_MAP_TYPE_LPM_TRIE 11
#define SENSOR_NETGUARD 8
#define ALLOW 1
#define REFUSE 0

/* include/uapi/linux/bpf.h: the layouts are the kernel's interface. */
struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family;
	u32 type;
	u32 protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
	struct bpf_sock *sk;
};

struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
};

enum { NET_OFF, NET_AUDIT, NET_DENY }; /* netguard.go has them too */

enum net_deed { NET_CONNECT = 1, NET_SEND, NET_BIND, NET_RAW, NET_RATE };

enum { NET_AUDITED = 1, NET_DENIED };

/* -- Rules ------------------------------------------------------------------ */

struct net_group {
	u8 hash[32];
};

struct net_range {
	u16 first;
	u16 last;
};

#define MAX_RANGES 8
#define MAX_GROUP_NAME 800

struct net_ruleset {
	u32 table;
	u8 answer;
	u8 raw;	    /* raw sockets may be made */
	u8 limited; /* the answer to too many new connections */
	u8 ranges;
	struct net_range range[MAX_RANGES];
	u8 protocols[32]; /* a bit for each that a destination has */
	u64 rate; /* new connections a second; 0: any */
	u8 name[MAX_GROUP_NAME];
};

/* Ports of a rule: one, any, or a range by its place in struct net_ruleset. */
enum { PORT_ONE, PORT_ANY, PORT_RANGE };

struct net_destination {
	u32 bits; /* that count, of what follows: 64 and those of the network */
	u32 table;
	u8 protocol;
	u8 port_class; /* PORT_RANGE + n for range n */
	u16 port;
	u8 address[16];
};

struct net_listen {
	u32 table;
	u8 protocol;
	u8 port_class;
	u16 port;
};

struct net_named {
	u64 name; /* see names_of */
	u32 table;
	u8 protocol;
	u8 port_class;
	u16 port;
};

struct net_resolver {
	u32 table;
	u32 reserved;
	u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, u8[CONTAINER_ID_LEN]);
	__type(value, struct net_group);
} net_holds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048); /* as MAX_HELD_GROUPS of guard.bpf.h */
	__type(key, struct net_group);
	__type(value, struct net_ruleset);
} net_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct net_destination);
	__type(value, u8);
} net_destinations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct net_listen);
	__type(value, u8);
} net_listens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct net_named);
	__type(value, u8);
} net_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, struct net_resolver);
	__type(value, u8);
} net_resolvers SEC(".maps");

/* -- Who asked by UDP ------------------------------------------------------- */

#define EPHEMERAL 32768 /* ports that a UDP client may choose for itself */

/* A UDP server sends its answers to whoever asked, which no list of destinations
 * has. Who asked a port below those of clients, and from which of its own, is
 * known by the packet that came. */
struct net_asker {
	u8 address[16];
	u32 netns;
	u16 port;
	u16 own; /* the port of the server */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct net_asker);
	__type(value, u8);
} net_askers SEC(".maps");

/* note_asker notes who sent a packet to a server. */
static __always_inline void note_asker(struct packet *p, u32 netns)
{
	struct net_asker key = { .netns = netns, .port = p->from_port, .own = p->to_port };
	u8 yes = 1;

	__builtin_memcpy(key.address, p->from, 16);
	if (!bpf_map_lookup_elem(&net_askers, &key))
		bpf_map_update_elem(&net_askers, &key, &yes, BPF_ANY);
}

/* -- What the DNS answered -------------------------------------------------- */

#define NAMES_OF_ADDRESS 4 /* hosts of many names share addresses */
#define SUFFIXES 6	   /* wildcards of a name: "*." and one to six of its last labels */

struct net_name {
	u64 whole;
	u64 suffix[SUFFIXES];
	u8 server[16];
};

struct net_known_key {
	u32 netns;
	u32 reserved;
	u8 address[16];
};

struct net_knowing {
	u32 next; /* which name is replaced by another one */
	u32 reserved;
	struct net_name names[NAMES_OF_ADDRESS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct net_known_key);
	__type(value, struct net_knowing);
} net_known SEC(".maps");

/* Set by the loader, and pinned: names are hashed with a number that nobody else
 * knows, or somebody could choose a name that is taken for a permitted one. */
struct net_setting {
	u64 factor;  /* odd */
	u64 inverse; /* of factor, modulo 2^64 */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct net_setting);
} net_settings SEC(".maps");

/* Space for an answer that is read, for each CPU; programs of packets are not
 * put aside for others of their kind. */
#define MAX_DNS_NAME 255
#define DNS_HEAD 12
#define MAX_LABEL 63

struct net_scratch {
	u8 name[MAX_DNS_NAME + 1];
	struct net_name hashed;
	struct net_knowing fresh;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct net_scratch);
} net_scratches SEC(".maps");

struct dns_head {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additionals;
};

struct dns_record {
	__be16 type;
	__be16 class;
	__be32 ttl;
	__be16 length;
} __attribute__((packed));

static __always_inline u8 lower(u8 c)
{
	return c + ((u8)(c - 'A') < 26) * 32;
}

/* names_of hashes the name at "at" of a message and the ends of it. The hash of
 * bytes c is the polynomial of them in the secret factor, written with dots, so
 * that the hash of an end follows from those of the whole and of the beginning:
 *
 *   H(i..n) = H(n) - H(i) * factor^(n-i)
 *
 * It returns the length of the name as the message has it, 0 if it is none. */
__attribute__((noinline)) int names_of(struct __sk_buff *skb, u32 at)
{
	struct {
		u64 begun[8];  /* H(i) * factor^-i of the last eight labels */
		u64 hash, up, down;
		volatile u8 left; /* see hash_name of dns.bpf.c */
		volatile u8 labels;
	} b = {};
	struct net_setting *setting;
	struct net_scratch *s;
	u64 len = skb->len;
	u32 zero = 0;

	s = bpf_map_lookup_elem(&net_scratches, &zero);
	setting = bpf_map_lookup_elem(&net_settings, &zero);
	if (!s || !setting || at >= len)
		return 0;
	len -= at;
	if (len > MAX_DNS_NAME)
		len = MAX_DNS_NAME;
	barrier_var(len);
	if ((s64)len < 1 || len > MAX_DNS_NAME || bpf_skb_load_bytes(skb, at, s->name, len))
		return 0;
	b.up = 1;
	b.down = 1;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_DNS_NAME; i++) {
		u8 c = s->name[i];

		if (!b.left) {
			if (!c) {
				s->hashed.whole = b.hash;
				for (u32 n = 0; n < SUFFIXES; n++)
					/* The end that has n + 1 labels begins at label labels - n - 1. */
					s->hashed.suffix[n] =
						b.labels > n + 1 ?
							b.hash - b.begun[(u8)(b.labels - n - 1) & 7] * b.up :
							0;
				return i + 1;
			}
			if (c > MAX_LABEL)
				return 0;
			b.left = c;
			if (i) { /* the dot */
				b.hash = b.hash * setting->factor + '.';
				b.up *= setting->factor;
				b.down *= setting->inverse;
			}
			b.begun[b.labels & 7] = b.hash * b.down;
			b.labels++;
			continue;
		}
		b.left--;
		b.hash = b.hash * setting->factor + lower(c);
		b.up *= setting->factor;
		b.down *= setting->inverse;
	}
	return 0;
}

/* note_address says that an address was told for the name in the scratch. */
__attribute__((noinline)) int note_address(u32 netns, u64 high, u64 low)
{
	struct net_known_key key = { .netns = netns };
	struct net_knowing *known;
	struct net_scratch *s;
	u32 zero = 0, n;

	s = bpf_map_lookup_elem(&net_scratches, &zero);
	if (!s)
		return 0;
	__builtin_memcpy(key.address, &high, 8);
	__builtin_memcpy(key.address + 8, &low, 8);
	known = bpf_map_lookup_elem(&net_known, &key);
	if (!known) {
		__builtin_memset(&s->fresh, 0, sizeof(s->fresh));
		s->fresh.next = 1;
		s->fresh.names[0] = s->hashed;
		return bpf_map_update_elem(&net_known, &key, &s->fresh, BPF_ANY);
	}
	for (u32 i = 0; i < NAMES_OF_ADDRESS; i++) {
		u64 *a = (void *)known->names[i].server, *b = (void *)s->hashed.server;

		if (known->names[i].whole == s->hashed.whole && a[0] == b[0] && a[1] == b[1])
			return 0;
	}
	n = known->next & (NAMES_OF_ADDRESS - 1);
	known->names[n] = s->hashed;
	known->next = n + 1;
	return 0;
}

/* BEHIND_CALL is an instruction that nothing jumps to. In a loop a 6.1 verifier
 * wants one behind the call of a function: else it takes the way on for a way
 * back, and refuses it. */
#define BEHIND_CALL asm volatile("r0 = 0" ::: "r0")

#define ANSWER_STEPS 192 /* labels and records, as in dns.bpf.c */
#define TYPE_A 1
#define TYPE_AAAA 28

/* note_answers notes the addresses of the records that begin at "at". */
__attribute__((noinline)) int note_answers(struct __sk_buff *skb, u32 at, u32 records, u32 netns)
{
	struct {
		struct dns_record r;
		u8 label;
		u64 address[2];
		volatile u16 at;
		volatile u8 left;
	} b = {};

	b.at = at;
	b.left = records > 255 ? 255 : records;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ANSWER_STEPS && b.left; i++) {
		u32 length;

		if (bpf_skb_load_bytes(skb, b.at, &b.label, 1))
			break;
		if (b.label && b.label <= MAX_LABEL) {
			b.at += 1 + b.label;
			continue;
		}
		b.at += b.label ? 2 : 1;
		if (bpf_skb_load_bytes(skb, b.at, &b.r, sizeof(b.r)))
			break;
		b.at += sizeof(b.r);
		length = bpf_ntohs(b.r.length);
		if (b.r.type == bpf_htons(TYPE_A) && length == 4) {
			__be32 ip = 0;

			if (!bpf_skb_load_bytes(skb, b.at, &ip, 4)) {
				map_ip4((u8 *)b.address, ip);
				note_address(netns, b.address[0], b.address[1]);
				BEHIND_CALL;
			}
		} else if (b.r.type == bpf_htons(TYPE_AAAA) && length == 16) {
			if (!bpf_skb_load_bytes(skb, b.at, b.address, 16)) {
				note_address(netns, b.address[0], b.address[1]);
				BEHIND_CALL;
			}
		}
		b.at += length;
		b.left--;
	}
	return 0;
}

/* is_dockers tells the address of Docker's resolver, which answers from any port and is
 * one of the container's own: who sends from it could say which address is behind a
 * name. */
static __always_inline bool is_dockers(const u8 *address)
{
	return *(u64 *)&address[8] == bpf_cpu_to_be64(0x0000ffff7f00000bull); /* 127.0.0.11 */
}

#define UDP_HEAD 8
#define FLAG_RESPONSE 0x8000
#define QUESTION_TAIL 4

/* Who asks by UDP, and answers of the DNS over it, from its port, or from Docker's
 * resolver, which answers from any. */
SEC("cgroup_skb/ingress")
int net_answer(struct __sk_buff *skb)
{
	struct net_scratch *s;
	struct packet p = {};
	struct dns_head h;
	u32 zero = 0, at = 0, netns;
	struct sock *sk;
	int len;

	if (protocol_of(skb, &at) != IPPROTO_UDP || !skb->sk || !read_packet(skb, at, &p))
		return ALLOW;
	sk = address_of(skb->sk);
	netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (p.to_port && p.to_port < EPHEMERAL)
		note_asker(&p, netns);
	if (p.from_port != DNS_PORT && !is_dockers(p.from))
		return ALLOW;
	at += UDP_HEAD;
	if (bpf_skb_load_bytes(skb, at, &h, sizeof(h)) || !(bpf_ntohs(h.flags) & FLAG_RESPONSE) ||
	    h.questions != bpf_htons(1) || !h.answers)
		return ALLOW;
	s = bpf_map_lookup_elem(&net_scratches, &zero);
	len = names_of(skb, at + DNS_HEAD);
	if (!s || !len)
		return ALLOW;
	__builtin_memcpy(s->hashed.server, p.from, 16);
	note_answers(skb, at + DNS_HEAD + len + QUESTION_TAIL, bpf_ntohs(h.answers), netns);
	return ALLOW;
}

/* -- Telling ---------------------------------------------------------------- */

struct net_outside {
	struct header head; /* its kind is an enum net_deed */
	struct place place;
	u64 count; /* how often it happened, this time included */
	u16 protocol;
	u8 reaction;
	u8 reserved[5];
};

struct net_told_key {
	struct cgroup_key container;
	u64 exe; /* inode of the program */
	u8 address[16];
	u16 port;
	u16 protocol;
	u8 deed;
	u8 reaction;
	u16 reserved;
};

struct net_told {
	u64 last;
	u64 count; /* since then */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct net_told_key);
	__type(value, struct net_told);
} net_tolds SEC(".maps");

#define TELL_AGAIN 10000000000ull /* nanoseconds in which what is alike is only counted */

const enum net_deed *unused_deed __attribute__((unused));
const struct net_outside *unused_outside __attribute__((unused));

/* What is asked, put together by the programs. */
struct net_asked {
	u8 address[16];
	u64 source[2]; /* the address that is asked for with what is sent */
	u32 netns;
	u16 port;
	u8 protocol;
	u8 deed;
	u16 own; /* the port of the socket itself, if it has one yet */
};

static __always_inline void count(u32 which)
{
	u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __noinline int tell_outside(struct net_asked *a, struct container *c, u32 reaction)
{
	struct task_struct *leader = current_leader();
	struct net_told first = {}, *told;
	struct net_told_key key = {};
	struct net_outside *r;
	u64 now = bpf_ktime_get_boot_ns(), times = 1;

	if (!a || !c)
		return 0;
	key.container = c->cgroup;
	key.exe = BPF_CORE_READ(leader, mm, exe_file, f_inode, i_ino);
	__builtin_memcpy(key.address, a->address, 16);
	key.port = a->port;
	key.protocol = a->protocol;
	key.deed = a->deed;
	key.reaction = reaction;
	told = bpf_map_lookup_elem(&net_tolds, &key);
	if (told) {
		if (now - told->last < TELL_AGAIN) {
			__sync_fetch_and_add(&told->count, 1);
			return 0;
		}
		times += told->count;
		told->count = 0;
		told->last = now;
	} else {
		first.last = now;
		bpf_map_update_elem(&net_tolds, &key, &first, BPF_ANY);
	}
	r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	if (!r) {
		count(COUNT_LOST);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	fill_read(&r->head, SENSOR_NETGUARD, leader, c);
	r->head.kind = a->deed;
	r->count = times;
	r->place.netns = a->netns;
	if (a->deed == NET_BIND) {
		__builtin_memcpy(r->place.local, a->address, 16);
		r->place.local_port = a->port;
	} else {
		__builtin_memcpy(r->place.remote, a->address, 16);
		r->place.remote_port = a->port;
	}
	r->protocol = a->protocol;
	r->reaction = reaction;
	bpf_ringbuf_submit(r, 0);
	count(COUNT_SENT);
	return 0;
}

/* -- Deciding --------------------------------------------------------------- */

/* class_of returns the ports of rules that port is among: the i-th, or false. */
static __always_inline bool class_of(struct net_ruleset *rules, u32 i, u16 port, u8 *class, u16 *in_key)
{
	struct net_range *range;

	*in_key = 0;
	if (i == PORT_ONE) {
		*class = PORT_ONE;
		*in_key = port;
		return true;
	}
	if (i == PORT_ANY) {
		*class = PORT_ANY;
		return true;
	}
	if (i - PORT_RANGE >= rules->ranges || i - PORT_RANGE >= MAX_RANGES)
		return false;
	range = &rules->range[(i - PORT_RANGE) & (MAX_RANGES - 1)];
	*class = i;
	return port >= range->first && port <= range->last;
}

#define CLASSES (PORT_RANGE + MAX_RANGES)

/* may_reach tells whether an address is one of the rules' destinations. */
__attribute__((noinline)) int may_reach(struct net_ruleset *rules, struct net_asked *a)
{
	struct net_destination key = { .bits = 64 + 128 };

	if (!rules || !a)
		return 0;
	key.table = rules->table;
	key.protocol = a->protocol;
	__builtin_memcpy(key.address, a->address, 16);
#pragma clang loop unroll(full) /* a 6.1 verifier takes loops that end in a jump back alone */
	for (u32 i = 0; i < CLASSES; i++)
		if (class_of(rules, i, a->port, &key.port_class, &key.port) &&
		    bpf_map_lookup_elem(&net_destinations, &key))
			return 1;
	return 0;
}

/* is_named tells whether a hash is of a name of the rules, with these ports. */
__attribute__((noinline)) int is_named(struct net_ruleset *rules, struct net_asked *a, u64 name)
{
	struct net_named key = { .name = name };

	if (!rules || !a || !name)
		return 0;
	key.table = rules->table;
	key.protocol = a->protocol;
#pragma clang loop unroll(full) /* a 6.1 verifier takes loops that end in a jump back alone */
	for (u32 i = 0; i < CLASSES; i++)
		if (class_of(rules, i, a->port, &key.port_class, &key.port) &&
		    bpf_map_lookup_elem(&net_names, &key))
			return 1;
	return 0;
}

#define WILD 0x5bd1e9955bd1e995ull /* sets "*.example.com" apart from "example.com" */

/* may_reach_named tells whether the DNS said that an address is behind a name of
 * the rules. */
__attribute__((noinline)) int may_reach_named(struct net_ruleset *rules, struct net_asked *a)
{
	struct net_resolver resolver = {};
	struct net_known_key key = {};
	struct net_knowing *known;

	if (!rules || !a)
		return 0;
	key.netns = a->netns;
	__builtin_memcpy(key.address, a->address, 16);
	known = bpf_map_lookup_elem(&net_known, &key);
	if (!known)
		return 0;
	resolver.table = rules->table;
	for (u32 i = 0; i < NAMES_OF_ADDRESS; i++) {
		struct net_name *n = &known->names[i];

		if (!n->whole)
			continue;
		__builtin_memcpy(resolver.address, n->server, 16);
		if (!bpf_map_lookup_elem(&net_resolvers, &resolver))
			continue;
		if (is_named(rules, a, n->whole))
			return 1;
		for (u32 k = 0; k < SUFFIXES; k++)
			if (n->suffix[k] && is_named(rules, a, n->suffix[k] ^ WILD))
				return 1;
	}
	return 0;
}

/* may_answer tells whether somebody is sent to from the port at which they asked. */
__attribute__((noinline)) int may_answer(struct net_asked *a)
{
	struct net_asker key = {};

	if (!a || a->protocol != IPPROTO_UDP || !a->own || a->own >= EPHEMERAL)
		return 0;
	__builtin_memcpy(key.address, a->address, 16);
	key.netns = a->netns;
	key.port = a->port;
	key.own = a->own;
	return bpf_map_lookup_elem(&net_askers, &key) != NULL;
}

/* may_bind tells whether a port may be opened for others. UDP clients bind ports
 * of their own, too. */
__attribute__((noinline)) int may_bind(struct net_ruleset *rules, struct net_asked *a)
{
	struct net_listen key = {};

	if (!rules || !a)
		return 0;
	if (a->protocol == IPPROTO_UDP && is_dockers(a->address))
		return 0;
	if (!a->port || (a->protocol == IPPROTO_UDP && a->port >= EPHEMERAL))
		return 1;
	key.table = rules->table;
	key.protocol = a->protocol;
#pragma clang loop unroll(full) /* a 6.1 verifier takes loops that end in a jump back alone */
	for (u32 i = 0; i < CLASSES; i++)
		if (class_of(rules, i, a->port, &key.port_class, &key.port) &&
		    bpf_map_lookup_elem(&net_listens, &key))
			return 1;
	return 0;
}

/* New connections of a container in this second. */
struct net_rate {
	u64 second;
	u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u8[CONTAINER_ID_LEN]);
	__type(value, struct net_rate);
} net_rates SEC(".maps");

/* is_too_fast counts a connection that begins. Two CPUs that begin a second at
 * once may count one too few. */
static __always_inline bool is_too_fast(struct container *c, u64 most)
{
	u64 second = bpf_ktime_get_boot_ns() / 1000000000;
	struct net_rate first = { .second = second, .count = 1 };
	struct net_rate *rate = bpf_map_lookup_elem(&net_rates, c->id);

	if (!rate) {
		bpf_map_update_elem(&net_rates, c->id, &first, BPF_ANY);
		return false;
	}
	if (rate->second != second) {
		rate->second = second;
		rate->count = 0;
	}
	return __sync_fetch_and_add(&rate->count, 1) >= most;
}

static __always_inline bool has_protocol(struct net_ruleset *rules, u8 protocol)
{
	return rules->protocols[protocol >> 3 & 31] >> (protocol & 7) & 1;
}

static __always_inline bool is_held_to(struct container *c, struct net_ruleset **rules)
{
	struct net_group *group;

	if (!c)
		return false;
	group = bpf_map_lookup_elem(&net_holds, c->id);
	*rules = group ? bpf_map_lookup_elem(&net_rules, group) : NULL;
	return *rules;
}

/* decide returns whether the kernel goes on. */
static __always_inline int decide(struct net_asked *a)
{
	struct container *c = find_container((void *)bpf_get_current_task());
	struct net_ruleset *rules;
	bool inside;

	if (!is_held_to(c, &rules))
		return ALLOW;
	if (a->deed == NET_CONNECT && rules->limited && rules->rate && is_too_fast(c, rules->rate)) {
		u8 deed = a->deed;

		a->deed = NET_RATE;
		tell_outside(a, c, rules->limited == NET_DENY ? NET_DENIED : NET_AUDITED);
		a->deed = deed;
		if (rules->limited == NET_DENY)
			return REFUSE;
	}
	if (!rules->answer)
		return ALLOW;
	switch (a->deed) {
	case NET_BIND:
		inside = may_bind(rules, a);
		break;
	case NET_RAW:
		inside = rules->raw || has_protocol(rules, a->protocol);
		break;
	default:
		if (is_dockers((u8 *)a->source)) {
			inside = false;
			break;
		}
		/* Of a socket that is connected, which was asked about then. */
		if (!a->port && a->deed == NET_SEND && a->protocol == IPPROTO_UDP)
			return ALLOW;
		inside = may_reach(rules, a) || may_reach_named(rules, a) || may_answer(a);
		if (!inside && a->deed == NET_CONNECT && a->protocol == IPPROTO_UDP) {
			/* Nothing is sent yet: the C library asks so which address it would
			 * be reached from, with the port that it wants to reach by TCP. */
			a->protocol = IPPROTO_TCP;
			inside = may_reach(rules, a) || may_reach_named(rules, a);
			a->protocol = IPPROTO_UDP;
		}
	}
	if (inside)
		return ALLOW;
	/* The C library asks so which address it would be reached from. Nobody is told, but
	 * what the socket then sends would go there: no program is asked about that. */
	if (!a->port && a->deed == NET_CONNECT && a->protocol == IPPROTO_UDP)
		return rules->answer == NET_DENY ? REFUSE : ALLOW;
	tell_outside(a, c, rules->answer == NET_DENY ? NET_DENIED : NET_AUDITED);
	return rules->answer == NET_DENY ? REFUSE : ALLOW;
}

/* protocol_asked returns the protocol as rules have it. */
static __always_inline u8 protocol_asked(u32 protocol)
{
	if (protocol == IPPROTO_MPTCP)
		return IPPROTO_TCP;
	return protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : protocol;
}

static __always_inline u32 netns_of(struct bpf_sock *sk)
{
	struct sock *address = address_of(sk);

	return BPF_CORE_READ(address, __sk_common.skc_net.net, ns.inum);
}

static __always_inline u16 own_port(struct bpf_sock *sk)
{
	struct sock *address = address_of(sk);

	return BPF_CORE_READ(address, __sk_common.skc_num);
}

static __always_inline int ask4(struct bpf_sock_addr *ctx, enum net_deed deed)
{
	struct net_asked a = { .deed = deed };

	map_ip4(a.address, ctx->user_ip4);
	a.port = bpf_ntohs(ctx->user_port);
	a.protocol = protocol_asked(ctx->protocol);
	a.netns = netns_of(ctx->sk);
	a.own = own_port(ctx->sk);
	if (deed == NET_SEND)
		map_ip4((u8 *)a.source, ctx->msg_src_ip4);
	return decide(&a);
}

static __always_inline int ask6(struct bpf_sock_addr *ctx, enum net_deed deed)
{
	struct net_asked a = { .deed = deed };
	u32 part[4];

	part[0] = ctx->user_ip6[0];
	part[1] = ctx->user_ip6[1];
	part[2] = ctx->user_ip6[2];
	part[3] = ctx->user_ip6[3];
	__builtin_memcpy(a.address, part, 16);
	a.port = bpf_ntohs(ctx->user_port);
	a.protocol = protocol_asked(ctx->protocol);
	a.netns = netns_of(ctx->sk);
	a.own = own_port(ctx->sk);
	return decide(&a);
}

SEC("cgroup/connect4")
int net_connect4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx, NET_CONNECT);
}

SEC("cgroup/connect6")
int net_connect6(struct bpf_sock_addr *ctx)
{
	return ask6(ctx, NET_CONNECT);
}

SEC("cgroup/sendmsg4")
int net_sendmsg4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx, NET_SEND);
}

SEC("cgroup/sendmsg6")
int net_sendmsg6(struct bpf_sock_addr *ctx)
{
	return ask6(ctx, NET_SEND);
}

SEC("cgroup/bind4")
int net_bind4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx, NET_BIND);
}

SEC("cgroup/bind6")
int net_bind6(struct bpf_sock_addr *ctx)
{
	return ask6(ctx, NET_BIND);
}

/* What connect, sendmsg and bind are asked about is TCP and UDP. Of other protocols
 * (pings without an address to connect to, UDP-Lite, SCTP) the kernel asks about some
 * of that or nothing, so they are held when a socket is made. */
SEC("cgroup/sock_create")
int net_create(struct bpf_sock *ctx)
{
	struct net_asked a = { .deed = NET_RAW };

	if (ctx->type != SOCK_RAW && is_asked_about(ctx->protocol))
		return ALLOW;
	a.protocol = protocol_asked(ctx->protocol);
	return decide(&a);
}

/* -- Stations --------------------------------------------------------------- */

#define MAX_OPTIONS 40 /* bytes of options of IPv4 */

/* Of IPv4: RFC 791. */
enum { OPTION_END, OPTION_NONE, OPTION_LOOSE = 131, OPTION_STRICT = 137 };

/* has_stations4 tells whether the options of a packet, up to end, have a source route. */
__attribute__((noinline)) int has_stations4(struct __sk_buff *skb, u32 end)
{
	struct {
		u8 option[2]; /* and its length, of most */
		volatile u8 at;
	} b = {};

	b.at = IP4_HEAD;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_OPTIONS; i++) {
		if (b.at >= end || bpf_skb_load_bytes(skb, b.at, b.option, sizeof(b.option)))
			break;
		if (b.option[0] == OPTION_LOOSE || b.option[0] == OPTION_STRICT)
			return 1;
		if (b.option[0] == OPTION_END)
			break;
		b.at += b.option[0] == OPTION_NONE || !b.option[1] ? 1 : b.option[1];
	}
	return 0;
}

/* Headers of IPv6 in the order in which they stand: RFC 8200. */
enum { NEXT_HOPS = 0, NEXT_ROUTING = 43, NEXT_OPTIONS = 60 };
#define MAX_BEFORE 3 /* headers that may stand before a routing one, and that itself */

/* has_stations6 tells whether a packet has a routing header, of whichever type, and
 * beside that (HAS_STATIONS) what comes behind it. */
#define HAS_STATIONS 0x100

__attribute__((noinline)) int has_stations6(struct __sk_buff *skb, u32 first)
{
	struct {
		u8 head[2]; /* what is next, and how long this is */
		volatile u8 next;
		volatile u16 at;
	} b = {};

	b.next = first;
	b.at = IP6_HEAD;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_BEFORE; i++) {
		if (b.next != NEXT_ROUTING && b.next != NEXT_HOPS && b.next != NEXT_OPTIONS)
			break;
		if (bpf_skb_load_bytes(skb, b.at, b.head, sizeof(b.head)))
			break;
		if (b.next == NEXT_ROUTING)
			return HAS_STATIONS | b.head[0];
		b.next = b.head[0];
		b.at += (b.head[1] + 1) * 8;
	}
	return 0;
}

/* sender returns the container whose socket a packet is from: the kernel sends some of
 * them later, whoever runs then. Where containers have cgroups of version 1 alone it is
 * who runs. */
static __always_inline struct container *sender(struct __sk_buff *skb)
{
	struct cgroup_key key = { .id = bpf_skb_cgroup_id(skb) };
	struct container *c = bpf_map_lookup_elem(&cgroups, &key);

	return c && c->known ? c : find_container((void *)bpf_get_current_task());
}

/* refuse_stations tells whether a packet that names stations on its way is not to be
 * sent. */
__attribute__((noinline)) int refuse_stations(struct __sk_buff *skb, u32 version, u32 protocol, u32 netns, u32 port)
{
	struct net_asked a = { .deed = NET_SEND, .protocol = protocol, .netns = netns, .port = port };
	struct container *c = sender(skb);
	struct net_ruleset *rules;
	__be32 ip = 0;

	if (!is_held_to(c, &rules) || !rules->answer || rules->raw)
		return 0;
	if (version == 4) {
		bpf_skb_load_bytes(skb, 16, &ip, 4);
		map_ip4(a.address, ip);
	} else {
		bpf_skb_load_bytes(skb, 24, a.address, 16);
	}
	if (c == find_container((void *)bpf_get_current_task()))
		tell_outside(&a, c, rules->answer == NET_DENY ? NET_DENIED : NET_AUDITED);
	return rules->answer == NET_DENY;
}

/* What a socket was connected to is where its packets go, unless they name stations:
 * then they go to the first of those (source routes of IPv4, which take NET_RAW, and
 * routing headers of IPv6, which take nothing). It runs for every packet. */
SEC("cgroup_skb/egress")
int net_station(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ip_head *ip = data;
	struct sock *sk;
	u32 version, first, protocol;

	if ((void *)(ip + 1) > end || ip->version_and_words == 0x45)
		return ALLOW;
	version = ip->version_and_words >> 4;
	if (version == 4) {
		protocol = ip->protocol;
		if (!has_stations4(skb, (ip->version_and_words & 0xf) * 4))
			return ALLOW;
	} else {
		first = ((struct ip6_head *)data)->next;
		if (first == IPPROTO_TCP || first == IPPROTO_UDP)
			return ALLOW;
		protocol = has_stations6(skb, first);
		if (!(protocol & HAS_STATIONS))
			return ALLOW;
	}
	if (!skb->sk)
		return ALLOW;
	sk = address_of(skb->sk);
	if (refuse_stations(skb, version, protocol & 0xff, BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
			    bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport))))
		return REFUSE;
	return ALLOW;
}
