package bpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

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
//
// While no group's network is held nothing is loaded, and nothing is paid for.
type NetGuard struct {
	log *slog.Logger
	dir string // of pins
	own string // generation of this build

	mu     sync.Mutex
	live   *netPrograms  // nil while nothing is held
	news   chan struct{} // closed and replaced when live is another
	closed bool
}

// OpenNetGuard takes up the programs of a former start, if there are any. dir is
// where they are pinned; it must be on a BPF file system, such as below DefaultPins,
// which is mounted if nothing is. Those of another version stay in force beside ours
// until Settle. The error says why this kernel, or these rights, don't allow it.
func OpenNetGuard(dir string, log *slog.Logger) (*NetGuard, error) {
	return openNetGuard(dir, generationOf(_NetguardBytes), log)
}

func openNetGuard(dir, generation string, log *slog.Logger) (*NetGuard, error) {
	g := &NetGuard{log: log, dir: dir, own: generation, news: make(chan struct{})}
	former, err := generations(networkPins(dir))
	if err != nil {
		return nil, fmt.Errorf("list what holds the network: %w", err)
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
		log.Warn("while nobody listened the network was held, and not all of what was refused is told", "untold", n)
	}
	return g, nil
}

// load loads the programs, if they are not; g.mu is held, or nobody knows g yet.
func (g *NetGuard) load() error {
	if g.live != nil {
		return nil
	}
	if err := mountPins(g.dir); err != nil {
		return err
	}
	p, err := openNetPrograms(g.dir, g.own, g.log)
	if err != nil {
		reason, remedy := explain(err)
		return fault.New(fault.Unsupported, "hold the network: %s", reason).With(remedy)
	}
	g.become(p)
	return nil
}

// become makes p what holds the network; nil for nothing. g.mu is held.
func (g *NetGuard) become(p *netPrograms) {
	g.live = p
	close(g.news)
	g.news = make(chan struct{})
}

// Set makes r the rules of its group, as a whole; on an error the former ones hold.
func (g *NetGuard) Set(r profile.Rules) error {
	if err := r.Check(); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	limits := r.Answers[profile.ControlResource] != profile.Off && r.Limits.NewConnections > 0
	if r.Answers[profile.ControlNetwork] == profile.Off && !limits {
		return g.remove(r.Group)
	}
	if g.closed {
		return fault.New(fault.Unavailable, "hold the network: closed")
	}
	if err := g.load(); err != nil {
		return err
	}
	return g.live.set(r)
}

// Remove lets go of a group and of its containers.
func (g *NetGuard) Remove(name asset.Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.remove(name)
}

// remove ends the programs with the last group; g.mu is held.
func (g *NetGuard) remove(name asset.Group) error {
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
	p := g.live
	g.become(nil)
	return errors.Join(p.close(), endGenerations(g.dir))
}

// Hold ties a container, which need not exist yet, to a group; to one whose network
// is not held it does nothing.
func (g *NetGuard) Hold(container string, name asset.Group) error {
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

// Forget lets go of a container.
func (g *NetGuard) Forget(container string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil || !asset.IsContainerID(container) {
		return nil
	}
	return g.live.forget(container)
}

// Groups are those whose network is held, from before this program too, in order.
func (g *NetGuard) Groups() ([]asset.Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil, nil
	}
	return g.live.groups()
}

// Containers are those that are held, with their groups.
func (g *NetGuard) Containers() (map[string]asset.Group, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil, nil
	}
	return g.live.containers()
}

// Controls says how the network is held.
func (g *NetGuard) Controls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return []profile.HeldControl{{Control: profile.ControlNetwork, Answer: answers[profile.ControlNetwork], Rung: networkRung}}
}

// Settle ends former versions of what holds the network: all rules have been set by
// now.
func (g *NetGuard) Settle() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		return nil
	}
	return g.live.settle()
}

// Close lets go of the programs without ending them.
func (g *NetGuard) Close() error {
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
func (g *NetGuard) Run(ctx context.Context, emit func([]event.Event)) error {
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
