package kernel

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/need"
)

// A kernel with BTF takes a program at exec, and refuses kinds by name.
func TestTryBPF(t *testing.T) {
	need.BPF(t, "tp_btf")
	h := New(Options{})
	if err := h.tryBPF(probeTPBTF); err != nil {
		t.Errorf("tp_btf: %v, want that it is taken", err)
	}
	if err := h.tryBPF(probeCgroup); err != nil {
		t.Errorf("cgroup: %v, want that it is taken", err)
	}
	if err := h.tryBPF("nonsense"); err == nil {
		t.Error("a kind that does not exist was taken")
	}
	// What a kernel refuses it must refuse by a number that we can name.
	for _, kind := range []string{probeLSM, probeTCX} {
		var number unix.Errno
		if err := h.tryBPF(kind); err != nil && !errors.As(err, &number) {
			t.Errorf("%s: %v, want none or an error number", kind, err)
		}
	}
}

func TestBTFID(t *testing.T) {
	names := "\x00hello\x00other\x00"
	const hello, other = 1, 7
	var types []byte
	add := func(name, kind, members uint32, more int) {
		types = binary.LittleEndian.AppendUint32(types, name)
		types = binary.LittleEndian.AppendUint32(types, kind<<24|members)
		types = binary.LittleEndian.AppendUint32(types, 0)
		types = append(types, make([]byte, more)...)
	}
	add(hello, 4, 3, 36)         // 1: struct hello of three members
	add(other, btfFunc, 0, 0)    // 2
	add(hello, btfFunc, 0, 0)    // 3
	add(0, 13, 2, 16)            // 4: a prototype
	add(hello, btfTypedef, 0, 0) // 5
	file := binary.LittleEndian.AppendUint16(nil, btfMagic)
	file = append(file, 1, 0)
	for _, n := range []int{24, 0, len(types), len(types), len(names)} {
		file = binary.LittleEndian.AppendUint32(file, uint32(n))
	}
	file = append(append(file, types...), names...)

	tests := []struct {
		name string
		file []byte
		kind uint32
		want uint32 // 0 for an error
	}{
		{"function", file, btfFunc, 3},
		{"type of the same name", file, btfTypedef, 5},
		{"absent kind", file, 19, 0},
		{"cut", file[:len(file)-1], btfFunc, 0},
		{"empty", nil, btfFunc, 0},
		{"not BTF", make([]byte, 100), btfFunc, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := btfID(tt.file, tt.kind, "hello")
			if got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("btfID = %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}
