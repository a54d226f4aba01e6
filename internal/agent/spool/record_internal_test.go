package spool

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
)

var testKey = key{1, 2, 3, 4, 5, 6, 7, 8}

// segmentOf returns the records of n events as a segment has them, and where
// each begins.
func segmentOf(n int, body func(i int) []byte) (b []byte, at []int) {
	for i := range n {
		at = append(at, len(b))
		from := len(b)
		b = append(begin(b), body(i)...)
		testKey.finish(b, from, uint64(i), uint64(10*i+10))
	}
	return b, at
}

func body(i int) []byte { return []byte(fmt.Sprintf("event %d", i)) }

func scanAll(r io.Reader) (got []int, s *scanner) {
	s = newScanner(r, testKey)
	for {
		rec, ok := s.scan()
		if !ok {
			return got, s
		}
		if rec.seq != 10*rec.ordinal+10 || !bytes.Equal(rec.body, body(int(rec.ordinal))) {
			panic(fmt.Sprintf("record that nobody wrote: %+v", rec))
		}
		got = append(got, int(rec.ordinal))
	}
}

func TestScan(t *testing.T) {
	whole, at := segmentOf(5, body)
	fake, _ := segmentOf(1, body) // what a hostile argument list may contain, but for the key
	for _, tc := range []struct {
		name   string
		bytes  func() []byte
		want   string
		next   uint64
		broken bool
	}{
		{"whole", func() []byte { return whole }, "[0 1 2 3 4]", 5, false},
		{"empty", func() []byte { return nil }, "[]", 0, false},
		{"torn in a head", func() []byte { return whole[:at[4]+3] }, "[0 1 2 3]", 4, false},
		{"torn in a body", func() []byte { return whole[:len(whole)-1] }, "[0 1 2 3]", 4, false},
		{"body damaged", func() []byte { return flip(whole, at[2]+headSize) }, "[0 1 3 4]", 5, false},
		{"length damaged", func() []byte { return flip(whole, at[2]+4) }, "[0 1 3 4]", 5, false},
		{"mark damaged", func() []byte { return flip(whole, at[2]) }, "[0 1 3 4]", 5, false},
		{"last length damaged", func() []byte { return flip(whole, at[4]+4) }, "[0 1 2 3]", 4, true},
		{"last body damaged", func() []byte { return flip(whole, len(whole)-1) }, "[0 1 2 3]", 5, false},
		{"zeros at the end", func() []byte { return append(bytes.Clone(whole[:at[4]]), make([]byte, 4096)...) }, "[0 1 2 3]", 4, true},
		{"zeros between", func() []byte {
			b := bytes.Clone(whole)
			clear(b[at[1]:at[3]])
			return b
		}, "[0 3 4]", 5, false},
		{"marks all over", func() []byte {
			return append(bytes.Repeat(testKey.mark(), 100_000), whole...)
		}, "[0 1 2 3 4]", 5, false},
		{"a record of another key", func() []byte {
			b := bytes.Clone(fake)
			key{1, 2, 3, 4, 9, 9, 9, 9}.finish(b, 0, 0, 10)
			return append(b, whole...)
		}, "[0 1 2 3 4]", 5, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"at once": bytes.NewReader(tc.bytes()), "in bits": iotest.OneByteReader(bytes.NewReader(tc.bytes())),
			} {
				got, s := scanAll(r)
				if fmt.Sprint(got) != tc.want || s.next != tc.next || s.broken != tc.broken {
					t.Errorf("%s: got %v, next %d, broken %t; want %s, %d, %t", name, got, s.next, s.broken, tc.want, tc.next, tc.broken)
				}
			}
		})
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x40
	return b
}

func TestScanGoesOnWhenTheSegmentGrows(t *testing.T) {
	whole, at := segmentOf(3, body)
	var b bytes.Buffer
	b.Write(whole[:at[1]])
	s := newScanner(&b, testKey)
	for i := range 3 {
		if rec, ok := s.scan(); !ok || rec.ordinal != uint64(i) {
			t.Fatalf("got %+v, %t; want record %d", rec, ok, i)
		}
		if _, ok := s.scan(); ok {
			t.Fatal("a record before it was written")
		}
		if i < 2 {
			b.Write(whole[at[i+1]:append(at, len(whole))[i+2]])
		}
	}
}

// FuzzScan damages a segment of five records and adds bytes: whatever is read
// was written, and is read in order.
func FuzzScan(f *testing.F) {
	f.Add([]byte{}, uint16(0), byte(0), []byte{})
	f.Add(testKey.mark(), uint16(40), byte(1), []byte{0, 0, 0})
	f.Add([]byte{1, 2, 3, 4, 255, 255, 255, 255}, uint16(5), byte(255), testKey.mark())
	f.Fuzz(func(t *testing.T, before []byte, where uint16, bits byte, after []byte) {
		whole, _ := segmentOf(5, body)
		whole[int(where)%len(whole)] ^= bits
		got, s := scanAll(bytes.NewReader(append(append(bytes.Clone(before), whole...), after...)))
		for i := 1; i < len(got); i++ {
			if got[i] <= got[i-1] {
				t.Fatalf("records out of order: %v", got)
			}
		}
		if len(got) < 3 && len(before) == 0 || len(got) > 5 {
			t.Fatalf("one damaged byte cost more than a record: %v", got)
		}
		if s.failed != nil {
			t.Fatal(s.failed)
		}
	})
}
