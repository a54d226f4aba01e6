package executable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// How Go's linker leaves build information (cmd/link, since Go 1.13): a mark at a
// multiple of 16, then the size of a pointer and flags. Since 1.18 two strings
// follow after 32 bytes, each behind its length as a varint; before, pointers
// to the headers of two strings follow at once.
const (
	buildMark   = "\xff Go buildinf:"
	buildAlign  = 16
	buildHeader = 32

	flagBigEndian = 1
	flagInline    = 2

	maxGoVersion = 256
	maxModules   = 1 << 20 // bytes of text; Kubernetes' have 20 KiB

	infoStart = "\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6"
	infoEnd   = "\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2"
)

// lookForGo searches for build information and, when it is found, shows it.
func (h *hunt) lookForGo(g *region, size, to int) error {
	addr := g.addr + uint64(h.w.position()-g.offset)
	for at := int(-addr % buildAlign); at < to && at+len(buildMark) <= size; at += buildAlign {
		if h.w.held[at] != buildMark[0] || string(h.w.held[at:at+len(buildMark)]) != buildMark {
			continue
		}
		version, modules, ok, err := h.build(g, at)
		if err != nil {
			return err
		}
		if ok {
			h.done = true
			return h.showGo(version, modules)
		}
	}
	return nil
}

// build reads the information whose mark stands at an offset of the window.
// It is not ok for a mark that just happens to be there.
func (h *hunt) build(g *region, at int) (version, modules string, ok bool, err error) {
	b, err := h.w.need(at + buildHeader)
	if err != nil || len(b) < at+buildHeader {
		return "", "", false, err
	}
	pointer, flags := b[at+len(buildMark)], b[at+len(buildMark)+1]
	switch {
	case flags > flagBigEndian|flagInline:
		return "", "", false, nil
	case flags&flagInline != 0:
		return h.inline(g, at+buildHeader)
	case pointer != 4 && pointer != 8:
		return "", "", false, nil
	}
	n := number{b[at+buildHeader/2:], binary.LittleEndian}
	if flags&flagBigEndian != 0 {
		n.order = binary.BigEndian
	}
	version, modules, err = h.old.follow(h, n, uint64(pointer))
	return version, modules, err == nil, err
}

// inline reads the two strings that stand in the file one after the other.
func (h *hunt) inline(g *region, at int) (version, modules string, ok bool, err error) {
	version, at, err = h.counted(g, at, maxGoVersion)
	if err != nil || version == "" {
		return "", "", false, err
	}
	modules, _, err = h.counted(g, at, maxModules)
	if err != nil {
		return "", "", false, err
	}
	return version, modules, true, nil
}

// counted reads a string behind its length, and returns where it ends.
func (h *hunt) counted(g *region, at, limit int) (string, int, error) {
	b, err := h.w.need(at + binary.MaxVarintLen64)
	if err != nil {
		return "", 0, err
	}
	length, n := binary.Uvarint(b[min(at, len(b)):])
	if n <= 0 {
		return "", at, nil
	}
	if length > uint64(limit) {
		return "", 0, fmt.Errorf("build information of Go: string of %d bytes, at most %d are read", length, limit)
	}
	at += n
	end := at + int(length)
	if h.w.position()+int64(end) > g.offset+g.size {
		return "", at, nil
	}
	if b, err = h.w.need(end); err != nil || len(b) < end {
		return "", at, err
	}
	return string(b[at:end]), end, nil
}

// showGo adds the modules and the standard library.
func (h *hunt) showGo(version, modules string) error {
	if v := GoVersion(version); v != "" {
		if err := h.addGo("stdlib", v); err != nil {
			return err
		}
	}
	text, ok := strings.CutPrefix(modules, infoStart)
	if !ok {
		return nil // built without modules
	}
	text = strings.TrimSuffix(text, infoEnd)
	info, err := debug.ParseBuildInfo(text)
	if err != nil {
		return fmt.Errorf("build information of Go: %w", err)
	}
	// Advisories know Go's own commands as the toolchain.
	if v := GoVersion(version); v != "" && strings.HasPrefix(info.Path, "cmd/") && info.Main.Path == "" {
		if err := h.addGo("toolchain", v); err != nil {
			return err
		}
	}
	for _, m := range append(slices.Clip([]*debug.Module{&info.Main}), info.Deps...) {
		if m.Replace != nil {
			m = m.Replace
		}
		// A module that was in a folder of the builder's has no version, and
		// its path names nothing elsewhere.
		if m.Version == "" || m.Version == "(devel)" {
			continue
		}
		if err := h.addGo(m.Path, m.Version); err != nil {
			return err
		}
	}
	return nil
}

