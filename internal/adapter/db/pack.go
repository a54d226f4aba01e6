package db

import (
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxPacked bounds what one packed row may hold when it is opened: a damaged
// file must not take the memory that it claims to need.
const maxPacked = 512 << 20

// pack returns a value as JSON compressed with zstd.
func pack(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	return e.EncodeAll(plain, nil), e.Close()
}

// unpack reads what pack wrote; an error says that the file at path is damaged.
func unpack(path string, packed []byte, v any) error {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPacked))
	if err != nil {
		return fmt.Errorf("ready a decoder: %w", err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(packed, nil)
	if err == nil {
		err = json.Unmarshal(plain, v)
	}
	if err != nil {
		return corrupt(path, fmt.Errorf("decode a packed row: %w", err))
	}
	return nil
}
