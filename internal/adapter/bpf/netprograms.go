package bpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// netPrograms are the programs that hold the network, loaded. But for read they are
// for one goroutine at a time.
type netPrograms struct {
	log     *slog.Logger
	dir     string // of all generations
	own     string // of ours
	maps    map[string]*ebpf.Map
	reader  *ringbuf.Reader
	setting netguardNetSetting
}

func openNetPrograms(dir, generation string, log *slog.Logger) (*netPrograms, error) {
	g := &netPrograms{log: log, dir: networkPins(dir), own: filepath.Join(networkPins(dir), generation)}
	if err := g.open(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *netPrograms) controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return netControls(answers)
}

// end detaches everything and removes all pins.
func (g *netPrograms) end() error { return endGenerations(g.dir) }

// close lets go of the programs without ending them.
func (g *netPrograms) close() error {
	var errs []error
	if g.reader != nil {
		errs = append(errs, g.reader.Close())
	}
	for _, m := range g.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// read hands over what lay outside until ctx ends or the programs are closed.
func (g *netPrograms) read(ctx context.Context, emit func([]event.Event)) error {
	stop := context.AfterFunc(ctx, func() {
		if err := g.reader.Flush(); err != nil {
			g.log.DebugContext(ctx, "ring buffer closed before it was flushed", "error", err)
		}
	})
	defer stop()
	d := newDecoder(NewClock(nil))
	var record ringbuf.Record
	var batch []event.Event
	for {
		g.reader.SetDeadline(time.Now().Add(tickEvery))
		err := g.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.clock.Measure()
			continue
		case err != nil:
			return ended(ctx, err)
		}
		e, err := decodeNetGuard(d, record.RawSample)
		if err != nil {
			g.log.Error("what the network guard tells can't be decoded", "error", err)
			continue
		}
		if batch = append(batch, e); record.Remaining == 0 || len(batch) >= maxBatch {
			emit(batch)
			batch = nil
		}
	}
}

// Reactions of struct net_outside.
const (
	netAudited = 1
	netDenied  = 2
)

// decodeNetGuard reads one record.
func decodeNetGuard(d *decoder, b []byte) (event.Event, error) {
	var e event.Event
	var at netguardNetOutside
	h, err := d.head(b, &e)
	if err != nil {
		return e, err
	}
	if len(b) < int(unsafe.Sizeof(at)) {
		return e, errShort
	}
	place := b[unsafe.Offsetof(at.Place):]
	c := &event.Connection{
		Protocol: protocolName(u16(b, unsafe.Offsetof(at.Protocol))),
		NetNS:    u32(place, unsafe.Offsetof(at.Place.Netns)),
	}
	local := addrPort(place[unsafe.Offsetof(at.Place.Local):], u16(place, unsafe.Offsetof(at.Place.LocalPort)))
	remote := addrPort(place[unsafe.Offsetof(at.Place.Remote):], u16(place, unsafe.Offsetof(at.Place.RemotePort)))
	e.Connection = c
	if n := u64(b, unsafe.Offsetof(at.Count)); n > 1 {
		e.Count = n
	}
	switch b[unsafe.Offsetof(at.Reaction)] {
	case netAudited:
		e.Reaction = event.ReactionAudited
	case netDenied:
		e.Reaction, c.Error = event.ReactionDenied, "EPERM"
	default:
		return e, fmt.Errorf("unknown reaction %d", b[unsafe.Offsetof(at.Reaction)])
	}
	switch netguardNetDeed(h.kind) {
	case netguardNetDeedNET_CONNECT, netguardNetDeedNET_SEND:
		e.Kind, c.Remote = event.KindConnect, remote
	case netguardNetDeedNET_BIND:
		e.Kind, c.Local = event.KindListen, local
	case netguardNetDeedNET_RAW:
		e.Kind, c.Protocol = event.KindRaw, "raw"
	case netguardNetDeedNET_RATE:
		e.Kind, e.Connection = event.KindLimit, nil
		e.Resource = &event.Resource{What: "connections"}
	default:
		return e, fmt.Errorf("unknown deed %d", h.kind)
	}
	return e, nil
}

func (g *netPrograms) untold() (uint64, error) { return untoldOf(g.maps[countersMap]) }

func (g *netPrograms) groups() ([]asset.Group, error) {
	var out []asset.Group
	var key netguardNetGroup
	var r netguardNetRuleset
	all := g.maps["net_rules"].Iterate()
	for all.Next(&key, &r) {
		out = append(out, asset.Group(untilNUL(r.Name[:])))
	}
	slices.Sort(out)
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list groups whose network is held: %w", err)
	}
	return out, nil
}

func (g *netPrograms) containers() (map[string]asset.Group, error) {
	groups, err := g.groups()
	if err != nil {
		return nil, err
	}
	names := map[netguardNetGroup]asset.Group{}
	for _, name := range groups {
		names[hashOfGroup(name)] = name
	}
	out := map[string]asset.Group{}
	var id [32]byte
	var group netguardNetGroup
	all := g.maps["net_holds"].Iterate()
	for all.Next(&id, &group) {
		if name, ok := names[group]; ok {
			out[fmt.Sprintf("%x", id)] = name
		}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list containers whose network is held: %w", err)
	}
	return out, nil
}

func (g *netPrograms) hold(container string, name asset.Group) error {
	if err := g.maps["net_holds"].Put(keyOfContainer(container), hashOfGroup(name)); err != nil {
		return fmt.Errorf("hold the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}

func (g *netPrograms) forget(container string) error {
	if err := g.maps["net_holds"].Delete(keyOfContainer(container)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("let go of the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}
