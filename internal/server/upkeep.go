package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// How often the server looks after itself.
const (
	checkEvery = 30 * time.Second
	renewEvery = time.Hour
	// pruneEvery keeps each pruning short.
	pruneEvery = 5 * time.Minute
	// forgetAfter an agent's silence its processes are no longer shown.
	forgetAfter = time.Hour
	// healthFor is how long an answer about the store's health stands.
	healthFor = 5 * time.Second
	// lowDisk is when an operator should act: some hours before a busy server
	// would stop taking events.
	lowDisk = 512 << 20
)

// Names of conditions that upkeep sets.
const (
	partDisk        = "disk"
	partPrune       = "retention"
	partCertificate = "certificate"
	partHealth      = "database"
)

// upkeep runs until ctx ends: everything that happens by itself and not
// because somebody asked.
func (s *Server) upkeep(ctx context.Context) {
	check, prune, renew := time.NewTicker(checkEvery), time.NewTicker(pruneEvery), time.NewTicker(renewEvery)
	defer check.Stop()
	defer prune.Stop()
	defer renew.Stop()
	s.check(ctx)
	s.prune(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-check.C:
			s.check(ctx)
		case <-prune.C:
			s.prune(ctx)
		case <-renew.C:
			s.renew()
		}
	}
}

// check looks at the store and the disk, and forgets agents that are gone.
func (s *Server) check(ctx context.Context) {
	h, err := s.storeHealth(ctx)
	s.condition(ctx, partHealth, err)
	if err == nil {
		var low error
		if h.FreeBytes < lowDisk {
			low = fault.New(fault.Exhausted, "only %d MiB are free where the events are kept", h.FreeBytes>>20).
				With("free space there, or keep events for a shorter time (--keep-events, --max-events)")
		}
		s.condition(ctx, partDisk, low)
	}
	s.intake.Forget(s.cfg.Clock().Add(-forgetAfter))
}

func (s *Server) prune(ctx context.Context) {
	n, err := s.st.Prune(ctx, s.cfg.Retention, s.cfg.Clock())
	if n > 0 {
		s.log.Info("old rows removed", "rows", n)
	}
	if err != nil {
		err = fmt.Errorf("remove what is older than its retention: %w", err)
	}
	s.condition(ctx, partPrune, err)
}

func (s *Server) renew() {
	renewed, err := s.authority.Renew()
	if renewed {
		s.log.Info("certificate renewed", "expires", s.authority.Expires())
	}
	s.condition(context.Background(), partCertificate, err)
}

// condition shows err, or that a part is well again, and logs the change.
func (s *Server) condition(ctx context.Context, part string, err error) {
	if err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return // the server stops
	}
	if !s.conditions.Set(part, err) {
		return
	}
	if err != nil {
		s.log.Error("part of the server is not well", "part", part, "error", err, "remedy", fault.Remedy(err))
		return
	}
	s.log.Info("part of the server is well again", "part", part)
}

// healthCache keeps the store's last answer: anybody may ask /readyz as often
// as they like.
type healthCache struct {
	mu     sync.Mutex
	at     time.Time
	health store.Health
	err    error
}

// storeHealth returns what the store said at most healthFor ago.
func (s *Server) storeHealth(ctx context.Context) (store.Health, error) {
	c := &s.health
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.cfg.Clock()
	if age := now.Sub(c.at); !c.at.IsZero() && age >= 0 && age < healthFor {
		return c.health, c.err
	}
	h, err := s.st.Health(ctx)
	if ctx.Err() != nil {
		return h, err // says something about the asker only
	}
	c.at, c.health, c.err = now, h, err
	return h, err
}
