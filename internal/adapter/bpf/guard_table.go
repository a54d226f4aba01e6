package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// tableKind is one kind of programs that hold containers by tables of rules
// (guard.bpf.h): what of a group's rules they hold, and how they are loaded. Each is an
// object of its own: a kernel that refuses one still holds the others, and a host pays
// for what its groups are held to alone.
type tableKind struct {
	control profile.Control
	what    string // is held, for errors
	folder  string // of pins, below the agent's
	spec    func() (*ebpf.CollectionSpec, error)
	// rungs are the ways to hold it, the best first; none, and why, where this kernel
	// has none.
	rungs func() ([]tableRung, error)
	// tell sets constants of the programs; may be nil.
	tell func(*ebpf.CollectionSpec, tableRung) error
	// fill fills maps, before the programs are attached; may be nil.
	fill func(map[string]*ebpf.Map, tableRung) error
	// lists are the patterns that the programs go by.
	lists func(*profile.Rules) map[guardExecPathList][]profile.Pattern
	// wants says that rules have something for these programs; nil: when they answer what
	// lies outside the control.
	wants func(*profile.Rules) bool
	// meta writes what they go by beside paths; may be nil.
	meta func(*profile.Rules, *guardExecEdge)
	// decode reads what a record of these programs says beside what all have.
	decode func(*decoder, *denial, *event.Event) error
}

// tableRung is one way to hold a control.
type tableRung struct {
	name     string
	programs []string // beside those of every rung
}

// tableMarks are the programs of every kind and rung: guard_marks.bpf.h.
func tableMarks() []string { return []string{settleHolds, "on_fork", "on_attach"} }

// settleHolds is the iterator among them.
const settleHolds = "settle_holds"

// Sizes of what guard.bpf.h leaves to the loader.
const (
	slotsPerCPU   = 4
	tableRing     = 256 << 10 // bytes, of what was refused for the first time: 250 long paths
	maxHeldGroups = 2048      // MAX_HELD_GROUPS
	namesMap      = "group_names"
)

