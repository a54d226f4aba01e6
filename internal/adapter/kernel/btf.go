package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Kinds of BTF types; Documentation/bpf/btf.rst.
const (
	btfTypedef = 8
	btfFunc    = 12
)

// btfLimit bounds what is read of the kernel's own types: 4 to 7 MiB on the
// kernels of distributions.
const btfLimit = 64 << 20

// btfHeader begins the types; all parts follow it.
type btfHeader struct {
	Magic                                    uint16
	Version, Flags                           uint8
	Length                                   uint32
	TypesAt, TypesLen, StringsAt, StringsLen uint32
}

const btfMagic = 0xeb9f

// btfID returns the number of the type with that kind and name. It is little
// endian only, as are the machines.
func btfID(file []byte, kind uint32, name string) (uint32, error) {
	types, names, err := btfParts(file)
	if err != nil {
		return 0, fmt.Errorf("read BTF: %w", err)
	}
	const typeLen = 12 // name, kind and count of members, size or type
	for id := uint32(1); len(types) >= typeLen; id++ {
		nameAt := binary.LittleEndian.Uint32(types)
		info := binary.LittleEndian.Uint32(types[4:])
		types = types[typeLen:]
		k, members := info>>24&0x1f, int(info&0xffff)
		if k == kind && isStringAt(names, nameAt, name) {
			return id, nil
		}
		more, ok := btfMore(k, members)
		if !ok || more > len(types) {
			return 0, fmt.Errorf("read BTF: type %d of kind %d is not known or cut", id, k)
		}
		types = types[more:]
	}
	return 0, fmt.Errorf("this kernel has no %s", name)
}

// btfParts cuts a file into types and strings.
func btfParts(file []byte) (types, names []byte, err error) {
	var h btfHeader
	if _, err := binary.Decode(file, binary.LittleEndian, &h); err != nil {
		return nil, nil, err
	}
	if h.Magic != btfMagic {
		return nil, nil, errors.New("it does not begin as BTF does")
	}
	part := func(at, length uint32) ([]byte, bool) {
		begin, end := uint64(h.Length)+uint64(at), uint64(h.Length)+uint64(at)+uint64(length)
		if end > uint64(len(file)) {
			return nil, false
		}
		return file[begin:end], true
	}
	types, ok := part(h.TypesAt, h.TypesLen)
	if !ok {
		return nil, nil, errors.New("the types are cut")
	}
	if names, ok = part(h.StringsAt, h.StringsLen); !ok {
		return nil, nil, errors.New("the strings are cut")
	}
	return types, names, nil
}

// btfMore is how many bytes follow a type of that kind.
func btfMore(kind uint32, members int) (int, bool) {
	switch kind {
	case 1, 14, 17: // INT, VAR, DECL_TAG
		return 4, true
	case 3: // ARRAY
		return 12, true
	case 4, 5, 15, 19: // STRUCT, UNION, DATASEC, ENUM64
		return members * 12, true
	case 6, 13: // ENUM, FUNC_PROTO
		return members * 8, true
	case 2, 7, btfTypedef, 9, 10, 11, btfFunc, 16, 18: // PTR, FWD, …, FLOAT, TYPE_TAG
		return 0, true
	}
	return 0, false
}

func isStringAt(names []byte, at uint32, want string) bool {
	if uint64(at)+uint64(len(want)) >= uint64(len(names)) {
		return false
	}
	rest := names[at:]
	return bytes.HasPrefix(rest, []byte(want)) && rest[len(want)] == 0
}
