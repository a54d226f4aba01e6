package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// DefaultPins is where what enforces is pinned, on the host's BPF file system.
const DefaultPins = "/sys/fs/bpf/castellan"

// programs are what enforces one kind of control, loaded. But for read they are for
// one goroutine at a time.
type programs interface {
	// setAll makes these the rules of their groups, each as a whole; on an error the
	// former ones hold. The errors are in the order of the rules.
	setAll(all []profile.Rules) []error
	remove(name asset.Group) error
	groups() ([]asset.Group, error) // in order
	hold(container string, name asset.Group) error
	forget(container string) error
	containers() (map[string]asset.Group, error)
	settle() error           // ends other generations
	stands() bool            // all that was pinned is
	untold() (uint64, error) // denials that nobody listened to since it was last asked
	read(ctx context.Context, emit func([]event.Event)) error
	end() error   // lets go of everything and removes all pins
	close() error // lets go of the programs without ending them
	controls(answers map[profile.Control]profile.Answer) []profile.HeldControl
}

// Guard holds containers to some controls of their groups' profiles, by programs in
// the kernel. They and their maps are pinned: they go on when this program ends, and
// a later one takes them up. While nothing is to be held nothing is loaded, and
// nothing is paid for. It is safe for concurrent use.
type Guard struct {
	what string // it holds, for errors
	log  *slog.Logger
	dir  string // of pins
	open func() (programs, error)
	// wants says that rules have something for these programs.
	wants func(*profile.Rules) bool
	// unloaded says how controls are held while nothing is loaded.
	unloaded func(answers map[profile.Control]profile.Answer) []profile.HeldControl

	mu     sync.Mutex
	live   programs      // nil while nothing is held
	news   chan struct{} // closed and replaced when live is another
	closed bool
	// refused is why this kernel can't hold to it; asked once, since it costs a second
	// of a processor. What passes is not remembered.
	refused error
	// sharer are the sensors that go on from live, if shared says so: see Share.
	sharer *Sensors
	shared bool
}

// begin takes up the programs of a former start, if there are any below kind.
func (g *Guard) begin(kind string) (*Guard, error) {
	g.news = make(chan struct{})
	former, err := generations(kind)
	if err != nil {
		return nil, fmt.Errorf("list what holds %s: %w", g.what, err)
	}
	if len(former) == 0 {
		return g, nil
	}
	if err := g.load(); err != nil {
		return nil, err
	}
	n, err := g.live.untold()
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	if n > 0 {
		g.log.Warn("while nobody listened containers were held, and not all of what was refused is told", "untold", n)
	}
	return g, nil
}

// load loads the programs, if they are not; g.mu is held, or nobody knows g yet.
func (g *Guard) load() error {
	switch {
	case g.live != nil:
		return nil
	case g.refused != nil:
		return g.refused
	}
	if err := mountPins(g.dir); err != nil {
		return err
	}
	p, err := g.open()
	if err != nil {
		reason, remedy := explain(err)
		if passes(err) {
			return fault.New(fault.Unavailable, "hold %s: %s", g.what, reason).With("it is tried again every minute: give the host what it lacks")
		}
		g.refused = fault.New(fault.Unsupported, "hold %s: %s", g.what, reason).With(remedy)
		g.log.Error("this kernel can't hold containers to "+g.what, "error", reason, "remedy", remedy)
		return g.refused
	}
	g.become(p)
	return nil
}

// passes reports that an error may be of this moment: the host has no memory or no
// descriptors left, or somebody removes pins, as who releases the host does.
func passes(err error) bool {
	gone := errors.Is(err, unix.ENOENT) && !errors.Is(err, ebpf.ErrNotSupported)
	return gone || slices.ContainsFunc([]error{unix.ENOMEM, unix.ENOSPC, unix.EMFILE, unix.ENFILE, unix.EAGAIN, unix.EINTR, unix.EBUSY, unix.EROFS, unix.EEXIST},
		func(e error) bool { return errors.Is(err, e) })
}

