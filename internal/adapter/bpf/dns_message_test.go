package bpf

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

const dnsQuestion = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"

func TestParseMessage(t *testing.T) {
	tests := []struct {
		name, message, want string
		ok                  bool
	}{
		{"plain", dnsQuestion + "\x03WWW\x07Example\x00\x00\x01\x00\x01", "www.example", true},
		{"the root", dnsQuestion + "\x00\x00\x02\x00\x01", ".", true},
		{"odd bytes", dnsQuestion + "\x05a.\\\x00\xff\x00\x00\x01\x00\x01", `a\.\\\000\255`, true},
		{"no type", dnsQuestion + "\x01a\x00\x00", "", false},
		{"a reference", dnsQuestion + "\xc0\x0c\x00\x01\x00\x01", "", false},
		{"label longer than the message", dnsQuestion + "\x3fa\x00\x00\x01\x00\x01", "", false},
		{"name too long", dnsQuestion + strings.Repeat("\x01a", 128) + "\x00\x00\x01\x00\x01", "", false},
		{"no head", "\x12\x34", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parseMessage([]byte(tt.message))
			if m.name != tt.want || (err == nil) != tt.ok {
				t.Errorf("name %q, error %v; want %q, read %t", m.name, err, tt.want, tt.ok)
			}
		})
	}
}

func TestStreams(t *testing.T) {
	message := "\x00\x11" + dnsQuestion + "\x00\x00\x01\x00\x01"
	tests := []struct {
		name  string
		parts map[uint32]string // by sequence number
		order []uint32
		want  int
	}{
		{"at once", map[uint32]string{7: message + message}, []uint32{7}, 2},
		{"byte by byte", map[uint32]string{7: message[:1], 8: message[1:9], 16: message[9:]}, []uint32{7, 8, 16}, 1},
		{"sent again", map[uint32]string{7: message[:9], 16: message[9:]}, []uint32{7, 7, 16, 7}, 1},
		{"a part missing", map[uint32]string{7: message[:9], 17: message}, []uint32{7, 17, 17}, 0},
		{"around the end of numbers", map[uint32]string{0xffffffff: message[:1], 0: message[1:]}, []uint32{0xffffffff, 0}, 1},
		{"not DNS", map[uint32]string{7: "GET / HTTP/1.1"}, []uint32{7}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, got := streams{}, 0
			for _, at := range tt.order {
				got += len(s.add(streamKey{1, true}, at, []byte(tt.parts[at])))
			}
			if d := cmp.Diff(got, tt.want); d != "" {
				t.Errorf("messages (-got +want):\n%s", d)
			}
		})
	}
}

// Whatever comes, what is made of it is bounded and valid text.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(dnsQuestion + "\x03www\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01" +
		"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x03\x01b\x00\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x7f\x00\x00\x01"))
	f.Add([]byte("\x12\x34\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x10\x00\x01\x00\x00\x10\x00\x01\x00\x00\x00\x05\x00\x03\x02a\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		if len(m.answers) > event.MaxAnswers || len(m.addresses) > event.MaxAnswers || len(m.name) > 4*255 || m.name == "" {
			t.Errorf("%d answers, %d addresses, name %q", len(m.answers), len(m.addresses), m.name)
		}
		for _, text := range append(m.answers, m.name) {
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\n") || len(text) > 4*maxAnswerText {
				t.Errorf("text %q", text)
			}
		}
	})
}

// What was learnt is forgotten in time, and never becomes more than its limit.
func TestNames(t *testing.T) {
	n, a := newNames(), dockerAddr
	n.learn("one", 5, a, "first.example", 0, 100)
	if got := n.of("one", 0, a, 200); got != "first.example" {
		t.Errorf("the asker: %q", got)
	}
	if got := n.of("two", 5, a, 200); got != "first.example" {
		t.Errorf("a neighbour in the network namespace: %q", got)
	}
	if got := n.of("two", 6, a, 200); got != "" {
		t.Errorf("a stranger: %q", got)
	}
	if got := n.of("one", 5, a, 100+uint64(minNameLife)+1); got != "" {
		t.Errorf("after its life: %q", got)
	}
	for range maxNames {
		a = a.Next()
		n.learn("", 5, a, "other.example", 0, 100)
	}
	if n.used.Len() != maxNames || len(n.entries) != maxNames {
		t.Errorf("%d names in %d entries, want %d", n.used.Len(), len(n.entries), maxNames)
	}
}
