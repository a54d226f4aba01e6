package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/castellan-security/castellan/internal/event"
)

// Names of environ.bpf.h.
const (
	variablesMap   = "variables"
	variableMarks  = "variable_marks"
	variableBits   = 10
	variableFactor = 0x9e3779b97f4a7c15
	shortVariable  = "ENV" // the kernel side knows it by itself
)

// lookForVariables has the programs look for the variables that events tell of.
func lookForVariables(spec *ebpf.CollectionSpec) error {
	names, marks := spec.Maps[variablesMap], spec.Variables[variableMarks]
	if names == nil || marks == nil {
		return errors.New("the programs of execs look for no variables")
	}
	var bits [(1 << variableBits) / 64]uint64
	for word := range firstWords() {
		bit := word * variableFactor >> (64 - variableBits)
		bits[bit/64] |= 1 << (bit % 64)
		names.Contents = append(names.Contents, ebpf.MapKV{Key: word, Value: uint8(1)})
	}
	if err := marks.Set(bits); err != nil {
		return fmt.Errorf("set the variables that are looked for: %w", err)
	}
	return nil
}

// firstWords returns the first eight bytes that the variables begin with.
func firstWords() map[uint64]bool {
	words := map[uint64]bool{}
	for _, name := range event.Variables() {
		if name == shortVariable {
			continue
		}
		words[binary.LittleEndian.Uint64([]byte((name + "=")[:8]))] = true
	}
	return words
}

// decodeEnvironment reads variables, each with its NUL. The kernel side looks at the
// first bytes of names only: of what begins so and is another, nothing is kept.
func decodeEnvironment(d *decoder, b []byte) []string {
	var out []string
	for len(b) > 0 {
		one := untilNUL(b)
		b = b[min(len(one)+1, len(b)):]
		v, ok := event.Variable(d.texts.valid(one))
		if ok && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// streamKinds are the words for enum stream_kind.
var streamKinds = map[processStreamKind]event.StreamKind{
	processStreamKindSTREAM_NONE: event.StreamNone, processStreamKindSTREAM_FILE: event.StreamFile,
	processStreamKindSTREAM_FOLDER: event.StreamFolder, processStreamKindSTREAM_PIPE: event.StreamPipe,
	processStreamKindSTREAM_TERMINAL: event.StreamTerminal, processStreamKindSTREAM_NULL: event.StreamNull,
	processStreamKindSTREAM_DEVICE: event.StreamDevice, processStreamKindSTREAM_TCP: event.StreamTCP,
	processStreamKindSTREAM_UDP: event.StreamUDP, processStreamKindSTREAM_UNIX: event.StreamUnix,
	processStreamKindSTREAM_SOCKET: event.StreamSocket, processStreamKindSTREAM_OTHER: event.StreamOther,
}

// decodeStreams reads the first three descriptors of an exec; none where nobody
// looked at them.
func decodeStreams(b []byte) []event.Stream {
	var at processStream
	if b[unsafe.Offsetof(at.Kind)] == 0 {
		return nil
	}
	out := make([]event.Stream, event.Streams)
	for i := range out {
		s := &out[i]
		s.Kind = streamKinds[processStreamKind(b[unsafe.Offsetof(at.Kind)])]
		s.Inode = u64(b, unsafe.Offsetof(at.Inode))
		if port := u16(b, unsafe.Offsetof(at.Port)); port != 0 {
			s.Remote = addrPort(b[unsafe.Offsetof(at.Remote):][:len(at.Remote)], port)
		}
		b = b[unsafe.Sizeof(at):]
	}
	return out
}