// become makes p what holds; nil for nothing. g.mu is held.
func (g *Guard) become(p programs) {
	if g.shared {
		g.shared = false
		if err := g.sharer.part(); err != nil {
			g.log.Error("sensors stay with what held containers", "error", err)
		}
	}
	g.live = p
	g.share()
	close(g.news)
	g.news = make(chan struct{})
}

// Set makes r the rules of its group, as a whole; on an error the former ones hold.
// What this kernel can't hold to at all is no error: Controls says it.
func (g *Guard) Set(r profile.Rules) error {
	return g.SetAll([]profile.Rules{r})[0]
}

// SetAll is Set for many groups, each of them once: it takes little longer than for
// one. The errors are in the order of the rules, nil where these are in force.
func (g *Guard) SetAll(all []profile.Rules) []error {
	g.mu.Lock()
	defer g.mu.Unlock()
	errs := make([]error, len(all))
	var wanted []profile.Rules
	var at, unwanted []int
	for i := range all {
		switch err := all[i].Check(); {
		case err != nil:
			errs[i] = fault.New(fault.Invalid, "%w", err)
		case !g.wants(&all[i]):
			unwanted = append(unwanted, i)
		default:
			wanted, at = append(wanted, all[i]), append(at, i)
		}
	}
	for i, err := range g.setAll(wanted) {
		errs[at[i]] = err
	}
	for _, i := range unwanted { // after the others: the programs end with their last group
		errs[i] = g.remove(all[i].Group)
	}
	return errs
}

// setAll is SetAll for rules that have something for these programs, which it loads;
// g.mu is held.
func (g *Guard) setAll(all []profile.Rules) []error {
	if len(all) == 0 {
		return nil
	}
	var err error
	if g.closed {
		err = fault.New(fault.Unavailable, "hold %s: closed", g.what)
	} else {
		err = g.load()
	}
	switch {
	case err == nil:
		return g.live.setAll(all)
	case g.refused != nil:
		err = nil
	}
	errs := make([]error, len(all))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Remove lets go of a group and of its containers.
func (g *Guard) Remove(name asset.Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.remove(name)
}

// remove ends the programs with the last group; g.mu is held.
func (g *Guard) remove(name asset.Group) error {
	if g.live == nil {
		return nil
	}
	if err := g.live.remove(name); err != nil {
		return err
	}
	left, err := g.live.groups()
	if err != nil || len(left) > 0 {
		return err
	}
	return g.end()
}

// LetGo lets go of all groups by ending the programs.
func (g *Guard) LetGo() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil
	}
	return g.end()
}

// end ends the programs; g.mu is held.
func (g *Guard) end() error {
	p := g.live
	g.become(nil)
	return errors.Join(p.end(), p.close())
}

// Hold ties a container, which need not exist yet, to a group; to one that has
// nothing for these programs it does nothing.
func (g *Guard) Hold(container string, name asset.Group) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil
	}
	return g.live.hold(container, name)
}

// batcher are programs that hold many containers at less cost than one by one.
type batcher interface {
	holdAll(containers map[string]asset.Group) error
}

// HoldAll is Hold for many: what runs already is looked at once. On an error some
// are held and others are not.
func (g *Guard) HoldAll(containers map[string]asset.Group) error {
	for id := range containers {
		if !asset.IsContainerID(id) {
			return fault.New(fault.Invalid, "%q is no container id", id)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil
	}
	if b, ok := g.live.(batcher); ok {
		return b.holdAll(containers)
	}
	var errs []error
	for id, name := range containers {
		errs = append(errs, g.live.hold(id, name))
	}
	return errors.Join(errs...)
}

// Forget lets go of a container.
func (g *Guard) Forget(container string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil || !asset.IsContainerID(container) {
		return nil
	}
	return g.live.forget(container)
}

// Groups are those that are held, from before this program too, in order.
func (g *Guard) Groups() ([]asset.Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil, nil
	}
	return g.live.groups()
}

// Containers are those that are held, with their groups.
func (g *Guard) Containers() (map[string]asset.Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil, nil
	}
	return g.live.containers()
}

