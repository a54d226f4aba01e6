package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/hold"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// releaseWait is how long an agent has to let go by itself: it looks every second.
const releaseWait = 3 * time.Second

func newWatchRelease(g *globals) *cobra.Command {
	var undo bool
	var reason, pins string
	c := &cobra.Command{
		Use:   "release",
		Short: "Let go of every container on this host, at once",
		Long: `Let go of every container on this host, at once: nothing is blocked or limited
here any more, whatever the server says, until it is taken back with --undo.

It is for the host itself, as root, and needs neither the server nor an agent
that answers. Sensors go on, and the server is told that the host is released.

  castellan watch release --reason "shop is down"
  castellan watch release --undo
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if g.dataDir == "" {
				return usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
			}
			if undo {
				return g.undoRelease()
			}
			return g.releaseHost(c.Context(), pins, reason)
		},
	}
	f := c.Flags()
	f.BoolVar(&undo, "undo", false, "hold this host again")
	f.StringVar(&reason, "reason", "", "why, for whoever sees on the server that the host is released")
	f.StringVar(&pins, "pins", "", "the agent's --pins (default: as the agent wrote down in --data-dir, or "+bpf.DefaultPins+")")
	return c
}

// pinsFile of the data folder says where the agent pins what enforces: whoever releases
// the host must find it.
const pinsFile = "pins"

// pinsOf returns where the agent of this data folder pins what enforces.
func (g *globals) pinsOf() (string, error) {
	b, err := os.ReadFile(filepath.Join(g.dataDir, pinsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return bpf.DefaultPins, nil
	}
	if err != nil {
		return "", fault.New(fault.Denied, "read where the agent pins what enforces: %w", err).With("run it as root, or say --pins as the agent does")
	}
	return strings.TrimSpace(string(b)), nil
}

func (g *globals) undoRelease() error {
	was, err := hold.Undo(filepath.Join(g.dataDir, rulesFolder))
	if err != nil {
		return err
	}
	if !was {
		fmt.Fprintln(g.out, "This host was not released.")
		return nil
	}
	fmt.Fprintln(g.out, "This host is held again as soon as its agent has looked: within a second or two, or when it starts.")
	return nil
}

// releaseHost asks the agent to let go, and does it where that does not happen.
func (g *globals) releaseHost(ctx context.Context, pins, reason string) error {
	dir := filepath.Join(g.dataDir, rulesFolder)
	groups, err := hold.Groups(dir)
	if err != nil {
		// What can't be listed is let go all the same.
		fmt.Fprintf(g.err, "The rules on disk can't be listed: %s\n", printable(err.Error()))
	}
	id, err := agent.Identity(g.dataDir)
	if err != nil {
		return err
	}
	if pins == "" {
		if pins, err = g.pinsOf(); err != nil {
			return err
		}
	}
	pins = filepath.Join(pins, id)
	if err := hold.Release(dir, hold.Released{At: time.Now().UTC(), By: userName(), Reason: reason}); err != nil {
		return fault.New(fault.Denied, "%w", err).With("run it as root on the host, with the agent's --data-dir")
	}
	gone, err := g.waitReleased(ctx, pins)
	if err != nil {
		return err
	}
	if !gone {
		r, err := bpf.Release(pins)
		if err = errors.Join(err, g.releaseLimits()); err != nil {
			return err
		}
		fmt.Fprintf(g.out, "No agent answered: in the kernel %d containers were let go, and %d programs of the network ended.\n", r.Containers, r.Network)
	}
	g.tellReleased(groups)
	fmt.Fprintln(g.out, "Nothing is held on this host any more. Hold it again with: castellan watch release --undo")
	return nil
}

// tellReleased says which groups are let go: those that were protected by their names, of
// the others how many.
func (g *globals) tellReleased(groups map[asset.Group]profile.Mode) {
	monitored := 0
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if groups[name] != profile.Protect {
			monitored++
			continue
		}
		fmt.Fprintf(g.out, "let go  %s\n", printable(string(name)))
	}
	if monitored > 0 {
		fmt.Fprintf(g.out, "let go  %s\n", plural(monitored, "group that was only monitored", "groups that were only monitored"))
	}
}

// waitReleased waits for the agent, and reports whether it has let go. What can't be read
// may hold.
func (g *globals) waitReleased(ctx context.Context, pins string) (bool, error) {
	until := time.Now().Add(releaseWait)
	for {
		held, err := bpf.Held(pins)
		limited, lerr := g.limited()
		if err == nil && lerr == nil && held+limited == 0 {
			return true, nil
		}
		if time.Now().After(until) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(releaseWait / 30):
		}
	}
}

// limiter is what the host's agent, or this program in its place, limits containers with.
func (g *globals) limiter() (*kernel.Limiter, error) {
	return kernel.New(kernel.Options{}).Limiter(filepath.Join(g.dataDir, limitsFile))
}

// limited counts the containers whose limits are to be given back.
func (g *globals) limited() (int, error) {
	limiter, err := g.limiter()
	if err != nil {
		return 0, err
	}
	held, err := limiter.Containers()
	return len(held), err
}

// releaseLimits gives containers back what they had.
func (g *globals) releaseLimits() error {
	limiter, err := g.limiter()
	if err != nil {
		return err
	}
	groups, err := limiter.Groups()
	errs := []error{err}
	for _, name := range groups {
		errs = append(errs, limiter.Remove(name))
	}
	return errors.Join(errs...)
}

// userName is who runs this program.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return "somebody"
	}
	return u.Username
}
