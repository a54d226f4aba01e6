package db

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// payloadForm is the first byte of a payload. Within a form fields are only
// added at the end, and a reader stops where the bytes do.
const payloadForm = 1

// wordBreak stands between name and arguments in the words column: a control
// character that ends a word and that terminals don't send.
const wordBreak = "\x1f"

// Bits of the payload's parts and of an exec's facts.
const (
	hasExec = 1 << iota
	hasExit
)

const (
	execArgsTruncated = 1 << iota
	execPathTruncated
	execDeleted
	execSetUID
	execSetGID
)

// appendWords writes the text that can be searched: name, then arguments.
func appendWords(b []byte, e *event.Event) []byte {
	b = append(b, e.Process.Name...)
	if e.Exec != nil {
		for _, a := range e.Exec.Args {
			b = append(b, wordBreak...)
			b = append(b, a...)
		}
	}
	return b
}

// appendPayload writes what has no column of its own. The texts of appendWords
// are not repeated, only their lengths.
func appendPayload(b []byte, e *event.Event) []byte {
	p := &e.Process
	b = append(b, payloadForm)
	for _, v := range [...]uint64{
		uint64(max(e.Version, 0)), e.Seq, uint64(p.ContainerPID), uint64(p.Parent.PID), p.Parent.Start,
		uint64(p.UID), uint64(p.EUID), uint64(p.GID), uint64(len(p.Name)),
	} {
		b = binary.AppendUvarint(b, v)
	}
	var parts byte
	if e.Exec != nil {
		parts |= hasExec
	}
	if e.Exit != nil {
		parts |= hasExit
	}
	b = append(b, parts)
	if e.Exec != nil {
		b = appendExec(b, e.Exec)
	}
	if x := e.Exit; x != nil {
		b = binary.AppendVarint(b, int64(x.Code))
		b = binary.AppendVarint(b, int64(x.Signal))
		b = append(b, flag(x.CoreDumped, 1))
		b = binary.AppendVarint(b, int64(x.Lifetime))
	}
	return b
}

func appendExec(b []byte, x *event.Exec) []byte {
	b = append(b, flag(x.ArgsTruncated, execArgsTruncated)|flag(x.PathTruncated, execPathTruncated)|
		flag(x.Deleted, execDeleted)|flag(x.SetUID, execSetUID)|flag(x.SetGID, execSetGID))
	b = appendText(b, x.Requested)
	b = appendText(b, x.Cwd)
	b = binary.AppendUvarint(b, x.Inode)
	b = binary.AppendUvarint(b, uint64(x.Device))
	b = binary.AppendUvarint(b, uint64(x.Capabilities))
	b = appendCount(b, len(x.Args), x.Args == nil)
	for _, a := range x.Args {
		b = binary.AppendUvarint(b, uint64(len(a)))
	}
	b = appendCount(b, len(x.Ancestors), x.Ancestors == nil)
	for _, a := range x.Ancestors {
		b = binary.AppendUvarint(b, uint64(a.Key.PID))
		b = binary.AppendUvarint(b, a.Key.Start)
		b = appendText(b, a.Name)
		b = appendText(b, a.Executable)
	}
	return b
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendCount keeps nil apart from empty, as JSON does.
func appendCount(b []byte, n int, isNil bool) []byte {
	if isNil {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(n)+1)
}

var errPayload = errors.New("the stored form of an event is damaged")

// decodePayload fills in what appendPayload and appendWords wrote. Damaged
// bytes give an error and cost no more memory than their length.
func decodePayload(payload []byte, words string, e *event.Event) error {
	if len(payload) == 0 || payload[0] != payloadForm {
		return errPayload
	}
	r := &payloadReader{b: payload[1:], words: words}
	p := &e.Process
	e.Version = int(r.small())
	e.Seq = r.uvarint()
	p.ContainerPID = r.uint32()
	p.Parent.PID = r.uint32()
	p.Parent.Start = r.uvarint()
	p.UID, p.EUID, p.GID = r.uint32(), r.uint32(), r.uint32()
	p.Name = r.word(r.uvarint())
	parts := r.byte()
	if parts&hasExec != 0 {
		e.Exec = r.exec()
	}
	if parts&hasExit != 0 {
		e.Exit = &event.Exit{Code: int(r.varint()), Signal: int(r.varint()), CoreDumped: r.byte() == 1}
		e.Exit.Lifetime = time.Duration(r.varint())
	}
	if r.bad {
		return errPayload
	}
	return nil
}

// payloadReader reads the fields in order; after the first that is damaged
// every further one is zero and bad is true.
type payloadReader struct {
	b     []byte
	words string
	bad   bool
}

func (r *payloadReader) exec() *event.Exec {
	f := r.byte()
	x := &event.Exec{
		ArgsTruncated: f&execArgsTruncated != 0,
		PathTruncated: f&execPathTruncated != 0,
		Deleted:       f&execDeleted != 0,
		SetUID:        f&execSetUID != 0,
		SetGID:        f&execSetGID != 0,
	}
	x.Requested, x.Cwd = r.text(), r.text()
	x.Inode, x.Device = r.uvarint(), r.uint32()
	x.Capabilities = event.Capabilities(r.uvarint())
	if n, ok := r.count(); ok {
		x.Args = make([]string, n)
		for i := range x.Args {
			x.Args[i] = r.nextWord(r.uvarint())
		}
	}
	if n, ok := r.count(); ok {
		x.Ancestors = make([]event.Ancestor, n)
		for i := range x.Ancestors {
			a := &x.Ancestors[i]
			a.Key = event.Key{PID: r.uint32(), Start: r.uvarint()}
			a.Name, a.Executable = r.text(), r.text()
		}
	}
	return x
}

func (r *payloadReader) fail() { r.bad, r.b = true, nil }

func (r *payloadReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *payloadReader) small() uint64 {
	v := r.uvarint()
	if v > math.MaxInt32 {
		r.fail()
		return 0
	}
	return v
}

func (r *payloadReader) uint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *payloadReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *payloadReader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads a length that cannot be more than the bytes that are left,
// because every element takes at least one.
func (r *payloadReader) count() (int, bool) {
	n := r.uvarint()
	if n == 0 {
		return 0, false
	}
	if n-1 > uint64(len(r.b)) {
		r.fail()
		return 0, false
	}
	return int(n - 1), true
}

func (r *payloadReader) word(n uint64) string {
	if n > uint64(len(r.words)) {
		r.fail()
		return ""
	}
	s := r.words[:n]
	r.words = r.words[n:]
	return s
}

func (r *payloadReader) nextWord(n uint64) string {
	rest, ok := strings.CutPrefix(r.words, wordBreak)
	if !ok {
		r.fail()
		return ""
	}
	r.words = rest
	return r.word(n)
}

// nanos is how times are stored; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// millis is how Received is stored.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

func nanosOf(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return nanos(*t)
}

func timeOf(n int64) *time.Time {
	if n == 0 {
		return nil
	}
	t := fromNanos(n)
	return &t
}
