package bpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type net_deed -type net_outside -type net_ruleset -type net_group -type net_range -type net_destination -type net_listen -type net_named -type net_resolver -type net_setting -type net_knowing -type net_known_key netguard netguard.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// DefaultPins is where what enforces is pinned, on the host's BPF file system.
const DefaultPins = "/sys/fs/bpf/castellan"

// networkRung is the rung of profile.ControlNetwork, in the words of
// internal/adapter/kernel.
const networkRung = "cgroup BPF (connect, sendmsg, bind)"

// NetGuard holds containers to whom they may speak with, by programs at the root of
// the cgroups. They and their maps are pinned: they go on when this program ends,
// and a later one takes them up. It is safe for concurrent use.
//
// TCP and UDP are held when a socket connects, sends to an address or is bound to a
// port, raw sockets when they are made. A TCP socket that listens without having
// been bound, ports above 32767 that a UDP socket is bound to, answers of the DNS
// over TCP and connections that were there before are not held; sensors tell of
// them.
type NetGuard struct {
	log    *slog.Logger
	dir    string // of all generations
	own    string // of ours
	maps   map[string]*ebpf.Map
	reader *ringbuf.Reader

	mu      sync.Mutex
	setting netguardNetSetting
}

// OpenNetGuard loads the programs, or takes up those of a former start. dir is
// DefaultPins; it must be on a BPF file system, which is mounted at /sys/fs/bpf if
// nothing is. Those of another version stay in force beside ours until Settle. The
// error says why this kernel, or these rights, don't allow it.
func OpenNetGuard(dir string, log *slog.Logger) (*NetGuard, error) {
	return openNetGuard(dir, generationOf(_NetguardBytes), log)
}

func openNetGuard(dir, generation string, log *slog.Logger) (*NetGuard, error) {
	g := &NetGuard{log: log, dir: networkPins(dir), own: filepath.Join(networkPins(dir), generation)}
	if err := mountPins(dir); err != nil {
		return nil, err
	}
	if err := g.open(); err != nil {
		reason, remedy := explain(err)
		return nil, errors.Join(fault.New(fault.Unsupported, "hold the network: %s", reason).With(remedy), g.Close())
	}
	return g, nil
}

// Close lets go of the programs without ending them.
func (g *NetGuard) Close() error {
	var errs []error
	if g.reader != nil {
		errs = append(errs, g.reader.Close())
	}
	for _, m := range g.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Run hands over what lay outside until ctx ends, and then returns ctx's error. What
// is alike is told once in ten seconds, with how often it was. Call it once.
func (g *NetGuard) Run(ctx context.Context, emit func([]event.Event)) error {
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

// Controls says how the network is held.
func (g *NetGuard) Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return []profile.HeldControl{{Control: profile.ControlNetwork, Answer: answers[profile.ControlNetwork], Rung: networkRung}}
}

// Lost counts what was not told for want of somebody who listens.
func (g *NetGuard) Lost() (uint64, error) { return sum(g.maps[countersMap], countLost) }

// Groups are those that have rules, from before this program too, in order.
func (g *NetGuard) Groups() ([]asset.Group, error) {
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

// Containers are those that are held, with their groups.
func (g *NetGuard) Containers() (map[string]asset.Group, error) {
	groups, err := g.Groups()
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

// Hold ties a container, which need not exist yet, to a group.
func (g *NetGuard) Hold(container string, name asset.Group) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	if err := g.maps["net_holds"].Put(keyOfContainer(container), hashOfGroup(name)); err != nil {
		return fmt.Errorf("hold the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}

// Forget lets go of a container.
func (g *NetGuard) Forget(container string) error {
	if !asset.IsContainerID(container) {
		return nil
	}
	if err := g.maps["net_holds"].Delete(keyOfContainer(container)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("let go of the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}
