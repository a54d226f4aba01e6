package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxWindow bounds what a decompressor keeps of what it has read.
const maxWindow = 8 << 20

// pack compresses JSON that is read in one piece.
func pack(plain []byte) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("ready a compressor: %w", err)
	}
	return z.EncodeAll(plain, nil), z.Close()
}

// unpack reads what pack wrote, which may be anything: Invalid when it is none, has
// more than most bytes, or more than so many values, each of which can become a
// hundred bytes in memory.
func unpack(what string, packed []byte, most, values int) ([]byte, error) {
	plain, err := inflate(what, packed, most)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(plain, []byte{','}) + bytes.Count(plain, []byte{'{'}) + bytes.Count(plain, []byte{'['}); n > values {
		return nil, fault.New(fault.Invalid, "%s have more than %d values", what, values)
	}
	return plain, nil
}

// inflate is unpack for what may have any number of values.
func inflate(what string, packed []byte, most int) ([]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(most)), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fault.New(fault.Invalid, "decompress %s: %w", what, err)
	}
	defer z.Close()
	plain, err := io.ReadAll(io.LimitReader(z, int64(most)+1))
	if len(plain) > most || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, fault.New(fault.Invalid, "%s are larger than %d MiB when they are decompressed", what, most>>20)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "decompress %s: %w", what, err)
	}
	return plain, nil
}
