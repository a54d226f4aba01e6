package layer

import (
	"context"
	"io/fs"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/untar"
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// meta begins the names that AUFS kept for itself; they are no files.
	meta = ".wh..wh."
	// maxProblems bounds how many entries of one layer are complained about.
	maxProblems = 100
)

// collector takes the entries of a layer in their order and gathers its Result.
type collector struct {
	ctx  context.Context
	o    Options
	crew *crew
	res  Result
	tree *Tree // set where a folder is read: names mean nothing but themselves

	names, folders, implied keys
	at                      position // the folder of the entry before
	charged                 int64    // bytes taken from the budget for the above

	rawFolder, realFolder string // what the last folder was resolved to
	links                 map[string]symlink
	hard                  map[string]hardLink
	// latest is the order of the last entry at each path that an analyser took or
	// that is a symbolic link; ways are the folders on the way to those.
	latest map[uint64]int64
	ways   map[uint64]bool
	// cut are the ways that later became something that is not a folder: what
	// stood below is gone.
	cut map[uint64]int64

	entry analyse.Entry
	offer offer
	file  content
}

type symlink struct {
	target string
	order  int64
}

type hardLink struct {
	target string
	order  int64
	// of is the order of the entry that the target was then, 0 for one that no
	// analyser took.
	of int64
}

func newCollector(ctx context.Context, o Options) *collector {
	if o.Budget == nil {
		o.Budget = NewBudget(o.Limits)
	}
	return &collector{ctx: ctx, o: o, crew: newCrew(ctx, o),
		links: map[string]symlink{}, hard: map[string]hardLink{}, latest: map[uint64]int64{}, ways: map[uint64]bool{}, cut: map[uint64]int64{},
		file: content{head: make([]byte, 0, analyse.HeadSize)}}
}

// Entry begins an entry of a tar archive.
func (c *collector) Entry(h *untar.Header) error {
	c.endFile(nil)
	if err := c.count(); err != nil {
		return err
	}
	p := clean(h.Name)
	if p == "" {
		return nil
	}
	if why := tooLong(p); why != "" {
		c.complain(p[:min(len(p), maxName)], "left out: "+why)
		return nil
	}
	folder, ok := c.realPath(parent(p))
	if !ok {
		c.complain(p, "left out: symbolic links on the way to it go in a circle")
		return nil
	}
	name := p[strings.LastIndexByte(p, '/')+1:]
	p = join(folder, name)
	c.at.move(folder, func(way PathHash) { c.implied.add(way.Key()) })
	if strings.HasPrefix(name, whiteout) && c.tree == nil {
		return c.whiteout(folder, name)
	}
	if h.Type == untar.Char && h.Major == 0 && h.Minor == 0 && (c.tree == nil || c.tree.Overlay) {
		return c.addWhiteout(p) // as overlayfs keeps it
	}
	if h.Opaque && h.Type == untar.Folder {
		c.res.Opaque = append(c.res.Opaque, p)
	}
	c.place(p, name, h.Type == untar.Folder)
	c.entry = analyse.Entry{Path: p, Mode: modeOf(h), UID: h.UID, GID: h.GID, Capabilities: h.Capability}
	return c.take(h)
}

