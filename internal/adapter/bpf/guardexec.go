package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type control -type answer -type reaction -type deed -type denial_flag -type edge_kind -type edge_key -type edge -type edge_flag -type meta_flag -type path_list -type denial -type slot -type hold -type held_id -type guard_setting guardExec guard_exec.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// The rungs of profile.ControlExec, in the words of internal/adapter/kernel.
const (
	rungLSM    = "BPF LSM (refused before it starts)"
	rungSignal = "signal at exec (killed before its first instruction)"
)

// execRung is one way to hold what runs.
type execRung struct {
	name     string
	programs []string // beside those of every rung
}

// execRungs are the ways, the best first. Programs called …_plain are for kernels
// without bpf_find_vma (5.17). Security hooks are asked only where BPF is an active
// security module: elsewhere programs attach, and are never called.
func execRungs() []execRung {
	signal := []string{"signal_exec_plain", "signal_call_plain"}
	if hasHelper("BPF_FUNC_find_vma") {
		signal = []string{"signal_exec", "signal_call"}
	}
	all := []execRung{{rungSignal, signal}}
	if bpfIsLSM() {
		all = slices.Insert(all, 0, execRung{rungLSM, []string{"deny_exec", "deny_map", "deny_protect", "deny_script", "note_script", "forget_script"}})
	}
	return all
}

// lsmPath lists the active security modules, separated by commas.
const lsmPath = "/sys/kernel/security/lsm"

// bpfIsLSM reports whether the kernel asks BPF programs as a security module. Where
// the list can't be read it may, and is not known to.
func bpfIsLSM() bool {
	list, err := os.ReadFile(lsmPath)
	return err == nil && slices.Contains(strings.Split(strings.TrimSpace(string(list)), ","), "bpf")
}

// execMarks are the programs of every rung.
var execMarks = []string{"settle_holds", "on_fork", "on_attach"}

// Sizes of what guard_exec.bpf.c leaves to the loader.
const (
	slotsPerCPU   = 4
	execRing      = 1 << 20 // bytes: a thousand long paths
	maxHeldGroups = 512     // MAX_HELD_GROUPS
	namesMap      = "group_names"
)

// OpenExecGuard returns what holds containers to what may run in them: programs of
// the image that their group's profile has, and of what was written later, lies on a
// volume or was never in a folder, what it names. Code that is mapped is held too. A
// process dies before the first instruction of what may not run. dir is as in
// OpenNetGuard.
func OpenExecGuard(dir string, log *slog.Logger) (*Guard, error) {
	return openExecGuard(dir, generationOf(_GuardExecBytes), log)
}

