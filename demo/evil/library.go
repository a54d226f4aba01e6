package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
)

// runLibrary prints a shared object: the smallest that a dynamic loader takes,
// put together by hand so that no compiler is needed.
func runLibrary(_ context.Context, args []string) error {
	if err := need(args, 2); err != nil {
		return err
	}
	code, err := writerCode(args[0], args[1]+"\n", toCaller)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(sharedObject(code))
	return err
}

// Sizes and numbers of the ELF format (System V ABI, 64 bits).
const (
	headerSize  = 64
	segmentSize = 56
	pageSize    = 0x10000 // no machine has larger pages

	typeShared  = 3
	machineX86  = 62
	loadSegment = 1
	dynSegment  = 2
	stackNotes  = 0x6474e551 // PT_GNU_STACK: without it glibc would want an executable stack

	tagEnd      = 0
	tagStrings  = 5
	tagSymbols  = 6
	tagStrSize  = 10
	tagSymSize  = 11
	tagInit     = 12
	symbolSize  = 24
	readable    = 4
	writable    = 2
	executable  = 1
	dynEntries  = 6
	dynOffset   = pageSize // the second page of the file and of memory
	dynamicSize = dynEntries * 16
)

// sharedObject wraps code, which runs when the object is loaded (DT_INIT), in
// an ELF file: one page to execute with headers, code and an empty symbol
// table, one to write with the dynamic section.
func sharedObject(code []byte) []byte {
	const segments = 4
	codeAt := uint64(headerSize + segments*segmentSize)
	symbolsAt := (codeAt + uint64(len(code)) + 7) &^ 7
	stringsAt := symbolsAt + symbolSize
	end := stringsAt + 1

	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&b, binary.LittleEndian, v) //nolint:errcheck // a buffer takes everything
		}
	}
	put([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9))
	put(uint16(typeShared), uint16(machineX86), uint32(1), uint64(0), uint64(headerSize), uint64(0))
	put(uint32(0), uint16(headerSize), uint16(segmentSize), uint16(segments), uint16(64), uint16(0), uint16(0))

	segment := func(kind, flags uint32, at, size uint64) {
		put(kind, flags, at, at, at, size, size, uint64(pageSize))
	}
	segment(loadSegment, readable|executable, 0, end)
	segment(loadSegment, readable|writable, dynOffset, dynamicSize)
	segment(dynSegment, readable|writable, dynOffset, dynamicSize)
	segment(stackNotes, readable|writable, 0, 0)

	put(code)
	put(make([]byte, int(symbolsAt)-b.Len()), make([]byte, symbolSize), byte(0))
	put(make([]byte, dynOffset-b.Len()))
	put(uint64(tagInit), codeAt, uint64(tagSymbols), symbolsAt, uint64(tagStrings), stringsAt,
		uint64(tagStrSize), uint64(1), uint64(tagSymSize), uint64(symbolSize), uint64(tagEnd), uint64(0))
	return b.Bytes()
}
