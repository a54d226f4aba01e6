package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// objects are the programs of all sensors and guards, as they are in this program's
// file. Nothing writes to them.
func objects() [][]byte {
	return [][]byte{
		_DnsBytes, _FileBytes, _GuardExecBytes, _GuardFileBytes, _GuardPrivilegeBytes, _MemoryBytes, _NetguardBytes,
		_NetworkBytes, _PacketBytes, _PrivilegeBytes, _ProcessBytes, _ResourceBytes, _RunningBytes, _SyscallBytes, _UsedcapBytes,
	}
}

// LetGoOfObjects unmaps what this process has mapped of the programs that it loads into
// the kernel, which it has no use for afterwards: they are read from its own file again
// when they are. It may be called at any time.
func LetGoOfObjects() error {
	var errs []error
	for _, o := range objects() {
		pages := wholePages(o)
		if len(pages) == 0 {
			continue
		}
		// The mapping is private and these pages are as in the file: what is read next
		// is the same. Pages that hold something else too are left out.
		if err := unix.Madvise(pages, unix.MADV_DONTNEED); err != nil {
			errs = append(errs, fmt.Errorf("unmap %d bytes of programs of the kernel: %w", len(pages), err))
		}
	}
	return errors.Join(errs...)
}

// wholePages are the pages that hold nothing but b.
func wholePages(b []byte) []byte {
	size := uintptr(unix.Getpagesize())
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := -begin & (size - 1)
	end := (begin + uintptr(len(b))) &^ (size - 1)
	if end < begin+skip || uintptr(len(b)) < skip {
		return nil
	}
	return b[skip : end-begin]
}
