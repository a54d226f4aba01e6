package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

// Offsets within the code of writerCode, whose text and file name follow it.
type writer struct {
	code []byte
	// fileAt, textAt and sizeAt are where the code holds the distance to the
	// file's name and to the text, counted from the end of that field, and the
	// text's length; four bytes each.
	fileAt, textAt, sizeAt int
}

// writerAMD64 opens a file (created, mode 0600, O_NOFOLLOW), writes a text and
// closes it, and then does what the byte after it says: return to a loader, or
// trap to a tracer. It keeps no register, but the caller of a constructor and
// a tracer expect none kept that it changes.
var writerAMD64 = writer{
	code: []byte{
		0x48, 0x8d, 0x3d, 0, 0, 0, 0, // lea rdi, [rip+file]
		0xbe, 0x41, 0x02, 0x02, 0x00, // mov esi, O_WRONLY|O_CREAT|O_TRUNC|O_NOFOLLOW
		0xba, 0x80, 0x01, 0x00, 0x00, // mov edx, 0600
		0xb8, 0x02, 0x00, 0x00, 0x00, // mov eax, 2 (open)
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x78, 0x1e, // js over the rest
		0x50,       // push rax
		0x89, 0xc7, // mov edi, eax
		0x48, 0x8d, 0x35, 0, 0, 0, 0, // lea rsi, [rip+text]
		0xba, 0, 0, 0, 0, // mov edx, size
		0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
		0x0f, 0x05, // syscall
		0x5f,                         // pop rdi
		0xb8, 0x03, 0x00, 0x00, 0x00, // mov eax, 3 (close)
		0x0f, 0x05, // syscall
	},
	fileAt: 3, textAt: 34, sizeAt: 39,
}

// The last instruction of the code.
const (
	toCaller = 0xc3 // ret
	toTracer = 0xcc // int3
)

// writerCode returns machine code that can stand anywhere in memory.
func writerCode(file, text string, last byte) ([]byte, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("there is code for amd64 only, not for %s", runtime.GOARCH)
	}
	w := writerAMD64
	code := append(bytes.Clone(w.code), last)
	fileStart := len(code)
	code = append(code, file+"\x00"...)
	textStart := len(code)
	code = append(code, text...)
	binary.LittleEndian.PutUint32(code[w.fileAt:], uint32(fileStart-w.fileAt-4))
	binary.LittleEndian.PutUint32(code[w.textAt:], uint32(textStart-w.textAt-4))
	binary.LittleEndian.PutUint32(code[w.sizeAt:], uint32(len(text)))
	return code, nil
}
