package db

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Forms of a body: what stands behind the first byte.
const (
	bodyPlain  = 0
	bodyPacked = 1
	// worthPacking is from how many bytes on a body is compressed.
	worthPacking = 256
)

// bodyPacker compresses the bodies of one batch. The zero value is ready.
type bodyPacker struct{ z *zstd.Encoder }

func (p *bodyPacker) pack(plain []byte) ([]byte, error) {
	if len(plain) < worthPacking {
		return append([]byte{bodyPlain}, plain...), nil
	}
	if p.z == nil {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("ready a compressor: %w", err)
		}
		p.z = z
	}
	return p.z.EncodeAll(plain, []byte{bodyPacked}), nil
}

func (p *bodyPacker) close() {
	if p.z != nil {
		_ = p.z.Close() // it has nothing to write
	}
}

// bodyOpener opens bodies. The zero value is ready.
type bodyOpener struct{ z *zstd.Decoder }

// maxBody bounds a body that is opened: a damaged file must not take the memory
// that it claims to need.
const maxBody = store.MaxAdmissionFacts

func (o *bodyOpener) open(packed []byte) ([]byte, error) {
	switch {
	case len(packed) == 0:
		return nil, fault.New(fault.Corrupt, "a body is empty")
	case packed[0] == bodyPlain:
		return packed[1:], nil
	case packed[0] != bodyPacked:
		return nil, fault.New(fault.Corrupt, "a body has the form %d", packed[0])
	}
	if o.z == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody))
		if err != nil {
			return nil, fmt.Errorf("ready a decompressor: %w", err)
		}
		o.z = z
	}
	plain, err := o.z.DecodeAll(packed[1:], nil)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "decompress a body: %w", err)
	}
	return plain, nil
}

func (o *bodyOpener) close() {
	if o.z != nil {
		o.z.Close()
	}
}

// clip makes a text one that a line or a term can have.
func clip(s string) string {
	if len(s) <= maxLineText && untrusted.Storable(s) {
		return s
	}
	return untrusted.Clip(s, maxLineText)
}
