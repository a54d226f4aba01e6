package vulndb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// textWriter compresses texts block by block into a file of its own, because
// they come while another section is being written.
type textWriter struct {
	f       *os.File
	w       *bufio.Writer
	encoder *zstd.Encoder
	block   []byte
	packed  []byte
	index   []byte
	at      uint64
}

// textBlock is how many bytes of texts are compressed together: larger ones are
// smaller in all, but a finding costs the time to decompress one.
const textBlock = 16 << 10

func newTextWriter(dir string) (*textWriter, error) {
	f, err := os.CreateTemp(dir, "texts-*")
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &textWriter{f: f, w: bufio.NewWriter(f), encoder: encoder}, nil
}

// add returns where the text will be: the number of the block, one higher than it
// is, and the offset within. No text is nowhere.
func (t *textWriter) add(text []byte) (block, offset int, err error) {
	if string(text) == noTexts {
		return 0, 0, nil
	}
	if len(t.block) > 0 && len(t.block)+len(text) > textBlock {
		err = t.flush()
	}
	block, offset = len(t.index)/8+1, len(t.block)
	t.block = append(t.block, text...)
	return block, offset, err
}

func (t *textWriter) flush() error {
	t.packed = t.encoder.EncodeAll(t.block, t.packed[:0])
	t.block = t.block[:0]
	t.index = binary.LittleEndian.AppendUint64(t.index, t.at)
	t.at += uint64(len(t.packed))
	_, err := t.w.Write(t.packed)
	return err
}

// copyTo writes the index and the blocks.
func (t *textWriter) copyTo(w *writing) error {
	if len(t.block) > 0 {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.index = binary.LittleEndian.AppendUint64(t.index, t.at) // where the last one ends
	if err := w.whole(sectionBlockIndex, t.index); err != nil {
		return err
	}
	if err := t.w.Flush(); err != nil {
		return err
	}
	if _, err := t.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w.begin(sectionBlocks)
	if _, err := io.Copy(w, bufio.NewReader(t.f)); err != nil {
		return err
	}
	return w.end(sectionBlocks)
}

func (t *textWriter) close() error {
	return errors.Join(t.encoder.Close(), t.f.Close(), os.Remove(t.f.Name()))
}