// count enforces the limits that depend on the number of entries.
func (c *collector) count() error {
	c.res.Entries++
	if c.res.Entries > c.o.Limits.Entries {
		return limitReached("layer has more than %d entries", c.o.Limits.Entries, "entries")
	}
	const seldom = 4096
	if c.res.Entries%seldom != 0 {
		return nil
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	return c.charge()
}

// charge takes from the budget what the layer's own lists have grown by.
func (c *collector) charge() error {
	const perWay = 48 // of a map
	held := int64(8*(cap(c.names.list)+cap(c.folders.list)+cap(c.implied.list)) + perWay*(len(c.latest)+len(c.ways)))
	grown := held - c.charged
	if grown <= 0 {
		return nil
	}
	c.charged = held
	return c.o.Budget.Take(grown)
}

// realPath follows the symbolic links of this layer on the way to a folder.
func (c *collector) realPath(folder string) (string, bool) {
	if len(c.links) == 0 || folder == "" || c.tree != nil {
		return folder, true
	}
	if folder == c.rawFolder {
		return c.realFolder, true
	}
	real, ok := Resolve(folder, c.linkAt)
	if !ok || tooLong(real) != "" {
		return "", false
	}
	c.rawFolder, c.realFolder = folder, real
	return real, true
}

func (c *collector) linkAt(p string) (string, bool) {
	l, ok := c.links[p]
	return l.target, ok
}

// whiteout takes an entry whose name says what is removed.
func (c *collector) whiteout(folder, name string) error {
	switch gone := strings.TrimPrefix(name, whiteout); {
	case name == opaque:
		c.res.Opaque = append(c.res.Opaque, folder)
		return c.o.Budget.Take(int64(len(folder)) + overhead)
	case strings.HasPrefix(name, meta):
		return nil
	case gone == "" || gone == "." || gone == "..":
		c.complain(join(folder, name), "whiteout of nothing")
		return nil
	default:
		return c.addWhiteout(join(folder, gone))
	}
}

func (c *collector) addWhiteout(p string) error {
	c.res.Whiteouts = append(c.res.Whiteouts, p)
	return c.o.Budget.Take(int64(len(p)) + overhead)
}

// place records that something is at p and what it replaces in this layer.
func (c *collector) place(p, name string, folder bool) {
	key := c.at.hash().Child(name).Key()
	if _, ok := c.latest[key]; ok {
		c.latest[key] = c.res.Entries
		c.unlink(p)
	}
	c.offer = offer{entry: &c.entry, path: p, key: key, order: c.res.Entries}
	if folder {
		c.folders.add(key)
		return
	}
	c.names.add(key)
	if c.ways[key] {
		c.cut[key] = c.res.Entries
	}
}

// mark says that the entry matters: whatever replaces it later counts.
func (c *collector) mark() {
	c.latest[c.offer.key] = c.offer.order
	for i := len(c.at.steps) - 1; i >= 0; i-- {
		way := c.at.steps[i].hash.Key()
		if c.ways[way] {
			return
		}
		c.ways[way] = true
	}
}

func (c *collector) unlink(p string) {
	delete(c.hard, p)
	if _, ok := c.links[p]; ok {
		delete(c.links, p)
		c.rawFolder, c.realFolder = "", ""
	}
}

// take offers the entry to the analysers.
func (c *collector) take(h *untar.Header) error {
	switch h.Type {
	case untar.Regular, untar.Contiguous:
		c.entry.Size = h.Size
		return c.beginFile(h.Size)
	case untar.Symlink:
		return c.symlink(h.Link)
	case untar.HardLink:
		return c.hardLink(h.Link)
	}
	return c.offerBare()
}

func (c *collector) symlink(target string) error {
	if len(target) > analyse.MaxPath {
		c.complain(c.entry.Path, "symbolic link left out: its target is longer than 4096 bytes")
		return nil
	}
	c.links[c.entry.Path] = symlink{target: target, order: c.res.Entries}
	if at := c.entry.Path; c.rawFolder != c.realFolder || c.rawFolder == at || below(c.rawFolder, at) {
		c.rawFolder, c.realFolder = "", ""
	}
	c.mark()
	c.entry.Mode = c.entry.Mode.Perm() | fs.ModeSymlink
	c.entry.Link = target
	if err := c.o.Budget.Take(int64(len(c.entry.Path)+len(target)) + 2*overhead); err != nil {
		return err
	}
	return c.offerBare()
}

// hardLink remembers a second name of a file; its content is at the first.
func (c *collector) hardLink(target string) error {
	target = clean(target)
	folder, ok := c.realPath(parent(target))
	if !ok || target == "" || tooLong(target) != "" {
		c.complain(c.entry.Path, "hard link to nothing")
		return nil
	}
	target = join(folder, path.Base(target))
	if l, ok := c.links[target]; ok { // then it is a second name of the symbolic link
		return c.symlink(l.target)
	}
	l := hardLink{target: target, order: c.res.Entries, of: c.latest[HashPath(target).Key()]}
	if first, ok := c.hard[target]; ok {
		l.target, l.of = first.target, first.of
	}
	c.hard[c.entry.Path] = l
	c.mark()
	if err := c.o.Budget.Take(int64(len(c.entry.Path)+len(target)) + 2*overhead); err != nil {
		return err
	}
	c.entry.HardLink, c.entry.Link = true, target
	return c.offerBare()
}

// complain records a problem of an entry that was left out.
func (c *collector) complain(p, what string) {
	switch n := len(c.res.Problems); {
	case n < maxProblems:
		c.res.Problems = append(c.res.Problems, inventory.Problem{Place: inventory.Place{Path: "/" + p}, What: what})
	case n == maxProblems:
		c.res.Problems = append(c.res.Problems, inventory.Problem{What: "more entries were left out; the first 100 are listed"})
	}
}

// modeOf is the mode as Go writes it.
func modeOf(h *untar.Header) fs.FileMode {
	mode := fs.FileMode(h.Mode & 0o777)
	for _, bit := range [...]struct {
		tar int64
		fs  fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if h.Mode&bit.tar != 0 {
			mode |= bit.fs
		}
	}
	switch h.Type {
	case untar.Folder:
		mode |= fs.ModeDir
	case untar.Symlink:
		mode |= fs.ModeSymlink
	case untar.Char:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case untar.Block:
		mode |= fs.ModeDevice
	case untar.FIFO:
		mode |= fs.ModeNamedPipe
	case untar.Regular, untar.Contiguous, untar.HardLink:
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}
