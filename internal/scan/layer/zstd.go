package layer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/klauspost/compress/zstd"
)

// How far back a zstd stream may refer, which is what a decoder must hold.
const (
	// usualWindow is what builders of images need at their usual levels.
	usualWindow = 8 << 20
	// laterWindow is what a frame may need that is not the first one: some
	// builders begin with small frames. The zstd command needs so much at its
	// highest level but one.
	laterWindow = 32 << 20
	// maxWindow is what the first frame may need: as much as the highest level
	// of the zstd command uses.
	maxWindow = 128 << 20
	// maxIdle is how many decoders are kept for the next layers.
	maxIdle = 4
)

// decoders lends decoders to the layers of one scan. They are used again and
// again: the garbage of one would be there while the next layer is read.
type decoders struct {
	idle chan *zstd.Decoder
	wide chan struct{} // a layer that needs more than usualWindow has it, one at a time
}

func newDecoders() *decoders {
	return &decoders{idle: make(chan *zstd.Decoder, maxIdle), wide: make(chan struct{}, 1)}
}

// unzstd decodes in this goroutine alone: layers are read in parallel, and
// memory counts. verified says that the digest of what is read will be compared,
// which makes the checksums of frames needless: they say less of the same bytes.
func (d *decoders) unzstd(ctx context.Context, r *bufio.Reader, w io.Writer, verified bool) error {
	window := windowOf(r)
	most := uint64(laterWindow)
	if window > usualWindow {
		select {
		case d.wide <- struct{}{}:
			defer func() { <-d.wide }()
		case <-ctx.Done():
			return ctx.Err()
		}
		most = maxWindow
	}
	f := newFrames(r)
	z, err := d.take(f, zstd.WithDecoderMaxWindow(most), zstd.IgnoreChecksum(verified))
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	_, err = z.WriteTo(w)
	d.give(z, window)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fault.New(fault.Unsupported, "layer needs more than %d MiB of memory to be decompressed: %w", most>>20, err).
			With("build the image again with a zstd window of at most 8 MiB")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && f.trailing() {
		return errTrailing
	}
	return err
}

// windowOf is what the first frame needs, 0 if that cannot be told: reading will
// say why.
func windowOf(r *bufio.Reader) uint64 {
	var h zstd.Header
	b, _ := r.Peek(zstd.HeaderMaxSize) // less if the layer is shorter
	if err := h.Decode(b); err != nil || h.Skippable {
		return 0
	}
	if h.SingleSegment {
		return h.FrameContentSize
	}
	return h.WindowSize
}

// take returns a decoder of r.
func (d *decoders) take(r io.Reader, o ...zstd.DOption) (*zstd.Decoder, error) {
	select {
	case z := <-d.idle:
		return z, z.ResetWithOptions(r, o...)
	default:
	}
	return zstd.NewReader(r, append(o, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))...)
}

// give keeps a decoder for another layer, unless it holds more than most need.
func (d *decoders) give(z *zstd.Decoder, window uint64) {
	if err := z.Reset(nil); err != nil || window > usualWindow {
		z.Close()
		return
	}
	select {
	case d.idle <- z:
	default:
		z.Close()
	}
}