// openTableGuard returns what holds containers to a control by programs of a kind.
func openTableGuard(k tableKind, dir, generation string, log *slog.Logger) (*Guard, error) {
	g := &Guard{
		what: k.what, log: log, dir: dir,
		wants:    k.wants,
		unloaded: func(answers map[profile.Control]profile.Answer) []profile.HeldControl { return k.controls(answers, "") },
		open: func() (programs, error) {
			p, err := openTablePrograms(k, dir, generation, log)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
	if g.wants == nil {
		g.wants = func(r *profile.Rules) bool { return r.Answers[k.control] != profile.Off }
	}
	return g.begin(k.pins(dir))
}

func (k *tableKind) pins(dir string) string { return filepath.Join(dir, k.folder) }

// controls says how the control of these programs is held.
func (k *tableKind) controls(answers map[profile.Control]profile.Answer, rung string) []profile.HeldControl {
	return []profile.HeldControl{{Control: k.control, Answer: answers[k.control], Rung: rung}}
}

// tablePrograms are programs of a kind, loaded. But for read they are for one goroutine
// at a time.
type tablePrograms struct {
	generation
	kind    tableKind
	rung    string
	iterate *ebpf.Program          // settle_holds
	numbers map[asset.Group]uint32 // places of groups in tables, as pinned under namesMap
	setting guardExecGuardSetting
	table   *ebpf.MapSpec // of a group's rules
	states  uint32        // numbers of states up to this one are taken
}

func openTablePrograms(k tableKind, dir, generation string, log *slog.Logger) (*tablePrograms, error) {
	rungs, refused := k.rungs()
	for _, rung := range rungs {
		p := &tablePrograms{kind: k, rung: rung.name}
		p.log, p.dir, p.own = log, k.pins(dir), filepath.Join(k.pins(dir), generation+"-"+rung.programs[0])
		err := p.open(rung)
		if err == nil {
			return p, nil
		}
		// What was pinned of a rung that the kernel does not take must not stay.
		refused = errors.Join(refused, err, p.close(), endGeneration(p.own))
		reason, _ := explain(err)
		log.Warn("this kernel refuses what would hold containers best", "control", k.control, "rung", rung.name, "error", reason)
	}
	return nil, refused
}

func (g *tablePrograms) open(rung tableRung) error {
	spec, err := g.specOf(rung)
	if err != nil {
		return err
	}
	g.table = spec.Maps["tables"].InnerMap
	c, err := g.load(spec, tableRing)
	if err != nil {
		return err
	}
	g.iterate = c.Programs[settleHolds]
	g.states = mathrand.Uint32() // beyond those of who had the programs before
	defer func() {
		for name, p := range c.Programs {
			if name != settleHolds {
				p.Close()
			}
		}
	}()
	if err := errors.Join(g.begin(hasHooks(rung, spec)), g.readNumbers()); err != nil {
		return err
	}
	if g.kind.fill != nil {
		if err := g.kind.fill(g.maps, rung); err != nil {
			return err
		}
	}
	if err := g.meet(); err != nil {
		return err
	}
	for name, p := range c.Programs {
		if name == settleHolds {
			continue
		}
		if err := g.attach(name, func() (link.Link, error) { return attachTable(spec.Programs[name], p) }); err != nil {
			return err
		}
	}
	if err := g.meet(); err != nil { // who came in between
		return err
	}
	return g.listen()
}

// specOf returns the programs of a rung, with what the loader sets.
func (g *tablePrograms) specOf(rung tableRung) (*ebpf.CollectionSpec, error) {
	spec, err := g.kind.spec()
	if err != nil {
		return nil, err
	}
	keep := append(tableMarks(), rung.programs...)
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(keep, name) })
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count processors: %w", err)
	}
	spec.Maps["slots"].MaxEntries = uint32(slotsPerCPU * cpus)
	spec.Maps["claims"].MaxEntries = uint32(slotsPerCPU * cpus)
	spec.Maps[namesMap] = &ebpf.MapSpec{Name: namesMap, Type: ebpf.Hash, Flags: unix.BPF_F_NO_PREALLOC,
		KeySize: 4, ValueSize: maxGroupName + 1, MaxEntries: maxHeldGroups}
	if g.kind.tell == nil {
		return spec, nil
	}
	return spec, g.kind.tell(spec, rung)
}

