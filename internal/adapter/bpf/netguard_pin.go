package bpf

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
)

// linkPrefix begins the names of pinned links in a generation's folder.
const linkPrefix = "link_"

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

// open takes up our generation, or makes it out of the one that is there.
func (g *netPrograms) open() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	if err := mkPins(g.own); err != nil {
		return err
	}
	spec, err := loadNetguard()
	if err != nil {
		return err
	}
	if !hasFunction(castFunction) {
		leaveCastOut(spec)
	}
	spec.Maps[eventsMap].MaxEntries = netGuardRing
	pinAll(spec)
	for _, unused := range []string{untoldMap, settingsMap} {
		if !isReferred(spec, unused) {
			delete(spec.Maps, unused)
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: g.own}})
	if err != nil {
		return fmt.Errorf("load what holds the network: %w", err)
	}
	defer func() {
		for _, p := range c.Programs {
			p.Close()
		}
	}()
	g.maps = c.Maps
	if err := g.begin(); err != nil {
		return err
	}
	if err := g.attach(spec, c); err != nil {
		return err
	}
	if g.reader, err = ringbuf.NewReader(g.maps[eventsMap]); err != nil {
		return fmt.Errorf("map the ring buffer: %w", err)
	}
	return nil
}

// generationOf names the generation of an object: another program, other maps.
func generationOf(object []byte) string {
	hash := sha256.Sum256(object)
	return hex.EncodeToString(hash[:8])
}

// isReferred tells whether a program of the spec uses a map.
func isReferred(spec *ebpf.CollectionSpec, name string) bool {
	for _, p := range spec.Programs {
		for _, i := range p.Instructions {
			if i.Reference() == name {
				return true
			}
		}
	}
	return false
}

// begin gives a new generation what the former one knows: which containers are
// held, and what the DNS said; the rules come by Set. Else it makes the secret.
func (g *netPrograms) begin() error {
	settings := g.maps["net_settings"]
	if err := settings.Lookup(uint32(0), &g.setting); err != nil {
		return fmt.Errorf("read the settings of what holds the network: %w", err)
	}
	if g.setting.Factor != 0 {
		return nil
	}
	for _, former := range g.formers() {
		for _, name := range []string{"net_holds", "net_known", "net_settings"} {
			if err := copyMap(filepath.Join(former, name), g.maps[name]); err != nil {
				// They are held again when the engine tells of them, by the former
				// generation until then.
				g.log.Warn("what the former version holds is not taken over", "map", name, "error", err)
			}
		}
	}
	if err := settings.Lookup(uint32(0), &g.setting); err != nil {
		return fmt.Errorf("read the settings of what holds the network: %w", err)
	}
	if g.setting.Factor != 0 {
		return nil
	}
	var secret [8]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make a secret for names: %w", err)
	}
	g.setting.Factor = binary.LittleEndian.Uint64(secret[:]) | 1
	g.setting.Inverse = inverseOf(g.setting.Factor)
	if err := settings.Put(uint32(0), g.setting); err != nil {
		return fmt.Errorf("write the settings of what holds the network: %w", err)
	}
	return nil
}

// formers are the folders of other generations.
func (g *netPrograms) formers() []string {
	all, err := generations(g.dir)
	if err != nil {
		g.log.Error("former versions of what holds the network are not listed", "error", err)
	}
	var out []string
	for _, dir := range all {
		if dir != g.own {
			out = append(out, dir)
		}
	}
	return out
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

// attach attaches and pins each program that is not yet.
func (g *netPrograms) attach(spec *ebpf.CollectionSpec, c *ebpf.Collection) error {
	root, err := openCgroups()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for name, p := range c.Programs {
		err := pinned(filepath.Join(g.own, linkPrefix+name), func() (link.Link, error) {
			return link.AttachRawLink(link.RawLinkOptions{Target: root, Program: p, Attach: spec.Programs[name].AttachType})
		})
		if err != nil {
			return err
		}
	}
	return nil
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
		if !strings.HasPrefix(name, ".") { // not constants of the programs
			m.Pinning = ebpf.PinByName
		}
	}
}

// pinned attaches what is not pinned there yet, and pins it.
func pinned(pin string, attach func() (link.Link, error)) error {
	name := strings.TrimPrefix(filepath.Base(pin), linkPrefix)
	if at, err := link.LoadPinnedLink(pin, nil); err == nil {
		if err := at.Close(); err != nil {
			return fmt.Errorf("close %s: %w", name, err)
		}
		return nil
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

// settle ends former versions.
func (g *netPrograms) settle() error {
	var errs []error
	for _, dir := range g.formers() {
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

// endGeneration detaches the programs of a generation, whoever else has them open,
// and removes its pins.
func endGeneration(dir string) error {
	links, err := filepath.Glob(filepath.Join(dir, linkPrefix+"*"))
	errs := []error{err}
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
