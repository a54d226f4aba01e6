// Package executable reads what programs and libraries say that they were built
// from: the build information of Go, and the dependency list that cargo
// auditable leaves in Rust programs; in ELF, PE and Mach-O, in one pass.
//
// The headers at the beginning of a file say where such information can lie.
// Only a window over the file is held while it passes, and reading stops as
// soon as the answer is known. It is not for packages' files in general. Packed
// programs say nothing; of those that UPX made that is told.
package executable

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// minSize is below the smallest program that any compiler makes.
const minSize = 256

// Analyser reads programs and libraries.
type Analyser struct{ spare *spare }

// New returns the analyser.
func New() Analyser { return Analyser{newSpare()} }

// Name is executable.
func (Analyser) Name() string { return "executable" }

// Wants takes every regular file that begins as a program or a library does:
// neither its name nor its mode says what it is.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if len(head) < minSize || !e.Mode.IsRegular() {
		return false
	}
	switch binary.BigEndian.Uint32(head) {
	case magicELF, magicMachO32, magicMachO64, magicMachO32Swapped, magicMachO64Swapped:
		return true
	case magicMachOFat:
		return isFat(head)
	}
	return head[0] == 'M' && head[1] == 'Z' && isPE(head)
}

// The first four bytes of the formats, as big-endian numbers.
const (
	magicELF            = 0x7f454c46
	magicMachO32        = 0xfeedface
	magicMachO64        = 0xfeedfacf
	magicMachO32Swapped = 0xcefaedfe
	magicMachO64Swapped = 0xcffaedfe
	magicMachOFat       = 0xcafebabe // Java classes begin with it too
)

// Take reads the file until its build information has passed.
func (a Analyser) Take(ctx context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	if a.spare == nil {
		a = New()
	}
	w := a.spare.window(r)
	defer a.spare.keep(w)
	head, err := w.need(headerSize)
	if err != nil {
		return err
	}
	if len(head) >= minSize && binary.BigEndian.Uint32(head) == magicMachOFat {
		// The programs of a universal file are built from the same: one will do.
		if err := w.rebase(fatOffset(head)); err != nil {
			return err
		}
		if head, err = w.need(headerSize); err != nil {
			return err
		}
	}
	l := readLayout(head)
	if l == nil {
		return nil // begins like a program, and isn't
	}
	if isPacked(head) {
		shown.Problems = append(shown.Problems, inventory.Problem{What: "packed with UPX: what the program was built from cannot be read"})
		return nil
	}
	h := hunt{w: w, layout: l, shown: shown, spare: a.spare}
	return h.run(ctx)
}

// isPacked says whether a program is one that UPX made: its mark stands right
// behind the headers.
func isPacked(head []byte) bool {
	const reach = 1 << 10
	return bytes.Contains(head[:min(len(head), reach)], []byte("UPX!"))
}

// readLayout reads the headers, nil if they make no sense.
func readLayout(head []byte) *layout {
	if len(head) < minSize {
		return nil
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return readELF(head)
	case bytes.HasPrefix(head, []byte("MZ")):
		return readPE(head)
	}
	return readMachO(head)
}
