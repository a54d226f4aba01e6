//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The DNS sensor: what is asked, and what comes as an answer to it.
 *
 * Messages are found in the packets that pass the root of the cgroups. Over UDP
 * they are known by their form, whatever the port; over TCP by the port or
 * Docker's resolver. Every packet of the host comes by: what is TCP and no DNS
 * is let go after a few instructions.
 */
/* Answers come in interrupts, where speak may not be used. */
#define SPEAKS_ITSELF
#include "sensor.bpf.h"
#include "window.bpf.h"
#include "packet.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind { KIND_QUERY = 1, KIND_ANSWER, KIND_SEGMENT_OUT, KIND_SEGMENT_IN };

#define DNS_HEAD 12	 /* RFC 1035 section 4.1.1 */
#define MAX_DNS_NAME 255 /* RFC 1035 section 2.3.4 */
#define QUESTION_TAIL 4	 /* type and class */
#define MAX_LABEL 63
#define SMALL_PAYLOAD 512   /* RFC 1035: without extensions, nothing is longer */
#define LARGE_PAYLOAD 1232  /* what resolvers offer since 2020; more is cut */
#define SEGMENT_RECORDS 4   /* of one packet, LARGE_PAYLOAD each */
#define MAX_STREAM 0x10000  /* bytes of one side of a connection that are looked at */
#define ANSWER_LIFE 30000000000ull /* nanoseconds that an answer is waited for */
#define MDNS_PORT 5353
#define LLMNR_PORT 5355

struct message {
	struct header head;
	struct place place; /* remote: who is asked */
	u64 stream;	    /* the socket; of segments, else anything */
	u32 sequence;	    /* likewise */
	u32 size;	    /* of the message, or of the segment */
	u16 kept;	    /* how much of it follows */
	u16 protocol;
	u32 reserved;
};

struct small_message {
	struct message m;
	u8 payload[SMALL_PAYLOAD];
};

struct large_message {
	struct message m;
	u8 payload[LARGE_PAYLOAD];
};

/* Who asked. */
struct asker {
	struct header head;
	struct place place;
	struct cgroup_key cgroup;
	u64 doer;
	u64 asked;
	u32 seen[2]; /* bytes of a stream, each way */
};

struct name_key {
	struct cgroup_key cgroup;
	u64 doer;
	u64 name; /* as hash_name has it */
	u16 type;
	u8 kind;
	u8 code;
	u32 addresses; /* of an answer, as hash_addresses has them */
};

WINDOW(struct name_key, 4096);

/* Questions that wait for their answer. */
struct question_key {
	u64 cookie; /* of the socket */
	u64 name;
	u16 id;
	u16 type;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct question_key);
	__type(value, struct asker);
} questions SEC(".maps");

/* Connections to a resolver, by address of the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct asker);
} streams SEC(".maps");

/* Never written: to begin an entry with, which is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct asker);
} blank SEC(".maps");

const enum kind *unused_kind __attribute__((unused));
const struct message *unused_message __attribute__((unused));

/* opaque keeps the compiler from knowing what a number can be, so that it asks
 * what the verifier wants to see asked. */
#define opaque(x) asm volatile("" : "+r"(x))

/* What a message asks; or of a segment, what it belongs to: the socket in name,
 * the sequence number in id and type. */
struct shape {
	u64 name;
	u32 at; /* where it begins in the packet */
	u16 id;
	u16 type;
	u16 flags; /* of the head; when it is sent, the protocol */
	u16 reserved;
};

#define FLAG_RESPONSE 0x8000
#define OPCODE 0x7800
#define RCODE 0xf

struct dns_head {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additionals;
};

#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull

static __always_inline u8 lower(u8 c)
{
	return c + ((u8)(c - 'A') < 26) * 32;
}

/* hash_name walks a name, and returns its hash in lower case with its length in
 * the low byte, or 0 if it is none. What is not printable is let through where
 * usual. */
__attribute__((noinline)) u64 hash_name(struct __sk_buff *skb, u32 at, u32 usual)
{
	struct {
		u8 name[MAX_DNS_NAME];
		/* A byte of the stack is any byte to the verifier, so that it does not
		 * tell the rounds of the loop apart by it. */
		volatile u8 left;
	} b = {};
	u64 hash = FNV_BASIS, len = skb->len;

	if (at >= len)
		return 0;
	len -= at;
	if (len > MAX_DNS_NAME)
		len = MAX_DNS_NAME;
	opaque(len);
	if ((s64)len < 1 || len > MAX_DNS_NAME || bpf_skb_load_bytes(skb, at, b.name, len))
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_DNS_NAME; i++) {
		u8 c = b.name[i];

		if (!b.left) {
			if (!c)
				return hash << 8 | (i + 1);
			if (c > MAX_LABEL)
				return 0;
			b.left = c;
			c = 0;
		} else {
			b.left--;
			if (!usual && (c <= ' ' || c > '~'))
				return 0;
		}
		hash = (hash ^ lower(c)) * FNV_PRIME;
	}
	return 0;
}