func (h *hunt) addGo(name, version string) error {
	return h.shown.Add(inventory.Package{
		Type: "golang", Name: name, Version: version, Ecosystem: "Go", Found: inventory.Compiled,
	})
}

// errOld says that Go's strings were not where the pointers say.
var errOld = errors.New("build information of Go before 1.18 points to where nothing was found")

// oldStrings are the strings that pointers of before Go 1.18 can lead to, kept
// as they pass because the pointers come later in the file.
type oldStrings struct {
	modules  map[uint64]string // by address
	versions map[uint64]string // what stands where a version may begin
	tries    int               // how often modules were looked for
}

const (
	maxOldModules  = 16   // places at which they may begin; there is one, in a debugger a few
	maxOldVersions = 4096 // places at which "go1." stands
	oldVersionSize = 64
)

// collect keeps what can be a string of build information. Versions other than
// of releases are of no use.
func (o *oldStrings) collect(w *window, g *region, size, to int) error {
	addr := g.addr + uint64(w.position()-g.offset)
	if o.modules == nil {
		o.modules, o.versions = map[uint64]string{}, map[uint64]string{}
	}
	err := w.each(size, to, []byte("go1."), func(at int) (bool, error) {
		o.versions[addr+uint64(at)] = string(w.held[at:min(size, at+oldVersionSize)])
		return len(o.versions) >= maxOldVersions, nil
	})
	if err != nil {
		return err
	}
	// The third byte is rarer than the first, which makes the search faster.
	const rare = 2
	return w.each(size, to, []byte(infoStart[rare:]), func(at int) (bool, error) {
		if o.tries++; o.tries > maxOldModules || at < rare {
			return true, nil
		}
		text, err := w.until(at-rare, []byte(infoEnd), maxModules)
		if text != "" {
			o.modules[addr+uint64(at-rare)] = text
		}
		return false, err
	})
}

// until returns what stands in the file from a position of the window to the
// end of a mark, "" if that is not within limit bytes.
func (w *window) until(at int, mark []byte, limit int) (string, error) {
	for size := chunkSize; size <= limit; size *= 2 {
		b, err := w.need(at + size)
		if err != nil {
			return "", err
		}
		if end := bytes.Index(b[at:], mark); end >= 0 {
			return string(b[at : at+end+len(mark)]), nil
		}
		if len(b) < at+size {
			break
		}
	}
	return "", nil
}

// follow reads the headers of the two strings, which lie ahead in the file, and
// looks up what they point to. n begins at the first of the two pointers.
func (o *oldStrings) follow(h *hunt, n number, size uint64) (version, modules string, err error) {
	read := n.u32
	if size == 8 {
		read = n.u64
	}
	headers := [2]uint64{read(0), read(size)}
	texts := [2]string{}
	order := []int{0, 1}
	if headers[1] < headers[0] {
		order = []int{1, 0}
	}
	for _, i := range order {
		off, ok := h.layout.at(headers[i])
		if headers[i] == 0 || !ok || off < h.w.position() {
			continue
		}
		if err := h.w.skipTo(off); err != nil {
			return "", "", errOld
		}
		b, err := h.w.need(int(2 * size))
		if err != nil {
			return "", "", err
		}
		texts[i] = o.text(number{b, n.order}, size)
	}
	if texts[0] == "" && texts[1] == "" {
		return "", "", errOld
	}
	return texts[0], texts[1], nil
}

// text looks up the string whose header n begins with.
func (o *oldStrings) text(n number, size uint64) string {
	addr, length := n.u32(0), n.u32(4)
	if size == 8 {
		addr, length = n.u64(0), n.u64(8)
	}
	if s, ok := o.modules[addr]; ok && uint64(len(s)) == length {
		return s
	}
	if s := o.versions[addr]; length <= uint64(len(s)) {
		return s[:length]
	}
	return ""
}
