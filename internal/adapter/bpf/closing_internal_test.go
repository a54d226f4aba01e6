package bpf

import (
	"context"
	"encoding/binary"
	"testing"
	"unsafe"
)

// After the end what was there before it is read, and no more than one of what comes.
func TestClosing(t *testing.T) {
	at := func(boot uint64) []byte {
		record := make([]byte, headerLen)
		binary.LittleEndian.PutUint64(record[unsafe.Offsetof(processHeader{}.Time):], boot)
		return record
	}
	ctx, cancel := context.WithCancel(t.Context())
	var c closing
	const never = 1 << 62
	if c.over(ctx, at(never)) {
		t.Error("over before the end")
	}
	before := bootNow()
	cancel()
	if c.over(ctx, at(before)) {
		t.Error("what was there before the end is not read")
	}
	if c.over(ctx, nil) {
		t.Error("a record without a head ends the reading")
	}
	if !c.over(ctx, at(never)) {
		t.Error("what came after the end is read on and on")
	}
}
