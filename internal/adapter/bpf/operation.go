package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

// Of file.bpf.c: what stands for an argument that a call doesn't have.
const (
	noDir = 6 // the working directory
	noArg = 7
)

// Options of struct operation in file.bpf.c.
const (
	operationFollows = 1 << iota // a symbolic link that the last name is
	operationOpen                // the file is open: argument 0
	operationFolder              // what is made or removed is a folder
	operationNarrow              // users and groups have 16 bits
)

// pathCalls are the calls that change a file by its path or descriptor: the
// places of their arguments, from man 2. A name of which two paths are passed
// has the second as to.
var pathCalls = map[string]fileOperation{
	"rename":    {Kind: uint8(fileKindKIND_RENAME), Dir: noDir, Name: 0, ToDir: noDir, ToName: 1},
	"renameat":  {Kind: uint8(fileKindKIND_RENAME), Dir: 0, Name: 1, ToDir: 2, ToName: 3},
	"renameat2": {Kind: uint8(fileKindKIND_RENAME), Dir: 0, Name: 1, ToDir: 2, ToName: 3},
	"link":      {Kind: uint8(fileKindKIND_LINK), Dir: noDir, Name: 0, ToDir: noDir, ToName: 1},
	"linkat":    {Kind: uint8(fileKindKIND_LINK), Dir: 0, Name: 1, ToDir: 2, ToName: 3, AtFlags: 4},
	"symlink":   {Kind: uint8(fileKindKIND_SYMLINK), Dir: noDir, Name: 0, ToDir: noDir, ToName: 1},
	"symlinkat": {Kind: uint8(fileKindKIND_SYMLINK), Dir: noDir, Name: 0, ToDir: 1, ToName: 2},
	"unlink":    {Kind: uint8(fileKindKIND_DELETE), Dir: noDir, Name: 0},
	"rmdir":     {Kind: uint8(fileKindKIND_DELETE), Dir: noDir, Name: 0, Options: operationFolder},
	"unlinkat":  {Kind: uint8(fileKindKIND_DELETE), Dir: 0, Name: 1, AtFlags: 2},
	"mkdir":     {Kind: uint8(fileKindKIND_CREATE), Dir: noDir, Name: 0, Mode: 1, Options: operationFolder},
	"mkdirat":   {Kind: uint8(fileKindKIND_CREATE), Dir: 0, Name: 1, Mode: 2, Options: operationFolder},
	"mknod":     {Kind: uint8(fileKindKIND_CREATE), Dir: noDir, Name: 0, Mode: 1},
	"mknodat":   {Kind: uint8(fileKindKIND_CREATE), Dir: 0, Name: 1, Mode: 2},

	"chmod":     {Kind: uint8(fileKindKIND_CHMOD), Dir: noDir, Name: 0, Mode: 1, Options: operationFollows},
	"fchmod":    {Kind: uint8(fileKindKIND_CHMOD), Mode: 1, Options: operationOpen},
	"fchmodat":  {Kind: uint8(fileKindKIND_CHMOD), Dir: 0, Name: 1, Mode: 2, Options: operationFollows},
	"fchmodat2": {Kind: uint8(fileKindKIND_CHMOD), Dir: 0, Name: 1, Mode: 2, AtFlags: 3, Options: operationFollows},
	"chown":     {Kind: uint8(fileKindKIND_CHOWN), Dir: noDir, Name: 0, Owner: 1, Options: operationFollows},
	"chown32":   {Kind: uint8(fileKindKIND_CHOWN), Dir: noDir, Name: 0, Owner: 1, Options: operationFollows},
	"lchown":    {Kind: uint8(fileKindKIND_CHOWN), Dir: noDir, Name: 0, Owner: 1},
	"lchown32":  {Kind: uint8(fileKindKIND_CHOWN), Dir: noDir, Name: 0, Owner: 1},
	"fchown":    {Kind: uint8(fileKindKIND_CHOWN), Owner: 1, Options: operationOpen},
	"fchown32":  {Kind: uint8(fileKindKIND_CHOWN), Owner: 1, Options: operationOpen},
	"fchownat":  {Kind: uint8(fileKindKIND_CHOWN), Dir: 0, Name: 1, Owner: 2, AtFlags: 4, Options: operationFollows},

	"truncate":    {Kind: uint8(fileKindKIND_TRUNCATE), Dir: noDir, Name: 0, Options: operationFollows},
	"truncate64":  {Kind: uint8(fileKindKIND_TRUNCATE), Dir: noDir, Name: 0, Options: operationFollows},
	"ftruncate":   {Kind: uint8(fileKindKIND_TRUNCATE), Options: operationOpen},
	"ftruncate64": {Kind: uint8(fileKindKIND_TRUNCATE), Options: operationOpen},
}

