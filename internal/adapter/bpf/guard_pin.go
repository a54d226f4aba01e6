package bpf

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// linkPrefix begins the names of pinned links in a generation's folder.
const linkPrefix = "link_"

// holdsMap and netHoldsMap say which containers are held, in generations of what runs,
// files and privileges, and of the network.
const (
	holdsMap    = "holds"
	netHoldsMap = "net_holds"
)

// allHolds are both, of which a generation has one.
func allHolds() []string { return []string{holdsMap, netHoldsMap} }

// netGuardRing is the size of the ring buffer of what lies outside, in bytes: a
// thousand records.
const netGuardRing = 256 << 10

func networkPins(dir string) string { return filepath.Join(dir, "network") }

// bpfRoot is where the BPF file system is mounted by custom.
const bpfRoot = "/sys/fs/bpf"

// mountPins makes the folder of pins, on a BPF file system.
func mountPins(dir string) error {
	const mode = 0o700
	if strings.HasPrefix(dir, bpfRoot+"/") && !onBPF(bpfRoot) {
		if err := unix.Mount("bpf", bpfRoot, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fault.New(fault.Unavailable, "mount the BPF file system at %s: %w", bpfRoot, err).
				With("run the agent as root, or mount it before: mount -t bpf bpf /sys/fs/bpf")
		}
	}
	there := dir // or what is above it and exists
	for there != "/" && unix.Access(there, unix.F_OK) != nil {
		there = filepath.Dir(there)
	}
	if !onBPF(there) {
		return fault.New(fault.Unavailable, "%s is not on a BPF file system", dir).
			With("give the agent the host's /sys/fs/bpf (docker run --volume /sys/fs/bpf:/sys/fs/bpf)")
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("make the folder of what is pinned: %w", err)
	}
	return nil
}

func onBPF(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}

// generationOf names the generation of an object with a ring buffer of that many bytes:
// another program, other maps.
func generationOf(object []byte, ring uint32) string {
	hash := sha256.New()
	hash.Write(object)
	hash.Write(binary.LittleEndian.AppendUint32(nil, ring))
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// generation is a set of programs with their maps, pinned in a folder of its own that
// is named after them: see generationOf. Others lie beside it.
type generation struct {
	log    *slog.Logger
	dir    string // of all generations of a kind
	own    string // of this one
	maps   map[string]*ebpf.Map
	reader *ringbuf.Reader
	pins   []string // of links
}

// load loads programs with their maps, those that are pinned as they are. The caller
// closes the programs; the reader of what they tell is opened by listen.
func (g *generation) load(spec *ebpf.CollectionSpec, ring uint32) (*ebpf.Collection, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	if err := mkPins(g.own); err != nil {
		return nil, err
	}
	if !hasFunction(castFunction) {
		leaveCastOut(spec)
	}
	spec.Maps[eventsMap].MaxEntries = ring
	pinAll(spec)
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: g.own}})
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	g.maps = c.Maps
	return c, nil
}

// attach attaches and pins a program that is not yet.
func (g *generation) attach(name string, attach func() (link.Link, error)) error {
	pin := filepath.Join(g.own, linkPrefix+name)
	g.pins = append(g.pins, pin)
	return pinned(pin, attach)
}

// stands reports that every program is pinned.
func (g *generation) stands() bool {
	return !slices.ContainsFunc(g.pins, func(pin string) bool {
		_, err := os.Lstat(pin)
		return errors.Is(err, os.ErrNotExist)
	})
}

// listen opens the reader of what the programs tell.
func (g *generation) listen() (err error) {
	if g.reader, err = ringbuf.NewReader(g.maps[eventsMap]); err != nil {
		return fmt.Errorf("map the ring buffer: %w", err)
	}
	return nil
}

// takeOver copies maps of the former generations, where they have the same layout.
// What can't be taken over is held again when the engine tells of it, and by the
// former generation until then.
func (g *generation) takeOver(names ...string) error {
	formers, err := g.formers()
	if err != nil {
		return err
	}
	for _, former := range formers {
		g.takeOverFrom(former, names...)
	}
	return nil
}

// takeOverFrom is takeOver from one of them.
func (g *generation) takeOverFrom(former string, names ...string) {
	for _, name := range names {
		if err := copyMap(filepath.Join(former, name), g.maps[name]); err != nil {
			g.log.Warn("what a former version holds is not taken over", "map", name, "error", err)
		}
	}
}

// close lets go of the programs without ending them.
func (g *generation) close() error {
	var errs []error
	if g.reader != nil {
		errs = append(errs, g.reader.Close())
	}
	for _, m := range g.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// untold returns how many denials found nobody who listened since it was last asked.
func (g *generation) untold() (uint64, error) {
	counters := g.maps[countersMap]
	n, err := sum(counters, countLost)
	if err != nil || n == 0 {
		return 0, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("count processors: %w", err)
	}
	if err := counters.Put(countLost, make([]uint64, cpus)); err != nil {
		return 0, fmt.Errorf("begin to count anew: %w", err)
	}
	return n, nil
}

// formers are the folders of other generations.
func (g *generation) formers() ([]string, error) {
	all, err := generations(g.dir)
	if err != nil {
		return nil, fmt.Errorf("list former versions of what holds containers: %w", err)
	}
	return slices.DeleteFunc(all, func(dir string) bool { return dir == g.own }), nil
}

func generations(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, err
}

// copyMap copies a pinned map of the same layout.
func copyMap(from string, to *ebpf.Map) error {
	m, err := ebpf.LoadPinnedMap(from, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(from), err)
	}
	defer m.Close()
	if m.KeySize() != to.KeySize() || m.ValueSize() != to.ValueSize() {
		return fmt.Errorf("%s has another layout", filepath.Base(from))
	}
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	all := m.Iterate()
	for all.Next(&key, &value) {
		if err := to.Put(key, value); err != nil {
			return fmt.Errorf("copy %s: %w", filepath.Base(from), err)
		}
	}
	return all.Err()
}

