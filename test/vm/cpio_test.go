package vm_test

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/vm"
)

// entry is one entry of an archive as the kernel reads it.
type entry struct {
	Name         string
	Mode         uint64
	Major, Minor uint64
	Content      string
}

// unpack reads an archive the way of the kernel's init/initramfs.c.
func unpack(t *testing.T, b []byte) []entry {
	t.Helper()
	var all []entry
	for {
		const headerLen = 110
		if len(b) < headerLen || string(b[:6]) != "070701" {
			t.Fatalf("no header at %.20q", b)
		}
		var fields [13]uint64
		for i := range fields {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			fields[i] = n
		}
		size, nameSize := int(fields[6]), int(fields[11])
		align := func(n int) int { return (n + 3) &^ 3 }
		data := align(headerLen + nameSize)
		name := string(b[headerLen : headerLen+nameSize-1])
		if name == "TRAILER!!!" {
			return all
		}
		all = append(all, entry{name, fields[1], fields[9], fields[10], string(b[data : data+size])})
		b = b[data+align(size):]
	}
}

func TestArchive(t *testing.T) {
	var out bytes.Buffer
	a := vm.NewArchive(&out)
	a.Device("dev/console", 5, 1)
	a.File("/bin/tool", 0o755, []byte("hello"))
	a.File("bin/other", 0o644, nil)
	a.Dir("/bin/")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{Name: "dev", Mode: 0o040755},
		{Name: "dev/console", Mode: 0o020600, Major: 5, Minor: 1},
		{Name: "bin", Mode: 0o040755},
		{Name: "bin/tool", Mode: 0o100755, Content: "hello"},
		{Name: "bin/other", Mode: 0o100644},
	}
	if diff := cmp.Diff(want, unpack(t, out.Bytes())); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestArchiveKeepsFirstError(t *testing.T) {
	a := vm.NewArchive(full{})
	a.File("bin/tool", 0o755, []byte("hello"))
	if err := a.Close(); !errors.Is(err, errFull) {
		t.Errorf("Close = %v, want %v", err, errFull)
	}
}
