package hold

import (
	"context"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// askWithin is how long a container that is about to start may wait for the
	// server to say the rules of a group that is new to this host. A start that
	// takes a few seconds longer hurts nobody; one that never comes does.
	askWithin = 3 * time.Second
	// askAgain is how long after an ask that gave nothing the server is not asked for
	// that group again: it is away, or older.
	askAgain = time.Minute
	// maxAsked bounds the groups that are remembered as asked for.
	maxAsked = 4 * link.MaxHeldGroups
)

// Starting ties a container that is about to start. The engine's authorization
// plugin tells it while the engine waits, so that nothing in the container ever
// runs unheld; without the plugin the agent tells it as soon as the engine says that
// there is such a container, which may be a moment late. Rules of a group that is
// new to this host are fetched first. The error is why it is not held as its group
// is to be.
func (k *Keeper) Starting(ctx context.Context, id string, name asset.Group) error {
	if !asset.IsContainerID(id) || name == "" {
		return nil
	}
	err := k.want(ctx, name)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.containers[id] = container{group: name, seen: k.o.Clock(), starting: true}
	k.learn() // what it does at its start counts too
	if k.released != nil || k.groups[name] == nil {
		return err
	}
	var errs []error
	for _, kernel := range k.o.Kernels {
		errs = append(errs, kernel.Hold(id, name))
	}
	return errors.Join(errs...)
}

// want fetches the rules of a group that this host has none of.
func (k *Keeper) want(ctx context.Context, name asset.Group) error {
	if !k.mayAsk(name) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	b, err := k.ask(ctx, link.BehaviourAsk{AgentID: k.o.AgentID, Held: k.Held(), Wanted: []asset.Group{name}})
	if b.More {
		k.wake.Ring()
	}
	return err
}

// mayAsk reports whether the server is to be asked for a group, and remembers it.
func (k *Keeper) mayAsk(name asset.Group) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.o.Clock()
	if k.groups[name] != nil || k.released != nil || len(k.groups) >= link.MaxHeldGroups || now.Sub(k.asked[name]) < askAgain {
		return false
	}
	if len(k.asked) >= maxAsked {
		clear(k.asked)
	}
	k.asked[name] = now
	return true
}