// setSlots tells programs the numbers of system calls.
func setSlots(spec *ebpf.CollectionSpec, variable string, names []string) error {
	v := spec.Variables[variable]
	if v == nil {
		return fmt.Errorf("programs have no %s", variable)
	}
	room := int(v.Size() / 4)
	numbers := slots(names)
	b := make([]byte, 0, v.Size())
	for i := range room {
		n := ^uint32(0)
		if i < len(numbers) {
			n = numbers[i]
		}
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	if len(numbers) > room {
		return fmt.Errorf("%s has room for %d calls of %d", variable, room, len(numbers))
	}
	if err := v.Set(b); err != nil {
		return fmt.Errorf("set %s: %w", variable, err)
	}
	return nil
}

// setHalves fills a table of calls (CALL_TABLE of syscall.bpf.h): bits, of the lower
// four, that the named calls have, whichever half of the table they are in.
func setHalves(spec *ebpf.CollectionSpec, variable string, calls map[uint8][]string) error {
	const compatShift = 4
	v := spec.Variables[variable]
	if v == nil {
		return fmt.Errorf("programs have no %s", variable)
	}
	table := make([]byte, compatCalls)
	for bits, names := range calls {
		for _, n := range slots(names) {
			if n < compatCalls {
				table[n] |= bits
			} else {
				table[n-compatCalls] |= bits << compatShift
			}
		}
	}
	if err := v.Set(table); err != nil {
		return fmt.Errorf("set %s: %w", variable, err)
	}
	return nil
}

// hasHooks says that a rung has programs at security hooks, which the kernel may put
// aside for another task: those at tracepoints need not claim what they work in, which
// takes two changes of a map for each thing that is judged.
func hasHooks(rung tableRung, spec *ebpf.CollectionSpec) bool {
	return slices.ContainsFunc(rung.programs, func(name string) bool {
		p := spec.Programs[name]
		return p != nil && p.Type == ebpf.LSM
	})
}

func attachTable(spec *ebpf.ProgramSpec, p *ebpf.Program) (link.Link, error) {
	if spec.Type == ebpf.LSM {
		return link.AttachLSM(link.LSMOptions{Program: p})
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// meet tells the programs what runs already.
func (g *tablePrograms) meet() error { return iterate([]*ebpf.Program{g.iterate}) }

// begin gives a new generation what the former one knows: which containers are held
// to which group. Rules come by Set; until then the former one holds. hooks says that
// some of its programs are at security hooks.
func (g *tablePrograms) begin(hooks bool) error {
	settings := g.maps["guard_settings"]
	if err := settings.Lookup(uint32(0), &g.setting); err != nil {
		return fmt.Errorf("read the settings of what holds containers: %w", err)
	}
	if err := g.maps[settingsMap].Put(uint32(0), uint64(DefaultWindow)); err != nil {
		return fmt.Errorf("set the window: %w", err)
	}
	if g.setting.HashKey != [2]uint64{} {
		return nil
	}
	if err := g.takeOverHolds(); err != nil {
		return err
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make a secret for names: %w", err)
	}
	g.setting.HashKey = [2]uint64{binary.LittleEndian.Uint64(secret[:8]) | 1, binary.LittleEndian.Uint64(secret[8:])}
	if hooks {
		g.setting.Exclusive = 1
	}
	if err := settings.Put(uint32(0), g.setting); err != nil {
		return fmt.Errorf("write the settings of what holds containers: %w", err)
	}
	return nil
}

// takeOverHolds takes over what the former generations know. Who is held comes from one of
// them alone: two of which each was another's former give the same number to other groups.
func (g *tablePrograms) takeOverHolds() error {
	formers, err := g.formers()
	if err != nil {
		return err
	}
	taken := false
	for _, former := range formers {
		g.takeOverFrom(former, "members", "setups")
		if !taken && isPinned(former, holdsMap) && isPinned(former, namesMap) {
			g.takeOverFrom(former, holdsMap, namesMap)
			taken = true
		}
	}
	return nil
}

func isPinned(generation, name string) bool {
	_, err := os.Lstat(filepath.Join(generation, name))
	return err == nil
}

// joint is where sensors can go on from these programs; nil where they can't.
func (g *tablePrograms) joint() (*joint, error) {
	return openJoint(filepath.Join(g.own, linkPrefix+jointProgram))
}

func (g *tablePrograms) controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return g.kind.controls(answers, g.rung)
}

func (g *tablePrograms) close() error {
	err := g.generation.close()
	if g.iterate != nil {
		err = errors.Join(err, g.iterate.Close())
	}
	return err
}

// tableKinds are all kinds.
func tableKinds() []tableKind { return []tableKind{execTable(), fileTable(), privilegeTable()} }

// releaseTables lets go of every container that is held by tables, whoever holds it,
// and returns how many were.
func releaseTables(dir string) (int, error) {
	var errs []error
	containers := map[guardExecHeldId]bool{}
	for _, k := range tableKinds() {
		all, err := generations(k.pins(dir))
		errs = append(errs, err)
		for _, g := range all {
			m, err := ebpf.LoadPinnedMap(filepath.Join(g, holdsMap), nil)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				err = nil // who made it, or ended it, was killed before it was whole
			case err == nil:
				err = dropWhere(m, func(id guardExecHeldId, _ guardExecHold) bool { containers[id] = true; return true })
				err = errors.Join(err, m.Close())
			}
			errs = append(errs, err, endGeneration(g))
		}
	}
	return len(containers), errors.Join(errs...)
}
