package layer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzFrames: where a decoder finds a stream cut off, and it is said that all of its
// frames are whole, it is whole without the bytes behind them.
func FuzzFrames(f *testing.F) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	one := enc.EncodeAll(bytes.Repeat([]byte("some text "), 100), nil)
	f.Add(append(bytes.Clone(one), '.'))
	f.Add(append(append(bytes.Clone(one), one...), 0, 0, 0))
	f.Add(one[:len(one)-2])
	f.Add([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abcx"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x20\x03\x1b\x00\x00a(\xb5")) // one byte three times, then half a magic number
	decode := func(t *testing.T, r io.Reader) error {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		_, err = io.Copy(io.Discard, z)
		return err
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := newFrames(bufio.NewReader(bytes.NewReader(data)))
		if err := decode(t, fr); !errors.Is(err, io.ErrUnexpectedEOF) || !fr.trailing() {
			return
		}
		if err := decode(t, bytes.NewReader(data[:len(data)-len(fr.field)])); err != nil {
			t.Errorf("said to be whole: %v", err)
		}
	})
}
