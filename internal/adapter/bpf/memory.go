package bpf

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/castellan-security/castellan/internal/event"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type mapping -type kind -type flag memory memory.bpf.c -- -O2 -Wall -Werror -mcpu=v2

const mappingLen = int(unsafe.Sizeof(memoryMapping{}))

// memorySensor reports code in containers that is not of the image: files that
// were written later, or are on a mount, and are mapped as code by anything but
// an exec; memory that can be or was written and becomes code; and files
// without a name. Of a file that is mapped to be read and made code afterwards
// nothing is told; guards hold it.
//
// What compiles at run time does the second all the time, so one program of one
// container is one event a window, whatever the addresses. Kernels before 5.17
// cannot be asked what memory it is: there, all that is made executable after
// it was mapped is told.
func memorySensor() sensor {
	return sensor{
		name:   "memory",
		number: 6, // SENSOR_MEMORY
		spec:   loadMemoryFor,
		decode: decodeMemory,
		calls: map[string][]string{
			"on_mmap":         {"mmap", "mmap2"},
			"on_protect":      {"mprotect", "pkey_mprotect"},
			"on_protect_area": {"mprotect", "pkey_mprotect"},
			"on_shmat":        {"shmat"},
			"on_memfd":        {"memfd_create"},
			"on_old_mmap":     {"old_mmap"},
		},
	}
}

// loadMemoryFor leaves out the program that the running kernel can't have, or
// doesn't need.
func loadMemoryFor() (*ebpf.CollectionSpec, error) {
	spec, err := loadMemory()
	if err != nil {
		return nil, err
	}
	left := "on_protect"
	if !hasHelper("BPF_FUNC_find_vma") {
		left = "on_protect_area"
	}
	delete(spec.Programs, left)
	return spec, nil
}

// hasHelper asks the kernel's own description for a helper by its name in enum
// bpf_func_id; without one the sensors don't load anyway.
func hasHelper(name string) bool {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var helpers *btf.Enum
	if err := kernel.TypeByName("bpf_func_id", &helpers); err != nil {
		return false
	}
	return slices.ContainsFunc(helpers.Values, func(v btf.EnumValue) bool { return v.Name == name })
}

// Protections of mmap(2).
const (
	protRead = 1 << iota
	protWrite
	protExecute
)

// decodeMemory reads one record of the memory sensor into e.
func decodeMemory(d *decoder, b []byte, e *event.Event) error {
	h, err := d.head(b, e)
	if err != nil {
		return err
	}
	var at memoryMapping
	if len(b) < mappingLen {
		return errShort
	}
	path := b[mappingLen:]
	n := int(u16(b, unsafe.Offsetof(at.PathLen)))
	if n > len(path) {
		return errShort
	}
	path = path[:n]
	m := &event.Memory{
		Call:   callOfSlot(u16(b, unsafe.Offsetof(at.Call))),
		Origin: originOf(processOrigin(b[unsafe.Offsetof(at.Origin)])),
		Layer:  event.Layer{Number: u16(b, unsafe.Offsetof(at.Layer)), Of: u16(b, unsafe.Offsetof(at.Layers))},
		Length: u64(b, unsafe.Offsetof(at.Length)),
	}
	e.Memory = m
	protection := u32(b, unsafe.Offsetof(at.Protection))
	for _, p := range []struct {
		bit  uint32
		word string
	}{{protRead, "read"}, {protWrite, "write"}, {protExecute, "execute"}} {
		if protection&p.bit != 0 {
			m.Protection = append(m.Protection, p.word)
		}
	}
	switch memoryKind(h.kind) {
	case memoryKindKIND_MAP:
		e.Kind = event.KindExecMap
	case memoryKindKIND_PROTECT:
		e.Kind = event.KindExecProtect
	case memoryKindKIND_MEMFD:
		e.Kind = event.KindMemfd
		m.Path = d.texts.valid(untilNUL(path))
		return nil
	default:
		return fmt.Errorf("unknown kind %d", h.kind)
	}
	if n > 0 {
		m.Path = d.joinPath(path, h.flags&uint32(memoryFlagFLAG_PATH_CUT) != 0)
	}
	return nil
}
