package bpf

import (
	"context"
	"unsafe"
)

// closing says up to which record a ring buffer is read after its context has ended:
// into one of a busy host more may come than is read, and it would never be empty.
type closing struct{ from uint64 } // nanoseconds since boot; 0: not yet

// over reports whether a record is of after the end of ctx. Those before it, which the
// kernel had handed over, are still to be read.
func (c *closing) over(ctx context.Context, record []byte) bool {
	if ctx.Err() == nil {
		return false
	}
	if c.from == 0 {
		c.from = bootNow()
	}
	return len(record) >= headerLen && u64(record, unsafe.Offsetof(processHeader{}.Time)) > c.from
}