#define TYPE_A 1
#define TYPE_AAAA 28
#define ANSWER_STEPS 192 /* labels and records: 16 addresses of long names, not compressed */

struct record {
	__be16 type;
	__be16 class;
	__be32 ttl;
	__be16 length;
} __attribute__((packed));

static __always_inline u64 mix(u64 address)
{
	address *= 0x9e3779b97f4a7c15ull;
	return address ^ address >> 32;
}

/* hash_addresses adds up the addresses of an answer whose records begin at "at":
 * answers that hold the same are alike in whatever order, however long they may
 * be kept. What comes behind many records is not looked at. */
__attribute__((noinline)) u64 hash_addresses(struct __sk_buff *skb, u32 at, u32 records)
{
	struct {
		struct record r;
		u8 label;
		u64 address[2];
		/* As in hash_name: so that the verifier does not tell the rounds apart. */
		volatile u16 at;
		volatile u8 left;
	} b = {};
	u64 sum = 0;

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
		b.at += b.label ? 2 : 1; /* the rest of the name is elsewhere, or it has ended */
		if (bpf_skb_load_bytes(skb, b.at, &b.r, sizeof(b.r)))
			break;
		b.at += sizeof(b.r);
		length = bpf_ntohs(b.r.length);
		b.address[0] = 0;
		b.address[1] = 0;
		if (b.r.type == bpf_htons(TYPE_A) && length == 4 &&
		    !bpf_skb_load_bytes(skb, b.at, b.address, 4))
			sum += mix(b.address[0]);
		if (b.r.type == bpf_htons(TYPE_AAAA) && length == 16 &&
		    !bpf_skb_load_bytes(skb, b.at, b.address, 16))
			sum += mix(b.address[0] ^ mix(b.address[1]));
		b.at += length;
		b.left--;
	}
	return sum ^ sum >> 32;
}

static __always_inline bool is_usual(struct packet *p)
{
	const u64 docker = bpf_cpu_to_be64(0x0000ffff7f00000bull); /* 127.0.0.11 */

	return p->to_port == DNS_PORT || p->from_port == DNS_PORT || p->to_port == MDNS_PORT ||
	       p->to_port == LLMNR_PORT || p->from_port == LLMNR_PORT ||
	       *(u64 *)&p->to[8] == docker || *(u64 *)&p->from[8] == docker;
}

/* has_shape tells whether a message can be one of the DNS: one question, and
 * where the port says nothing, no byte that a resolver would not send. */
static __always_inline bool has_shape(struct __sk_buff *skb, struct packet *p, struct shape *s,
				      bool response)
{
	bool usual = is_usual(p);
	struct dns_head h;
	__be16 tail[2];
	u16 class;
	u32 end;

	if (bpf_skb_load_bytes(skb, s->at, &h, sizeof(h)))
		return false;
	s->id = bpf_ntohs(h.id);
	s->flags = bpf_ntohs(h.flags);
	if (s->flags & OPCODE || !(s->flags & FLAG_RESPONSE) == response)
		return false;
	if (h.questions != bpf_htons(1) && (!h.questions || p->to_port != MDNS_PORT))
		return false;
	if (!usual && !response &&
	    (h.answers || h.authorities || bpf_ntohs(h.additionals) > 2 || s->flags & RCODE))
		return false;
	s->name = hash_name(skb, s->at + DNS_HEAD, usual);
	end = s->at + DNS_HEAD + (u8)s->name;
	if (!s->name || bpf_skb_load_bytes(skb, end, tail, sizeof(tail)))
		return false;
	s->type = bpf_ntohs(tail[0]);
	class = bpf_ntohs(tail[1]);
	if (usual)
		return true;
	if (!response && !h.additionals && skb->len != end + QUESTION_TAIL)
		return false;
	return s->type && (class == 1 || class == 3 || class == 255);
}

/* -- Records ---------------------------------------------------------------- */

