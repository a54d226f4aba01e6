package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/castellan-security/castellan/internal/event"
)

// Records are little endian, as are amd64 and arm64. Places of fields are taken
// from the types that bpf2go made out of the C, so they can't drift apart.
const (
	headerLen   = int(unsafe.Sizeof(processHeader{}))
	containerID = int(unsafe.Sizeof(processHeader{}.Container))
	commLen     = int(unsafe.Sizeof(processHeader{}.Comm))
)

// flagContainer is FLAG_CONTAINER of sensor.bpf.h.
const flagContainer = 1 << 0

// errShort says that a record ends before its fields do. Only a defect of a
// sensor could cause it.
var errShort = errors.New("record is too short")

// errNothing says that a record is understood and is no event by itself.
var errNothing = errors.New("no event")

func u16(b []byte, at uintptr) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at uintptr) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at uintptr) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// header is the head of every record.
type header struct {
	kind  byte
	flags uint32
	time  uint64 // nanoseconds since boot
	start uint64
}

// decoder turns records into events. It is for one goroutine.
type decoder struct {
	clock *Clock
	texts texts
	path  []byte // space to put a path together in
	inits *inits // may be nil
	// window is that of the sensor whose record is read; nil without one.
	window *window
}

func newDecoder(c *Clock) *decoder { return &decoder{clock: c, texts: texts{}} }

// sensorOf returns the number of the sensor that wrote the record.
func sensorOf(record []byte) (byte, error) {
	if len(record) < headerLen {
		return 0, errShort
	}
	return record[unsafe.Offsetof(processHeader{}.Sensor)], nil
}

// repeatOf returns the id by which the kernel counts what is like the record;
// the record has a whole head.
func repeatOf(record []byte) uint64 { return u64(record, unsafe.Offsetof(processHeader{}.Repeat)) }

// head reads the head of a record into e, and returns the rest of what it says.
func (d *decoder) head(b []byte, e *event.Event) (header, error) {
	if len(b) < headerLen {
		return header{}, errShort
	}
	var at processHeader
	h := header{
		kind:  b[unsafe.Offsetof(at.Kind)],
		flags: u32(b, unsafe.Offsetof(at.Flags)),
		time:  u64(b, unsafe.Offsetof(at.Time)),
		start: u64(b, unsafe.Offsetof(at.Start)),
	}
	e.Time = d.clock.Time(h.time)
	e.Process = event.Process{
		Key: event.Key{PID: u32(b, unsafe.Offsetof(at.Tgid)), Start: h.start},
		Parent: event.Key{
			PID:   u32(b, unsafe.Offsetof(at.ParentTgid)),
			Start: u64(b, unsafe.Offsetof(at.ParentStart)),
		},
		ContainerPID: u32(b, unsafe.Offsetof(at.InnermostTgid)),
		UID:          u32(b, unsafe.Offsetof(at.Uid)),
		EUID:         u32(b, unsafe.Offsetof(at.Euid)),
		GID:          u32(b, unsafe.Offsetof(at.Gid)),
		Name:         d.comm(b[unsafe.Offsetof(at.Comm):]),
	}
	if e.Process.Parent.PID == 0 {
		e.Process.Parent = event.Key{} // the idle task: no process
	}
	if h.flags&flagContainer != 0 {
		e.WorkloadID = d.workload(b[unsafe.Offsetof(at.Container):])
		d.inits.note(e.WorkloadID, &e.Process)
	}
	return h, nil
}

// comm reads a task's name from the beginning of b, which is long enough.
func (d *decoder) comm(b []byte) string {
	b = b[:commLen]
	for i, c := range b {
		if c == 0 {
			b = b[:i]
			break
		}
	}
	return d.texts.valid(b)
}

func (d *decoder) workload(b []byte) string {
	var id [2 * containerID]byte
	hex.Encode(id[:], b[:containerID])
	return d.texts.valid(id[:])
}

// joinPath puts a path together from its names as the sensor wrote them: last
// name first, each with its NUL. A path whose beginning is cut doesn't begin
// with a slash; the root is "/".
func (d *decoder) joinPath(names []byte, cut bool) string {
	d.path = d.path[:0]
	for end := len(names) - 1; end >= 0; {
		begin := end
		for begin > 0 && names[begin-1] != 0 {
			begin--
		}
		if len(d.path) > 0 || !cut {
			d.path = append(d.path, '/')
		}
		d.path = append(d.path, names[begin:end]...)
		end = begin - 1
	}
	if len(d.path) == 0 {
		return "/"
	}
	return d.texts.valid(d.path)
}

// maxTexts bounds the texts that are remembered. A node runs the same few
// hundred programs again and again; a program that makes up ever new names
// costs their memory once, until the limit empties the memory.
const maxTexts = 4_096

// maxTextLen keeps long texts out of the memory: with maxTexts it bounds it to
// one MiB.
const maxTextLen = 256

// texts remembers texts, so that one that comes again costs no memory.
type texts map[string]string

// valid returns b as valid UTF-8: what is not is replaced by U+FFFD.
func (t texts) valid(b []byte) string {
	if s, ok := t[string(b)]; ok {
		return s
	}
	s := validText(b)
	if len(b) > maxTextLen {
		return s
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	t[string(b)] = s
	return s
}

func validText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
