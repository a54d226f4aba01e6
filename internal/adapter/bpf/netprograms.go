package bpf

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// netPrograms are the programs that hold the network, loaded. But for read they are
// for one goroutine at a time.
type netPrograms struct {
	generation
	setting netguardNetSetting
	// written are the tables of groups that this program wrote, by their numbers: what is
	// in them is not looked for when they are dropped.
	written map[uint32]netTable
}

func openNetPrograms(dir, generation string, log *slog.Logger) (*netPrograms, error) {
	g := &netPrograms{written: map[uint32]netTable{}}
	g.log, g.dir, g.own = log, networkPins(dir), filepath.Join(networkPins(dir), generation)
	if err := g.open(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// open takes up our generation, or makes it out of the one that is there.
func (g *netPrograms) open() error {
	spec, err := loadNetguard()
	if err != nil {
		return err
	}
	for _, unused := range []string{untoldMap, settingsMap} {
		if !isReferred(spec, unused) {
			delete(spec.Maps, unused)
		}
	}
	c, err := g.load(spec, netGuardRing)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range c.Programs {
			p.Close()
		}
	}()
	if err := errors.Join(g.begin(), g.dropUnknown()); err != nil {
		return err
	}
	if err := g.attachAll(spec, c); err != nil {
		return err
	}
	return g.listen()
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
	if err := g.takeOver(netHoldsMap, "net_known", "net_settings"); err != nil {
		return err
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

// attachAll attaches and pins each program that is not yet.
func (g *netPrograms) attachAll(spec *ebpf.CollectionSpec, c *ebpf.Collection) error {
	root, err := openCgroups()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for name, p := range c.Programs {
		err := g.attach(name, func() (link.Link, error) {
			return link.AttachRawLink(link.RawLinkOptions{Target: root, Program: p, Attach: spec.Programs[name].AttachType})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *netPrograms) controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return netControls(answers)
}

// read hands over what lay outside until ctx ends or the programs are closed.
func (g *netPrograms) read(ctx context.Context, emit func([]event.Event)) error {
	d := newDecoder(NewClock(nil))
	return g.generation.read(ctx, d, func(b []byte) (event.Event, error) { return decodeNetGuard(d, b) }, nil, emit)
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
	all := g.maps[netHoldsMap].Iterate()
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
	if err := g.maps[netHoldsMap].Put(keyOfContainer(container), hashOfGroup(name)); err != nil {
		return fmt.Errorf("hold the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}

func (g *netPrograms) forget(container string) error {
	if err := g.maps[netHoldsMap].Delete(keyOfContainer(container)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("let go of the network of container %s: %w", asset.ShortID(container), err)
	}
	return nil
}
