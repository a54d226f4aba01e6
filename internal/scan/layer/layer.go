// Package layer reads the layers of images: each one's stored bytes exactly
// once, decompressed, checked against its digest, walked as a tar archive while
// they pass, and each file offered to the analysers. Nothing is unpacked and no
// file is kept. A folder is read the same way.
//
// What comes out (Result) is all that putting layers together needs, however
// large the layer was, and can be kept by the layer's digest.
//
// It is not for what a container sees, which takes all layers (package scan).
//
// What a container engine unpacks with is the measure: names are cleaned and
// symbolic links on the way followed as containerd does it, duplicate entries
// replace one another, bytes behind the archive's end mark are read for the
// digest and mean nothing. Bytes behind the compressed stream are ignored once
// the archive has ended, as unpigz does it for containerd, also those that begin
// like another stream and are too few to be one (see isTrailing); before that they
// are an error, and so is a stream that breaks off or is damaged behind the
// archive's end.
package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/untar"
)

// Options say how layers and folders are read.
type Options struct {
	Analysers []analyse.Analyser
	Limits    Limits // zero fields take the defaults
	// Budget is shared by all layers of a scan; nil: this layer has its own.
	Budget *Budget
	// Aliases make it a second reading: only the files that they name are
	// offered, under their other names.
	Aliases []Alias
	// Progress is called with the number of stored bytes read since the last
	// call; nil: it is not.
	Progress func(n int)

	grace time.Duration // graceTime, but in tests
}

// Alias is another name of a file or folder, under which analysers are asked:
// what a symbolic link or a hard link makes of it.
type Alias struct {
	Real string // where it is in the archive, symbolic links within the layer followed
	As   string // the name to ask for
	// KeepAs records what is shown under As: a hard link is a file of its own.
	// It is what Real was before the entry of that number, if one is given.
	KeepAs bool
	Before int64
}

// Read reads one layer to its end. l says what is known of it: digest, size and
// DiffID are checked if they are there; a DiffID that is not known is worked out.
// Of a layer in zstd whose digest is checked, the DiffID is not: see decompress.
//
// It returns an error, and no result, if the layer is not what it claims to be
// (fault.Corrupt: another digest or size, cut off, not a tar archive), if a
// limit is reached (fault.Exhausted), if it is compressed in a way that no
// engine takes (fault.Unsupported), and for the errors of r and ctx. What is
// wrong with single files is in the result's problems.
func Read(ctx context.Context, l inventory.Layer, r io.Reader, o Options) (*Result, error) {
	o.Limits = o.Limits.withDefaults()
	in, err := openStored(ctx, l, r, o.Progress)
	if err != nil {
		return nil, err
	}
	c := newCollector(ctx, o)
	tar := untar.New(c)
	out := &meter{to: tar, limit: o.Limits.Bytes, spared: l.Digest != "" && l.DiffID != ""}
	if out.hash, err = newHash(l.DiffID); err != nil {
		return nil, err
	}
	walkErr := decompress(in, out, c.o.Budget.decoders)
	if tar.Ended() && isTrailing(walkErr) {
		walkErr = nil // the archive was whole; its digest is still to be checked
	}
	if walkErr == nil {
		walkErr = tar.Close()
	}
	res, crewErr := c.finish(walkErr)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := verify(l, in, out, walkErr); err != nil {
		return nil, err
	}
	if crewErr != nil {
		return nil, crewErr
	}
	res.Digest, res.Size, res.TarBytes = l.Digest, in.n, out.n
	if out.hash != nil {
		res.DiffID = digestOf(out.hash)
	}
	return res, nil
}

// verify decides what is to be said of a layer: that the source broke off, that
// it is not the layer that was asked for, or what is wrong inside.
func verify(l inventory.Layer, in *stored, out *meter, walkErr error) error {
	if isLimit(walkErr) {
		return walkErr // the rest was not read, so nothing can be said of the digest
	}
	in.drain()
	if in.err != nil {
		return in.err
	}
	if err := in.check(l); err != nil {
		return err
	}
	if walkErr != nil {
		return asCorrupt(walkErr)
	}
	if out.hash == nil || l.DiffID == "" {
		return nil
	}
	if got := digestOf(out.hash); got != l.DiffID {
		return fault.New(fault.Corrupt, "layer is %s when decompressed, not %s, as the image's configuration says", got, l.DiffID).
			With("build the image again: no engine runs it as it is")
	}
	return nil
}

// asCorrupt says that damage is damage, unless something else was said.
func asCorrupt(err error) error {
	if fault.Of(err) != fault.Unknown || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Corrupt, "layer is cut off: %w", err)
	}
	return fault.New(fault.Corrupt, "layer is damaged: %w", err)
}

// meter counts and hashes the bytes of the tar archive on their way.
type meter struct {
	to    io.Writer
	n     int64
	limit int64
	hash  hash.Hash // nil: nobody asks for it
	// spared says that the hash only tells whether two digests fit one another,
	// both of which are known.
	spared bool
}

func (m *meter) Write(b []byte) (int, error) {
	if m.n += int64(len(b)); m.n > m.limit {
		return 0, limitReached("layer has more than %d bytes when decompressed", m.limit, "bytes")
	}
	if m.hash != nil {
		m.hash.Write(b)
	}
	return m.to.Write(b)
}

// digestOf writes a hash as a digest.
func digestOf(h hash.Hash) string {
	name := "sha256:"
	if h.Size() != sha256.Size {
		name = "sha512:"
	}
	return name + hex.EncodeToString(h.Sum(nil))
}