func openExecGuard(dir, generation string, log *slog.Logger) (*Guard, error) {
	g := &Guard{
		what: "what runs", log: log, dir: dir,
		wants: func(r *profile.Rules) bool { return r.Answers[profile.ControlExec] != profile.Off },
		unloaded: func(answers map[profile.Control]profile.Answer) []profile.HeldControl {
			return execControls(answers, "")
		},
		open: func() (programs, error) {
			p, err := openExecPrograms(dir, generation, log)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
	return g.begin(execPins(dir))
}

func execPins(dir string) string { return filepath.Join(dir, "exec") }

// execControls says how controls of these programs are held. Those that no program
// holds yet say so.
func execControls(answers map[profile.Control]profile.Answer, rung string) []profile.HeldControl {
	const notYet = "this version reports it and does not hold to it"
	out := []profile.HeldControl{{Control: profile.ControlExec, Answer: answers[profile.ControlExec], Rung: rung}}
	for _, c := range []profile.Control{profile.ControlFile, profile.ControlPrivilege} {
		h := profile.HeldControl{Control: c, Answer: profile.Off}
		if answers[c] != profile.Off {
			h.Error = notYet
		}
		out = append(out, h)
	}
	return out
}

// execPrograms are the programs that hold what runs, loaded. But for read they are
// for one goroutine at a time.
type execPrograms struct {
	generation
	rung    string
	iterate *ebpf.Program          // settle_holds
	numbers map[asset.Group]uint32 // places of groups in tables, as pinned under namesMap
	setting guardExecGuardSetting
	table   *ebpf.MapSpec // of a group's rules
	states  uint32        // numbers of states up to this one are taken
}

func openExecPrograms(dir, generation string, log *slog.Logger) (*execPrograms, error) {
	var refused error
	for _, rung := range execRungs() {
		p := &execPrograms{rung: rung.name}
		p.log, p.dir, p.own = log, execPins(dir), filepath.Join(execPins(dir), generation+"-"+rung.programs[0])
		err := p.open(rung)
		if err == nil {
			return p, nil
		}
		// What was pinned of a rung that the kernel does not take must not stay.
		refused = errors.Join(err, p.close(), endGeneration(p.own))
		reason, _ := explain(err)
		log.Warn("this kernel refuses what would hold containers best", "rung", rung.name, "error", reason)
	}
	return nil, refused
}

func (g *execPrograms) open(rung execRung) error {
	spec, err := g.specOf(rung)
	if err != nil {
		return err
	}
	g.table = spec.Maps["tables"].InnerMap
	c, err := g.load(spec, execRing)
	if err != nil {
		return err
	}
	g.iterate = c.Programs["settle_holds"]
	g.states = mathrand.Uint32() // beyond those of who had the programs before
	defer func() {
		for name, p := range c.Programs {
			if name != "settle_holds" {
				p.Close()
			}
		}
	}()
	if err := errors.Join(g.begin(), g.readNumbers()); err != nil {
		return err
	}
	if err := g.meet(); err != nil {
		return err
	}
	for name, p := range c.Programs {
		if name == "settle_holds" {
			continue
		}
		if err := pinned(filepath.Join(g.own, linkPrefix+name), func() (link.Link, error) { return attachExec(spec.Programs[name], p) }); err != nil {
			return err
		}
	}
	if err := g.meet(); err != nil { // who came in between
		return err
	}
	return g.listen()
}

// specOf returns the programs of a rung, with what the loader sets.
func (g *execPrograms) specOf(rung execRung) (*ebpf.CollectionSpec, error) {
	spec, err := loadGuardExec()
	if err != nil {
		return nil, err
	}
	keep := append(slices.Clone(execMarks), rung.programs...)
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(keep, name) })
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count processors: %w", err)
	}
	spec.Maps["slots"].MaxEntries = uint32(slotsPerCPU * cpus)
	spec.Maps["claims"].MaxEntries = uint32(slotsPerCPU * cpus)
	spec.Maps[namesMap] = &ebpf.MapSpec{Name: namesMap, Type: ebpf.Array, KeySize: 4, ValueSize: maxGroupName + 1, MaxEntries: maxHeldGroups}
	for variable, names := range map[string][]string{"calls_mapping": {"mmap", "mmap2"}, "calls_protecting": {"mprotect", "pkey_mprotect"}} {
		if err := setSlots(spec, variable, names); err != nil {
			return nil, err
		}
	}
	return spec, nil
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

func attachExec(spec *ebpf.ProgramSpec, p *ebpf.Program) (link.Link, error) {
	if spec.Type == ebpf.LSM {
		return link.AttachLSM(link.LSMOptions{Program: p})
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// meet tells the programs what runs already.
func (g *execPrograms) meet() error { return iterate([]*ebpf.Program{g.iterate}) }

// begin gives a new generation what the former one knows: which containers are held
// to which group. Rules come by Set; until then the former one holds.
func (g *execPrograms) begin() error {
	settings := g.maps["guard_settings"]
	if err := settings.Lookup(uint32(0), &g.setting); err != nil {
		return fmt.Errorf("read the settings of what holds programs: %w", err)
	}
	if err := g.maps[settingsMap].Put(uint32(0), uint64(DefaultWindow)); err != nil {
		return fmt.Errorf("set the window: %w", err)
	}
	if g.setting.HashKey != [2]uint64{} {
		return nil
	}
	if err := g.takeOver("holds", namesMap, "members", "setups"); err != nil {
		return err
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make a secret for names: %w", err)
	}
	g.setting.HashKey = [2]uint64{binary.LittleEndian.Uint64(secret[:8]) | 1, binary.LittleEndian.Uint64(secret[8:])}
	g.setting.Exclusive = 1
	if err := settings.Put(uint32(0), g.setting); err != nil {
		return fmt.Errorf("write the settings of what holds programs: %w", err)
	}
	return nil
}

func (g *execPrograms) controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return execControls(answers, g.rung)
}

// end lets go of all containers first: links that another program has open stay.
func (g *execPrograms) end() error {
	return errors.Join(dropWhere(g.maps["holds"], func(guardExecHeldId, guardExecHold) bool { return true }), endGenerations(g.dir))
}

func (g *execPrograms) close() error {
	err := g.generation.close()
	if g.iterate != nil {
		err = errors.Join(err, g.iterate.Close())
	}
	return err
}

// releaseExec lets go of every program that is held, whoever holds it, and returns
// how many containers were.
func releaseExec(dir string) (containers int, err error) {
	all, err := generations(execPins(dir))
	errs := []error{err}
	for _, g := range all {
		m, err := ebpf.LoadPinnedMap(filepath.Join(g, "holds"), nil)
		if err == nil {
			err = dropWhere(m, func(guardExecHeldId, guardExecHold) bool { containers++; return true })
			err = errors.Join(err, m.Close())
		}
		errs = append(errs, err, endGeneration(g))
	}
	return containers, errors.Join(errs...)
}