static __always_inline void count(u32 which)
{
	u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* put_message sends a message with what is kept of it. size is a constant. It
 * asks only once whether there was room: of an answer that it has heard already,
 * an older verifier follows both ways, and the space is lost in one. */
static __always_inline bool put_message(struct __sk_buff *skb, struct asker *a, u32 at, u32 len,
					u32 kind, u64 repeat, struct shape *s, u32 size)
{
	struct large_message *r = bpf_ringbuf_reserve(&events, sizeof(r->m) + size, 0);
	u64 kept = len > size ? size : len; /* 64 bits, or a copy of it is checked */

	if (!r) {
		count(COUNT_LOST);
		return false;
	}
	__builtin_memcpy(&r->m.head, &a->head, sizeof(a->head));
	__builtin_memcpy(&r->m.place, &a->place, sizeof(a->place));
	r->m.head.kind = kind;
	r->m.head.time = bpf_ktime_get_boot_ns();
	r->m.head.repeat = repeat;
	r->m.stream = s->name;
	r->m.sequence = s->id | (u32)s->type << 16;
	r->m.size = len;
	r->m.protocol = s->flags;
	r->m.reserved = 0;
	r->m.kept = 0;
	opaque(kept);
	/* An older verifier learns nothing from a number that is not zero, but it
	 * does from one that is positive. */
	if ((s64)kept > 0) {
		opaque(kept); /* or both checks become one, of a copy */
		if (kept <= size && !bpf_skb_load_bytes(skb, at, r->payload, kept))
			r->m.kept = kept;
	}
	bpf_ringbuf_submit(r, 0);
	count(COUNT_SENT);
	return true;
}

static __noinline int put(struct __sk_buff *skb, struct asker *a, struct shape *s, u32 kind,
			  u64 repeat)
{
	u32 len;

	if (!a || !s)
		return 0;
	len = skb->len - s->at;
	return len <= SMALL_PAYLOAD ?
		       put_message(skb, a, s->at, len, kind, repeat, s, SMALL_PAYLOAD) :
		       put_message(skb, a, s->at, len, kind, repeat, s, LARGE_PAYLOAD);
}

static __always_inline u32 addresses_of(struct __sk_buff *skb, struct shape *s)
{
	struct dns_head h;

	if (bpf_skb_load_bytes(skb, s->at, &h, sizeof(h)))
		return 0;
	return hash_addresses(skb, s->at + DNS_HEAD + (u8)s->name + QUESTION_TAIL,
			      bpf_ntohs(h.answers));
}

/* tell sends a question or an answer, unless one like it was told. */
static __noinline int tell(struct __sk_buff *skb, struct asker *a, struct shape *s, u32 kind)
{
	struct name_key key = {};
	struct repeats *r;
	u64 id;

	if (!a || !s)
		return 0;
	key.cgroup = a->cgroup;
	key.doer = a->doer;
	key.name = s->name;
	key.type = s->type;
	key.kind = kind;
	if (kind == KIND_ANSWER) {
		key.code = s->flags & RCODE;
		/* An answer with other addresses is not like it: they are to have names. */
		key.addresses = addresses_of(skb, s);
	}
	id = once(&window, &key);
	if (id == COUNTED)
		return 0;
	s->flags = IPPROTO_UDP; /* what put is to say */
	if (put(skb, a, s, kind, id == ALONE ? 0 : id) || id == ALONE)
		return 0;
	r = bpf_map_lookup_elem(&window, &key);
	if (r)
		r->since = 0;
	return 0;
}

/* set_asker makes the running process the one who asks. */
static __always_inline void set_asker(struct asker *a)
{
	struct task_struct *leader = current_leader();
	struct container *c = find_container(leader);

	fill_read(&a->head, SENSOR_DNS, leader, c);
	if (c)
		a->cgroup = c->cgroup;
	a->asked = a->head.time;
	speak(a->head.start, a->head.tgid);
	a->doer = c ? doer(leader) : BPF_CORE_READ(leader, mm, exe_file, f_inode, i_ino);
}

/* -- UDP -------------------------------------------------------------------- */

/* expect remembers a question until its answer comes. */
static __noinline struct asker *expect(struct __sk_buff *skb, struct packet *p, struct shape *s)
{
	struct question_key key = {};
	struct asker *a;
	u32 zero = 0;

	if (!p || !s || !skb->sk)
		return NULL;
	key.cookie = bpf_get_socket_cookie(skb);
	key.name = s->name;
	key.id = s->id;
	key.type = s->type;
	a = bpf_map_lookup_elem(&blank, &zero);
	if (!a || bpf_map_update_elem(&questions, &key, a, BPF_ANY))
		return NULL;
	a = bpf_map_lookup_elem(&questions, &key);
	if (!a)
		return NULL;
	set_place(&a->place, address_of(skb->sk));
	__builtin_memcpy(a->place.local, p->from, 16);
	if (!a->place.remote_port) { /* not connected */
		__builtin_memcpy(a->place.remote, p->to, 16);
		a->place.remote_port = p->to_port;
	}
	return a;
}

static __noinline struct asker *asked(struct __sk_buff *skb, u32 at, struct shape *s)
{
	struct packet p = {};

	if (!s || !read_packet(skb, at, &p))
		return NULL;
	s->at = at + 8;
	return has_shape(skb, &p, s, false) ? expect(skb, &p, s) : NULL;
}

static __noinline int answered(struct __sk_buff *skb, u32 at, struct shape *s)
{
	struct question_key key = {};
	struct packet p = {};
	struct asker *a;

	if (!s || !read_packet(skb, at, &p))
		return 0;
	s->at = at + 8;
	if (!has_shape(skb, &p, s, true))
		return 0;
	key.cookie = bpf_get_socket_cookie(skb);
	key.name = s->name;
	key.id = s->id;
	key.type = s->type;
	a = bpf_map_lookup_elem(&questions, &key);
	if (!a || !a->asked || bpf_ktime_get_boot_ns() - a->asked > ANSWER_LIFE)
		return 0;
	tell(skb, a, s, KIND_ANSWER);
	bpf_map_delete_elem(&questions, &key);
	return 0;
}

/* -- TCP -------------------------------------------------------------------- */

/* segment sends what a packet of a connection to a resolver carries. */
static __noinline int segment(struct __sk_buff *skb, u32 at, bool out)
{
	struct shape s = { .flags = IPPROTO_TCP };
	__be32 sequence;
	struct asker *a;
	u64 address;
	u8 words;

	if (!skb->sk)
		return 0;
	address = (u64)address_of(skb->sk);
	a = bpf_map_lookup_elem(&streams, &address);
	if (!a || a->seen[out] >= MAX_STREAM || bpf_skb_load_bytes(skb, at + 12, &words, 1) ||
	    bpf_skb_load_bytes(skb, at + 4, &sequence, 4))
		return 0;
	s.at = at + (words >> 4) * 4;
	s.name = bpf_get_socket_cookie(skb);
	s.id = bpf_ntohl(sequence);
	s.type = bpf_ntohl(sequence) >> 16;
	if (s.at >= skb->len)
		return 0;
	__sync_fetch_and_add(&a->seen[out], skb->len - s.at);
	for (int i = 0; i < SEGMENT_RECORDS && s.at < skb->len; i++) {
		u32 next = (s.id | (u32)s.type << 16) + LARGE_PAYLOAD;

		put(skb, a, &s, out ? KIND_SEGMENT_OUT : KIND_SEGMENT_IN, 0);
		s.at += LARGE_PAYLOAD;
		s.id = next;
		s.type = next >> 16;
	}
	return 0;
}

static __noinline int open_stream(u64 address)
{
	struct sock *sk = (void *)address;
	struct asker *a;
	u32 zero = 0;

	a = bpf_map_lookup_elem(&blank, &zero);
	if (!a || bpf_map_update_elem(&streams, &address, a, BPF_ANY))
		return 0;
	a = bpf_map_lookup_elem(&streams, &address);
	if (!a)
		return 0;
	set_place(&a->place, sk);
	set_asker(a);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_dns_state, struct sock *sk, int old, int new)
{
	u64 address = (u64)sk;

	if (new != TCP_SYN_SENT && new != TCP_CLOSE && new != TCP_ESTABLISHED)
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_dport) != bpf_htons(DNS_PORT) &&
	    BPF_CORE_READ(sk, __sk_common.skc_daddr) != bpf_htonl(0x7f00000b))
		return 0;
	if (new == TCP_SYN_SENT)
		open_stream(address);
	if (new == TCP_CLOSE && old != TCP_LISTEN)
		bpf_map_delete_elem(&streams, &address);
	if (new == TCP_ESTABLISHED) {
		struct asker *a = bpf_map_lookup_elem(&streams, &address);

		if (a) /* now its own address and port are known */
			set_place(&a->place, sk);
	}
	return 0;
}

/* -- Packets ---------------------------------------------------------------- */

SEC("cgroup_skb/egress")
int on_dns_egress(struct __sk_buff *skb)
{
	struct shape s = {};
	struct asker *a;
	u32 at = 0;
	u8 protocol = protocol_of(skb, &at);

	if (protocol == IPPROTO_TCP && is_stream(skb, at))
		segment(skb, at, true);
	if (protocol != IPPROTO_UDP || skb->len < at + 8 + DNS_HEAD + 1 + QUESTION_TAIL)
		return 1;
	a = asked(skb, at, &s);
	if (a) {
		set_asker(a);
		tell(skb, a, &s, KIND_QUERY);
	}
	return 1;
}

SEC("cgroup_skb/ingress")
int on_dns_ingress(struct __sk_buff *skb)
{
	struct shape s = {};
	u32 at = 0;
	u8 protocol = protocol_of(skb, &at);

	if (protocol == IPPROTO_TCP && is_stream(skb, at))
		segment(skb, at, false);
	if (protocol == IPPROTO_UDP && skb->len >= at + 8 + DNS_HEAD + 1 + QUESTION_TAIL && skb->sk)
		answered(skb, at, &s);
	return 1;
}