// openCalls are the calls that open a file.
var openCalls = map[string]fileOperation{
	"open":              {Kind: uint8(fileOpeningOPENING_OPEN)},
	"openat":            {Kind: uint8(fileOpeningOPENING_AT)},
	"openat2":           {Kind: uint8(fileOpeningOPENING_HOW)},
	"creat":             {Kind: uint8(fileOpeningOPENING_CREAT)},
	"open_by_handle_at": {Kind: uint8(fileOpeningOPENING_HANDLE)},
}

// namesOf lists the calls of a table.
func namesOf(calls map[string]fileOperation) []string {
	return slices.Sorted(maps.Keys(calls))
}

// withoutZeros writes what stands for a missing argument where the table above
// says nothing: only the places of names, folders and what follows from the
// kind can be 0.
func withoutZeros(o fileOperation) fileOperation {
	if fileKind(o.Kind) != fileKindKIND_RENAME && fileKind(o.Kind) != fileKindKIND_LINK && fileKind(o.Kind) != fileKindKIND_SYMLINK {
		o.ToDir, o.ToName = noDir, noArg
	}
	for _, place := range []*uint8{&o.Mode, &o.Owner, &o.AtFlags} {
		if *place == 0 {
			*place = noArg
		}
	}
	return o
}

// putOperations fills the kernel's table of these calls.
func putOperations(operations *ebpf.Map) error {
	put := func(slot uint32, o fileOperation) error {
		if err := operations.Put(slot, o); err != nil {
			return fmt.Errorf("describe system call %d: %w", slot, err)
		}
		return nil
	}
	for _, table := range []map[string]fileOperation{openCalls, pathCalls} {
		for name, o := range table {
			o = withoutZeros(o)
			if n, ok := callNumbers[name]; ok {
				if err := put(n, o); err != nil {
					return err
				}
			}
			n, ok := compatCallNumbers[name]
			if !ok {
				continue
			}
			switch name {
			case "chown", "lchown", "fchown":
				o.Options |= operationNarrow
			}
			if err := put(compatCalls+n, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// putSeed gives the hashes of names a beginning that nobody knows, once.
func putSeed(jobs *ebpf.Map) error {
	var perCPU []fileJob
	if err := jobs.Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read the seed of hashes: %w", err)
	}
	if len(perCPU) > 0 && perCPU[0].Seed != 0 {
		return nil
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("make a seed for hashes: %w", err)
	}
	for i := range perCPU {
		perCPU[i].Seed = binary.LittleEndian.Uint64(b[:]) | 1
	}
	if err := jobs.Put(uint32(0), perCPU); err != nil {
		return fmt.Errorf("set the seed of hashes: %w", err)
	}
	return nil
}

// callOfSlot returns the name of the call at a place of the kernel's table,
// which may be any number.
func callOfSlot(slot uint16) string {
	if uint32(slot) >= compatCalls {
		return callName((slot - uint16(compatCalls)) | callCompat)
	}
	return callName(slot)
}