// Controls says how these programs' controls are held for rules with such answers.
func (g *Guard) Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live != nil {
		return g.live.controls(answers)
	}
	out := g.unloaded(answers)
	if g.refused == nil {
		return out
	}
	for i := range out {
		if out[i].Answer != profile.Off {
			out[i].Answer, out[i].Error = profile.Off, shortened(g.refused.Error())
		}
	}
	return out
}

// Settle ends what other versions of this program hold: all rules have been set and
// all containers tied by now.
func (g *Guard) Settle() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil
	}
	return g.live.settle()
}

// Lost reports that somebody removed what was in force: its pins, or the file system
// that they are on. What is left of it is ended then. The rules are to be set again.
func (g *Guard) Lost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil || g.live.stands() {
		return false
	}
	g.log.Error("what holds " + g.what + " was removed by somebody else")
	if err := g.end(); err != nil {
		g.log.Error("what is left of what holds "+g.what+" is not ended", "error", err)
	}
	return true
}

// Close lets go of the programs without ending them.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.live == nil {
		return nil
	}
	p := g.live
	g.become(nil)
	return p.close()
}

// Run hands over what lay outside until ctx ends, and then returns ctx's error. What
// is alike is told once in ten seconds, with how often it was. Call it once.
func (g *Guard) Run(ctx context.Context, emit func([]event.Event)) error {
	for ctx.Err() == nil {
		g.mu.Lock()
		p, news := g.live, g.news
		g.mu.Unlock()
		if p == nil {
			select {
			case <-ctx.Done():
			case <-news:
			}
			continue
		}
		if err := p.read(ctx, emit); err != nil && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
			return err
		}
	}
	return ctx.Err()
}

// Held counts the groups that something is pinned for in a folder, by whichever
// version of this program; each kind of programs counts apart. Programs that are not
// whole, because this program was killed while it loaded or ended them, count as one.
func Held(dir string) (groups int, err error) {
	type kind struct{ dir, names string }
	kinds := []kind{{networkPins(dir), "net_rules"}}
	for _, k := range tableKinds() {
		kinds = append(kinds, kind{k.pins(dir), "tables"})
	}
	for _, kind := range kinds {
		all, err := generations(kind.dir)
		if err != nil {
			return 0, fmt.Errorf("list what is held: %w", err)
		}
		for _, g := range all {
			n, err := countPinned(filepath.Join(g, kind.names))
			if errors.Is(err, fs.ErrNotExist) {
				n, err = 1, nil
			}
			if err != nil {
				return 0, err
			}
			groups += n
		}
	}
	return groups, nil
}

// countPinned counts the entries of a pinned map.
func countPinned(pin string) (n int, err error) {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		return 0, fmt.Errorf("open what is held: %w", err)
	}
	key := make([]byte, m.KeySize())
	for err = m.NextKey(nil, &key); err == nil; err = m.NextKey(bytes.Clone(key), &key) {
		if value := make([]byte, m.ValueSize()); m.Lookup(key, &value) == nil {
			n++
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return n, errors.Join(err, m.Close())
}

// Release lets go of every container that something is pinned for in a folder, at
// once, whoever holds it; it returns how many programs of the network were ended and
// how many containers are free. It needs no agent, and one that runs holds
// nothing after it.
func Release(dir string) (Released, error) {
	var r Released
	all, err := generations(networkPins(dir))
	errs := []error{err}
	for _, g := range all {
		links, err := filepath.Glob(filepath.Join(g, linkPrefix+"*"))
		r.Network += len(links)
		errs = append(errs, err, endGeneration(g))
	}
	r.Containers, err = releaseTables(dir)
	return r, errors.Join(append(errs, err)...)
}

// Released is what was let go.
type Released struct {
	Network    int // programs at the root of the cgroups that were ended
	Containers int // that were held to what runs in them, to files or to privileges
}

// shortened cuts what the verifier says to what an agent tells.
func shortened(s string) string {
	const most = 400
	return s[:min(len(s), most)]
}
