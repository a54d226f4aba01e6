package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// bpfObjects are the programs and maps of an agent: what it has open, and what it has
// pinned. Others on this host may have theirs.
type bpfObjects struct {
	programs map[ebpf.ProgramID]bool
	maps     map[ebpf.MapID]bool
}

func (w *watcher) objects() (bpfObjects, error) {
	o := bpfObjects{map[ebpf.ProgramID]bool{}, map[ebpf.MapID]bool{}}
	dir := fmt.Sprintf("/proc/%d/fdinfo", w.cmd.Process.Pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		return o, err
	}
	for _, f := range open {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was closed meanwhile
		}
		if err != nil {
			return o, err
		}
		o.opened(string(b))
	}
	err = filepath.WalkDir(w.pins, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return o.pinned(path)
	})
	return o, err
}

// opened adds what a descriptor is of, by what the kernel says of it.
func (o bpfObjects) opened(info string) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(line, ":")
		id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
		switch {
		case err != nil || id == 0:
		case name == "prog_id":
			o.programs[ebpf.ProgramID(id)] = true
		case name == "map_id":
			o.maps[ebpf.MapID(id)] = true
		}
	}
}

// pinned adds what is pinned at a path: a link's program, or a map with those in it.
func (o bpfObjects) pinned(path string) error {
	if l, err := link.LoadPinnedLink(path, nil); err == nil {
		info, err := l.Info()
		if err == nil {
			o.programs[info.Program] = true
		}
		return errors.Join(err, l.Close())
	}
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return nil // a program: its link is there too
	}
	info, err := m.Info()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	if id, ok := info.ID(); ok {
		o.maps[id] = true
	}
	if m.Type() == ebpf.ArrayOfMaps {
		var key uint32
		var inner ebpf.MapID
		all := m.Iterate()
		for all.Next(&key, &inner) {
			o.maps[inner] = true
		}
		err = all.Err()
	}
	return errors.Join(err, m.Close())
}

// runs are how long a program ran, in nanoseconds, and how often.
type runs struct{ ns, times float64 }

// ran is how long and how often each of the programs has run so far, on all
// processors, by their names. What one jumps to counts as its own time.
func (o bpfObjects) ran() (map[string]runs, error) {
	all := map[string]runs{}
	for id := range o.programs {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, unix.ENOENT) {
			continue // it is gone
		}
		if err != nil {
			return nil, fmt.Errorf("open BPF program %d: %w", id, err)
		}
		s, err := p.Stats()
		info, infoErr := p.Info()
		if err = errors.Join(err, infoErr, p.Close()); err != nil {
			return nil, fmt.Errorf("read how long BPF program %d ran: %w", id, err)
		}
		was := all[info.Name]
		all[info.Name] = runs{was.ns + float64(s.Runtime.Nanoseconds()), was.times + float64(s.RunCount)}
	}
	return all, nil
}

// memory is what the programs and maps take of the kernel's memory, in bytes.
func (o bpfObjects) memory() (ofPrograms, ofMaps uint64, err error) {
	for id := range o.programs {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("open BPF program %d: %w", id, err)
		}
		info, err := p.Info()
		if err = errors.Join(err, p.Close()); err != nil {
			return 0, 0, err
		}
		n, _ := info.Memlock()
		ofPrograms += n
	}
	for id := range o.maps {
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("open BPF map %d: %w", id, err)
		}
		info, err := m.Info()
		if err = errors.Join(err, m.Close()); err != nil {
			return 0, 0, err
		}
		n, _ := info.Memlock()
		ofMaps += n
	}
	return ofPrograms, ofMaps, nil
}

// taken is how long and how often programs ran a second, by their names.
type taken map[string]runs

// takes measures how long programs run while something is done.
func (o bpfObjects) takes(do func() error) (taken, time.Duration, error) {
	before, err := o.ran()
	if err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return nil, 0, err
	}
	took := time.Since(begin)
	after, err := o.ran()
	all := taken{}
	for name, t := range after {
		all[name] = runs{(t.ns - before[name].ns) / took.Seconds(), (t.times - before[name].times) / took.Seconds()}
	}
	return all, took, err
}

// mostly returns the time of all programs together, and names those that ran longest.
func (t taken) mostly() (all float64, names string) {
	const shown = 5
	for _, r := range t {
		all += r.ns
	}
	order := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Compare(t[b].ns, t[a].ns) })
	var parts []string
	for _, name := range order[:min(shown, len(order))] {
		parts = append(parts, fmt.Sprintf("%s %.0f in %.1f runs", name, t[name].ns, t[name].times))
	}
	return all, strings.Join(parts, ", ")
}

// known measures what it costs the kernel to decide on what the profile has and the
// agent knows: the run time of all programs. What they run for besides, for every call
// of the host, is measured before and after, and taken off.
func (b *behaved) known(ctx context.Context) (rows []row, err error) {
	o := b.o
	b.o.span = max(o.span/3, time.Second)
	defer func() { b.o = o }()
	err = b.under(ctx, true, func(w *watcher) error {
		if _, err := b.all(ctx); err != nil { // from now on all is known
			return err
		}
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err != nil {
			return fmt.Errorf("have the kernel time BPF programs: %w", err)
		}
		defer stats.Close()
		objects, err := w.objects()
		if err != nil {
			return err
		}
		for n := range deeds {
			more, err := b.decided(ctx, objects, n)
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
func (b *behaved) decided(ctx context.Context, objects bpfObjects, n int) ([]row, error) {
	idle := func() error { return rest(ctx, settling) }
	before, _, err := objects.takes(idle) // meanwhile what came before is told
	if err != nil {
		return nil, err
	}
	b.sink.keeping(true)
	defer b.sink.keeping(false)
	b.sink.take()
	var d did
	took, span, err := objects.takes(func() (err error) { d, err = b.do(ctx, n); return err })
	if err != nil {
		return nil, err
	}
	after, _, err := objects.takes(idle)
	if err != nil {
		return nil, err
	}
	done := d.perSecond * b.o.span.Seconds()
	each := func(took, before, after float64) float64 {
		return max(0, (took-(before+after)/2)*span.Seconds()/done)
	}
	for name, t := range took {
		took[name] = runs{each(t.ns, before[name].ns, after[name].ns), each(t.times, before[name].times, after[name].times)}
	}
	all, names := took.mostly()
	told := 0
	for _, e := range b.sink.take() {
		if e.WorkloadID == b.box.id {
			told++
		}
	}
	return []row{
		{"known " + deeds[n].what + ": time of BPF programs", fmt.Sprintf("%.0f ns each", all), ""},
		{"  mostly of " + names, "", ""},
		{"  decided a second on one core", fmt.Sprintf("%.2f million", 1e3/all), "≥ 1 million"},
		{"  events that came to the agent", fmt.Sprintf("%d of %.0f", told, done), ""},
	}, nil
}
