// Package brief keeps what an agent decides on deployments by: the fleet's policy
// and exceptions, what is known of the images of this host, and, until the server
// has them, the verdicts. All of it survives a restart, so that the door of this
// host goes on by its last good policy and facts while the server is away.
//
// It fetches and keeps; what a request comes to is decided elsewhere, by whoever
// asks Standing and Facts, and tells Decided.
package brief

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/agent/rounds"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// refreshEvery is how often the server is asked for news without having told of
	// any: facts change with advisories, and nobody tells agents of that.
	refreshEvery = 5 * time.Minute
)

// Options are what a Keeper needs. All but Clock are required.
type Options struct {
	Dir     string // made with mode 0700; holds nothing else
	AgentID string
	Server  link.Admission
	Clock   func() time.Time // time.Now
	Log     *slog.Logger
}

// Standing is by what is decided.
type Standing struct {
	Version    int64                 `json:"version"` // of the policy; 0: the fleet has none
	Digest     string                `json:"digest"`
	Stamp      string                `json:"stamp"` // of policy and exceptions together
	Policy     []byte                `json:"policy"`
	Exceptions []admission.Exception `json:"exceptions,omitempty"`
	// Confirmed is when the server last said that this holds.
	Confirmed time.Time `json:"confirmed"`
}

// Keeper keeps it. It is safe for concurrent use.
type Keeper struct {
	o    Options
	wake rounds.Bell // rung when there is something to fetch
	tell rounds.Bell // rung when there is something to send

	mu       sync.Mutex
	standing Standing
	have     bool // standing is set
	told     link.AdmissionWish
	images   map[link.AskedImage]*image
	unsent   []waiting
	first    int    // number of the oldest of unsent: so many wait no more
	hurry    bool   // one of unsent is not to wait long
	lost     uint64 // verdicts that found no room
	away     uint64 // of these, since the server last took some
	news     chan struct{}
	silent   time.Time // when the server did not answer a decision

	disk journal // used by one goroutine
	// unwritten says that the disk did not take what was last to be kept.
	unwritten bool
}

// Open returns a keeper with what is on disk. What can't be read there is left out,
// and told in the log: the server has it.
func Open(o Options) (*Keeper, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	k := &Keeper{o: o, wake: rounds.NewBell(), tell: rounds.NewBell(), images: map[link.AskedImage]*image{}, news: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(o.Dir, factsFolder), 0o700); err != nil {
		return nil, fault.New(fault.Denied, "make the folder of what is decided by: %w", err).With("let the agent write its data folder")
	}
	k.readAll()
	return k, nil
}

// Wish says that the server told of another policy or other exceptions.
func (k *Keeper) Wish(w link.AdmissionWish) {
	k.mu.Lock()
	k.told = w
	k.mu.Unlock()
	k.wake.Ring()
}

// Standing returns by what is decided now; false until the server has said so once.
// The caller changes nothing of it.
func (k *Keeper) Standing() (Standing, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.standing, k.have
}

// Changed returns a channel that is closed when policy or exceptions are others than
// now.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.news
}

// Run fetches and sends until ctx ends; then it writes down what was not sent. Call
// it once.
func (k *Keeper) Run(ctx context.Context) {
	defer k.closeUnsent()
	rounds.Rounds{
		Every: refreshEvery, Wait: k.wait, Log: k.o.Log,
		Turn: func(ctx context.Context) error {
			defer k.tidyUnsent()
			return k.turn(ctx)
		},
		Failed: "what deployments are decided by is not fetched",
	}.Run(ctx)
}

// wait returns true when there is something to do. In the pause after an error
// nothing wakes it: a host that starts many containers must not try for each.
func (k *Keeper) wait(ctx context.Context, d time.Duration, wakes bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	wake := k.wake
	if !wakes {
		wake = nil
	}
	for end := time.Now().Add(d); ; {
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-wake:
		case <-k.tell:
			k.saveUnsent()
			if !wakes {
				continue
			}
			if due := time.Now().Add(k.patience()); due.Before(end) {
				end = due
				t.Reset(time.Until(due))
			}
			continue
		}
		return ctx.Err() == nil
	}
}

// turn does what there is to do.
func (k *Keeper) turn(ctx context.Context) error {
	if err := k.fetch(ctx); err != nil {
		return err
	}
	if err := k.refresh(ctx); err != nil {
		return err
	}
	return k.send(ctx)
}

// fetch gets policy and exceptions, unless they are those that are here.
func (k *Keeper) fetch(ctx context.Context) error {
	k.mu.Lock()
	ask := link.AdmissionAsk{AgentID: k.o.AgentID, Stamp: k.standing.Stamp}
	current := k.have && k.told.Stamp == k.standing.Stamp && k.o.Clock().Sub(k.standing.Confirmed) < refreshEvery/2
	k.mu.Unlock()
	if current {
		return nil
	}
	b, err := k.o.Server.Brief(ctx, ask)
	if err != nil {
		return err
	}
	return k.take(b)
}

// take puts in force what the server said, and writes it down.
func (k *Keeper) take(b link.AdmissionBrief) error {
	k.mu.Lock()
	now := k.o.Clock().UTC()
	k.told = b.AdmissionWish
	if !b.Changed {
		if k.have && b.Stamp == k.standing.Stamp {
			k.standing.Confirmed = now
		}
		k.mu.Unlock()
		return nil
	}
	k.standing = Standing{Version: b.Version, Digest: b.Digest, Stamp: b.Stamp, Policy: b.Policy, Exceptions: b.Exceptions, Confirmed: now}
	k.have = true
	close(k.news)
	k.news = make(chan struct{})
	s := k.standing
	k.mu.Unlock()
	k.o.Log.Info("deployments are decided by another policy or other exceptions", "version", s.Version, "exceptions", len(s.Exceptions))
	k.note(k.save(standingFile, s))
	return nil
}

// note tells when what is known can't be written down, and when it can again: it is
// used all the same.
func (k *Keeper) note(err error) {
	k.mu.Lock()
	was := k.unwritten
	k.unwritten = err != nil
	k.mu.Unlock()
	switch {
	case err != nil && !was:
		k.o.Log.Error("what deployments are decided by is not written down", "error", err, "remedy", fault.Remedy(err))
	case err == nil && was:
		k.o.Log.Info("what deployments are decided by is written down again")
	}
}
