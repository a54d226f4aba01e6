package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxFactsValues bounds the values of the facts of one image: two characters of
	// JSON can become a hundred bytes in memory.
	maxFactsValues = 500_000
	maxFactsWindow = 8 << 20
)

// PackFacts compresses the JSON of an image's facts.
func PackFacts(plain []byte) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("ready a compressor: %w", err)
	}
	return z.EncodeAll(plain, nil), z.Close()
}

// UnpackFacts reads what PackFacts wrote, which may be anything: Invalid when it is
// none, or larger than MaxFactsUnpacked.
func UnpackFacts(packed []byte) (f admission.Facts, plain []byte, err error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxFactsUnpacked), zstd.WithDecoderMaxWindow(maxFactsWindow))
	if err != nil {
		return f, nil, fault.New(fault.Invalid, "decompress facts: %w", err)
	}
	defer z.Close()
	plain, err = io.ReadAll(io.LimitReader(z, MaxFactsUnpacked+1))
	if len(plain) > MaxFactsUnpacked || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return f, nil, fault.New(fault.Invalid, "facts are larger than %d MiB when they are decompressed", MaxFactsUnpacked>>20)
	}
	if err != nil {
		return f, nil, fault.New(fault.Invalid, "decompress facts: %w", err)
	}
	if n := bytes.Count(plain, []byte{','}) + bytes.Count(plain, []byte{'{'}) + bytes.Count(plain, []byte{'['}); n > maxFactsValues {
		return f, nil, fault.New(fault.Invalid, "facts have more than %d values", maxFactsValues)
	}
	if err := json.Unmarshal(plain, &f); err != nil {
		return admission.Facts{}, nil, fault.New(fault.Invalid, "read facts: %w", err)
	}
	return f, plain, nil
}
