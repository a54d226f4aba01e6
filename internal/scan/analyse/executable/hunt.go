package executable

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// overlap is how much of one piece is looked at again with the next: more than
// anything that is searched for is long.
const overlap = 64

// hunt is the search through one file.
type hunt struct {
	w      *window
	layout *layout
	shown  *analyse.Shown
	old    oldStrings
	audits []audit
	spare  *spare
	// tries counts what was inflated to find lists of crates.
	tries  int
	begins int  // what began like one
	done   bool // all is known; no need to read on
}

// run goes through the file's regions in their order.
func (h *hunt) run(ctx context.Context) error {
	if g := h.layout.audit; g != nil {
		return h.takeAudit(g)
	}
	if !h.layout.elf && !slices.ContainsFunc(h.layout.regions, func(g region) bool { return g.writable }) {
		return nil // libraries of .NET, mostly
	}
	for i := range h.layout.regions {
		g := &h.layout.regions[i]
		if !h.wants(g) || g.offset < h.w.position() && g.offset+g.size <= h.w.position() {
			continue
		}
		if err := h.search(ctx, g); err != nil || h.done {
			return endOfFile(err)
		}
	}
	return endOfFile(h.confirmAudits())
}

// endOfFile takes a file that ends earlier than its headers say for one that
// says nothing: programs that were cut or stripped by hand are not broken.
func endOfFile(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// wants says whether a region can hold something. Go's information is in data
// that is writable (or, to be safe, not code), its strings before 1.18 in data
// that is not; cargo's list is not mapped, or in data that is not writable.
func (h *hunt) wants(g *region) bool {
	if g.unmapped || g.writable {
		return !g.unmapped || !h.layout.goNote
	}
	return !g.runs || h.layout.codeHoldsText
}

// mayBeOld says whether strings must be kept because the file can be Go's of
// before 1.18. ELF files have a note that says that they are Go's.
func (h *hunt) mayBeOld() bool {
	return !h.layout.newGo && (h.layout.goNote || !h.layout.elf)
}

// search goes through one region.
func (h *hunt) search(ctx context.Context, g *region) error {
	if err := h.w.skipTo(g.offset); err != nil {
		return err
	}
	end := g.offset + g.size
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		held, err := h.w.need(overlap + chunkSize)
		if err != nil {
			return err
		}
		left := end - h.w.position()
		last := left <= int64(len(held)) || h.w.end != nil
		size := int(min(int64(len(held)), left))
		to := size
		if !last {
			to -= overlap
		}
		if err := h.look(g, size, to); err != nil || h.done {
			return err
		}
		if last {
			return nil
		}
		h.w.drop(to)
	}
}

// look searches the first size bytes of the window for all that begins before
// to.
func (h *hunt) look(g *region, size, to int) error {
	if !g.unmapped {
		if err := h.lookForGo(g, size, to); err != nil || h.done {
			return err
		}
	}
	if !g.writable && h.mayBeOld() {
		return h.old.collect(h.w, g, size, to)
	}
	if !g.writable && h.layout.elf && !h.layout.goNote {
		return h.lookForAudit(size, to)
	}
	return nil
}

// each calls one with the position of every mark that begins before to, in the
// first size bytes of the window, until it says that it is enough. one may ask
// for more of the file, which moves the window in memory.
func (w *window) each(size, to int, mark []byte, one func(at int) (enough bool, err error)) error {
	for from := 0; from < to; from++ {
		i := bytes.Index(w.held[from:size], mark)
		if i < 0 || from+i >= to {
			return nil
		}
		from += i
		if enough, err := one(from); enough || err != nil {
			return err
		}
	}
	return nil
}