// mkPins makes the folder of a generation.
func mkPins(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of what is pinned: %w", err)
	}
	return nil
}

// pinAll has every map of a spec pinned by its name.
func pinAll(spec *ebpf.CollectionSpec) {
	for name, m := range spec.Maps {
		if !strings.HasPrefix(name, ".") && name != listenersMap { // not constants of the programs, nor who listens while we run
			m.Pinning = ebpf.PinByName
		}
	}
}

// pinned attaches what is not pinned there yet, and pins it.
func pinned(pin string, attach func() (link.Link, error)) error {
	name := strings.TrimPrefix(filepath.Base(pin), linkPrefix)
	if at, err := link.LoadPinnedLink(pin, nil); err == nil {
		dead, err := isDetached(at)
		if err = errors.Join(err, at.Close()); err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		if !dead {
			return nil
		}
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("remove the pin of %s, which holds nothing: %w", name, err)
		}
	}
	at, err := attach()
	if err != nil {
		return fmt.Errorf("attach %s: %w", name, err)
	}
	if err := errors.Join(at.Pin(pin), at.Close()); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return nil
}

// isDetached reports that a link holds nothing any more, though it is pinned: whoever
// ended its generation was killed before the pins were gone. Only links of cgroups can be.
func isDetached(at link.Link) (bool, error) {
	info, err := at.Info()
	if err != nil {
		return false, err
	}
	cgroup := info.Cgroup()
	return cgroup != nil && cgroup.CgroupId == 0, nil
}

// settle ends former versions.
func (g *generation) settle() error {
	formers, err := g.formers()
	errs := []error{err}
	for _, dir := range formers {
		errs = append(errs, endGeneration(dir))
	}
	return errors.Join(errs...)
}

// endGenerations ends what is pinned in generations below a folder.
func endGenerations(dir string) error {
	all, err := generations(dir)
	errs := []error{err}
	for _, g := range all {
		errs = append(errs, endGeneration(g))
	}
	return errors.Join(errs...)
}

// end lets go of all containers, ends the programs and removes all pins. What this
// program has open holds nobody then, whatever of its pins is gone already, and whoever
// else has links of it open.
func (g *generation) end() error {
	var errs []error
	for _, name := range allHolds() {
		if m := g.maps[name]; m != nil {
			errs = append(errs, emptyMap(m))
		}
	}
	return errors.Join(append(errs, endGenerations(g.dir))...)
}

// endGeneration detaches the programs of a generation, whoever else has them open,
// and removes its pins. It lets go of its containers first: should this program be killed
// meanwhile, what is left of the programs must hold nobody, because some of them can't
// decide without the others.
func endGeneration(dir string) error {
	links, err := filepath.Glob(filepath.Join(dir, linkPrefix+"*"))
	errs := []error{err}
	for _, name := range allHolds() {
		errs = append(errs, emptyPinned(filepath.Join(dir, name)))
	}
	for _, pin := range links {
		at, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("open %s: %w", filepath.Base(pin), err))
			continue
		}
		if err := at.Detach(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			errs = append(errs, err) // links of tracing end with their last pin
		}
		errs = append(errs, at.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// emptyPinned removes all entries of a pinned map, whatever its layout; one that is not
// there has none.
func emptyPinned(pin string) error {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(pin), err)
	}
	return errors.Join(emptyMap(m), m.Close())
}

func emptyMap(m *ebpf.Map) error {
	key := make([]byte, m.KeySize())
	err := m.NextKey(nil, &key)
	for ; err == nil; err = m.NextKey(nil, &key) {
		if err = m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// read hands over what the programs tell until ctx ends or they are closed. tick is
// called at least every second, and hands over what was only counted.
func (g *generation) read(ctx context.Context, d *decoder, decode func([]byte) (event.Event, error), tick func(hand func(event.Event)), emit func([]event.Event)) error {
	stop := context.AfterFunc(ctx, func() {
		if err := g.reader.Flush(); err != nil {
			g.log.DebugContext(ctx, "ring buffer closed before it was flushed", "error", err)
		}
	})
	defer stop()
	var record ringbuf.Record
	var batch []event.Event
	var end closing
	hand := func(e event.Event) { batch = append(batch, e) }
	flush := func() {
		if len(batch) > 0 {
			emit(batch)
			batch = nil
		}
	}
	for {
		g.reader.SetDeadline(time.Now().Add(tickEvery))
		err := g.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.clock.Measure()
		case err != nil:
			flush()
			return ended(ctx, err)
		default:
			e, err := decode(record.RawSample)
			if err != nil {
				g.log.Error("what the kernel refused can't be decoded", "error", err)
			} else {
				hand(e)
			}
			if end.over(ctx, record.RawSample) {
				flush()
				return ctx.Err()
			}
			if err != nil || record.Remaining > 0 && len(batch) < maxBatch {
				continue
			}
		}
		if tick != nil {
			tick(hand)
		}
		flush()
	}
}
