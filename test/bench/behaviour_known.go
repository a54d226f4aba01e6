package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// bpfObjects are the ids of programs, and of maps with the highest bit set, that the
// kernel has now.
func bpfObjects() (map[uint32]bool, error) {
	all := map[uint32]bool{}
	err := eachProgram(func(id ebpf.ProgramID, _ *ebpf.Program) error { all[uint32(id)] = true; return nil })
	return all, errors.Join(err, eachMap(func(id ebpf.MapID, _ *ebpf.Map) error { all[uint32(id)|isMap] = true; return nil }))
}

const isMap = 1 << 31

func eachProgram(do func(ebpf.ProgramID, *ebpf.Program) error) error {
	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list BPF programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, unix.ENOENT) {
			continue // it was unloaded meanwhile
		}
		if err != nil {
			return fmt.Errorf("open BPF program %d: %w", id, err)
		}
		if err := errors.Join(do(id, p), p.Close()); err != nil {
			return err
		}
	}
}

func eachMap(do func(ebpf.MapID, *ebpf.Map) error) error {
	var id ebpf.MapID
	for {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list BPF maps: %w", err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, unix.ENOENT) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("open BPF map %d: %w", id, err)
		}
		if err := errors.Join(do(id, m), m.Close()); err != nil {
			return err
		}
	}
}

// ran is how long the agent's BPF programs have run so far, on all processors, by
// their names. What one jumps to counts as its own time.
func (b *behaved) ran() (map[string]time.Duration, error) {
	all := map[string]time.Duration{}
	return all, eachProgram(func(id ebpf.ProgramID, p *ebpf.Program) error {
		if b.programs[uint32(id)] {
			return nil
		}
		s, err := p.Stats()
		if err != nil {
			return fmt.Errorf("read how long BPF program %d ran: %w", id, err)
		}
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("read the name of BPF program %d: %w", id, err)
		}
		all[info.Name] += s.Runtime
		return nil
	})
}

// mostly names the programs that ran longest between two readings, and returns the
// time of all.
func mostly(before, after map[string]time.Duration, done float64) (each float64, names string) {
	const shown = 5
	took := map[string]float64{}
	for name, t := range after {
		took[name] = float64((t - before[name]).Nanoseconds()) / done
		each += took[name]
	}
	order := slices.SortedFunc(maps.Keys(took), func(a, b string) int { return cmp.Compare(took[b], took[a]) })
	var parts []string
	for _, name := range order[:min(shown, len(order))] {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, took[name]))
	}
	return each, strings.Join(parts, ", ")
}

// bpfMemory is what the agent's BPF programs and maps take of the kernel's memory.
func (b *behaved) bpfMemory() (ofPrograms, ofMaps uint64, err error) {
	err = eachProgram(func(id ebpf.ProgramID, p *ebpf.Program) error {
		info, err := p.Info()
		if err == nil && !b.programs[uint32(id)] {
			n, _ := info.Memlock()
			ofPrograms += n
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	err = eachMap(func(id ebpf.MapID, m *ebpf.Map) error {
		info, err := m.Info()
		if err == nil && !b.programs[uint32(id)|isMap] {
			n, _ := info.Memlock()
			ofMaps += n
		}
		return err
	})
	return ofPrograms, ofMaps, err
}

// known measures what it costs the kernel to decide on what the profile has and the
// agent knows: the run time of all programs, whatever they ran for.
func (b *behaved) known(ctx context.Context) (rows []row, err error) {
	o := b.o
	b.o.span = max(o.span/3, time.Second)
	defer func() { b.o = o }()
	err = b.under(ctx, true, func(*watcher) error {
		if _, err := b.all(ctx); err != nil { // from now on all is known
			return err
		}
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err != nil {
			return fmt.Errorf("have the kernel time BPF programs: %w", err)
		}
		defer stats.Close()
		for n, d := range deeds {
			if d.job.what == "" {
				continue
			}
			more, err := b.decided(ctx, n)
			rows = append(rows, more...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return rows, err
}

// decided does one deed and measures what the kernel's side took of it.
func (b *behaved) decided(ctx context.Context, n int) ([]row, error) {
	if err := rest(ctx, settling); err != nil { // what came before is told
		return nil, err
	}
	b.sink.keeping(true)
	defer b.sink.keeping(false)
	b.sink.take()
	before, err := b.ran()
	if err != nil {
		return nil, err
	}
	d, err := b.do(ctx, n)
	if err != nil {
		return nil, err
	}
	after, err := b.ran()
	if err != nil {
		return nil, err
	}
	done := d.perSecond * b.o.span.Seconds()
	each, names := mostly(before, after, done)
	if err := rest(ctx, settling); err != nil {
		return nil, err
	}
	told := 0
	for _, e := range b.sink.take() {
		if e.WorkloadID == b.box.id {
			told++
		}
	}
	return []row{
		{"known " + deeds[n].what + ": time of BPF programs", fmt.Sprintf("%.0f ns each", each), ""},
		{"  mostly of " + names, "", ""},
		{"  decided a second on one core", fmt.Sprintf("%.2f million", 1e3/each), "≥ 1 million"},
		{"  events that came to the agent", fmt.Sprintf("%d of %.0f", told, done), ""},
	}, nil
}
