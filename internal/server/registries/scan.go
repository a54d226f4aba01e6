package registries

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxTries is when an image is given up that can't be read from its registry.
	maxTries = 5
	// firstPause follows the first try that failed; each further one is pauseGrows
	// times as long.
	firstPause = time.Minute
	pauseGrows = 5
	// busyPause is how long an image is left alone at which somebody else is.
	busyPause = time.Minute
	// storeTries is how often it is tried to store what a scan found, afterTrouble
	// apart, before the scan counts for nothing.
	storeTries = 4
	// stopWithin bounds what is still done when the server stops.
	stopWithin = 3 * time.Second
	// maxText bounds each text of an error that is handed on.
	maxText = 1_000
)

// scanAll runs the scanners until ctx ends.
func (s *Service) scanAll(ctx context.Context) {
	if s.scans < 1 || s.doors.Images == nil {
		return
	}
	for ctx.Err() == nil {
		err := s.st.ResumeRegistryScans(ctx, s.analysis, s.clock())
		s.condition(ctx, PartScans, err)
		if err == nil {
			break
		}
		pace.Wait(ctx, afterTrouble)
	}
	var wg sync.WaitGroup
	for range s.scans {
		wg.Go(func() { s.scanEach(ctx) })
	}
	wg.Wait()
}

// scanEach scans what waits, the newest first, one after the other.
func (s *Service) scanEach(ctx context.Context) {
	for ctx.Err() == nil {
		held, end := s.held()
		e, err := s.st.TakeRegistryScan(ctx, s.clock(), held)
		switch {
		case fault.Is(err, fault.NotFound):
			s.condition(ctx, PartScans, nil)
			s.awaitWork(ctx, held, end)
		case err != nil:
			s.condition(ctx, PartScans, fmt.Errorf("take an image of a registry: %w", err))
			pace.Wait(ctx, afterTrouble)
		default:
			s.scanOne(ctx, e)
		}
	}
}

// held returns of what nothing is scanned now, and the first end of it.
func (s *Service) held() (all []store.Held, end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for name, p := range s.plans {
		var at time.Time
		if all, at = s.holds.held(name, p.r.Host, now, all); end.IsZero() || !at.IsZero() && at.Before(end) {
			end = at
		}
	}
	return all, end
}

// awaitWork waits until something may wait for a scan.
func (s *Service) awaitWork(ctx context.Context, held []store.Held, end time.Time) {
	d := lookEvery
	if next, err := s.st.NextRegistryScan(ctx, held); err == nil && !next.IsZero() {
		d = min(d, max(next.Sub(s.clock()), time.Second))
	}
	if !end.IsZero() {
		d = min(d, max(end.Sub(s.clock()), time.Second))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-s.work:
	case <-t.C:
	}
}

// scanOne scans an image that was taken and notes what became of it. When the
// server stops, the image waits for its next start, and this was no try.
func (s *Service) scanOne(ctx context.Context, e store.RegistryImage) {
	s.scanning.Touch()
	end := s.try(ctx, &e)
	if ctx.Err() != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		back := store.RegistryScanEnd{State: store.RegistryWaiting, Next: s.clock(), Error: e.Error, Uncounted: true}
		if err := s.st.EndRegistryScan(stopping, e.ID, back); err != nil {
			s.log.Warn("image of a registry not given back; the next start has it wait", "id", e.ID, "error", err)
		}
		return
	}
	if end.State == store.RegistryFailed || end.State == store.RegistryWaiting && end.Error != "" {
		s.log.Warn("image of a registry not scanned", "registry", e.Registry, "repository", e.Repository, "digest", e.Digest,
			"why", end.Error, "given_up", end.State == store.RegistryFailed)
	}
	s.insist(ctx, "note the end of a scan", func(ctx context.Context) error {
		err := s.st.EndRegistryScan(ctx, e.ID, end)
		if fault.Is(err, fault.NotFound) {
			return nil // it is kept no more
		}
		return err
	})
	s.scanning.Touch()
}

// insist does something in the store until it works or ctx ends: what is not
// written would be as if it still ran.
func (s *Service) insist(ctx context.Context, what string, do func(context.Context) error) {
	for {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.condition(ctx, PartScans, fmt.Errorf("%s: %w", what, err))
		pace.Wait(ctx, afterTrouble)
	}
}

// try brings an image as far as it goes.
func (s *Service) try(ctx context.Context, e *store.RegistryImage) store.RegistryScanEnd {
	s.mu.Lock()
	p := s.plans[e.Registry]
	s.mu.Unlock()
	if p == nil {
		// Not yet after a start, or being changed; what is removed has no entries.
		return store.RegistryScanEnd{State: store.RegistryWaiting, Next: s.clock().Add(busyPause), Uncounted: true}
	}
	at := place{p.r.Host, e.Repository}
	found, err := s.resolve(ctx, p.r, e)
	if err != nil {
		return s.failed(ctx, at, e, err)
	}
	end := store.RegistryScanEnd{State: store.RegistryDone, Analysis: s.analysis}
	known := make([]store.Image, 0, len(found))
	for _, f := range found {
		end.Created = later(end.Created, f.Created)
		end.Platforms = append(end.Platforms, store.RegistryPlatform{ImageID: f.ID, Platform: f.Platform})
		known = append(known, store.Image{ID: f.ID, References: references(p.r, e), Digest: e.Digest, Platform: f.Platform, Layers: f.Layers})
	}
	if err := s.scanning.Known(ctx, known); err != nil {
		return s.failed(ctx, at, e, &ours{fmt.Errorf("store the image: %w", err)})
	}
	for _, f := range found {
		state, err := s.scanPlatform(ctx, p.r, e.Repository, f)
		if ctx.Err() != nil {
			return end
		}
		if err != nil {
			other := s.failed(ctx, at, e, err)
			other.Platforms, other.Created = end.Platforms, end.Created
			return other
		}
		combine(&end, state, s.clock())
	}
	s.answered(ctx, at, false)
	return end
}

// answered notes that a registry let an image be found, or read to its end.
func (s *Service) answered(ctx context.Context, at place, read bool) {
	s.holds.answered(at, read, s.clock())
	s.showPause(ctx, at.host)
}

// showPause makes a condition of what keeps the images of a host from being
// scanned, or ends it.
func (s *Service) showPause(ctx context.Context, host string) {
	_, err := s.holds.why(host)
	s.mu.Lock()
	var names []string
	for name, p := range s.plans {
		if p.r.Host == host {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	for _, name := range names {
		s.condition(ctx, PartRegistry+"/"+name+partOfScans, err)
	}
}

// resolve returns the images that an entry is of, a bounded number of them.
func (s *Service) resolve(ctx context.Context, r asset.Registry, e *store.RegistryImage) ([]Found, error) {
	wanted, err := s.platforms(ctx, r)
	if err != nil {
		return nil, err
	}
	found, err := s.doors.Images.Resolve(ctx, r, e.Repository, e.Digest, wanted)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f Found) bool { return inventory.CheckDigest(f.ID) != nil })
	if len(found) == 0 {
		return nil, fault.New(fault.Unsupported, "there is no image in it")
	}
	return found[:min(len(found), store.MaxPlatforms)], nil
}

// platforms returns those that are scanned of a multi-platform image: as
// configured, else those of the hosts in the fleet, else linux/amd64.
func (s *Service) platforms(ctx context.Context, r asset.Registry) ([]inventory.Platform, error) {
	wanted, err := platformsOf(r)
	if err != nil || len(wanted) > 0 {
		return wanted, err
	}
	agents, err := s.st.Agents(ctx)
	if err != nil {
		return nil, &ours{fmt.Errorf("list agents: %w", err)}
	}
	for i := range agents {
		p := inventory.Platform{OS: "linux", Architecture: agents[i].Host.Arch}
		if p.Architecture != "" && !slices.Contains(wanted, p) {
			wanted = append(wanted, p)
		}
	}
	if len(wanted) == 0 {
		wanted = append(wanted, inventory.Platform{OS: "linux", Architecture: "amd64"})
	}
	return wanted, nil
}

// references are the names by which people would pull an entry: those of its
// tags, a few.
func references(r asset.Registry, e *store.RegistryImage) []string {
	base := r.Host + "/" + e.Repository
	if len(e.Tags) == 0 {
		return []string{base + "@" + e.Digest}
	}
	const few = 4 // others of its names may be from workloads
	var all []string
	for _, t := range e.Tags[max(0, len(e.Tags)-few):] {
		all = append(all, base+":"+t)
	}
	slices.Reverse(all) // the highest version is likely the newest
	return all
}

// scanPlatform has one image scanned, unless it is, and returns how its scan
// stands then. An error is none of the image's, but the registry's, or ours.
func (s *Service) scanPlatform(ctx context.Context, r asset.Registry, repository string, f Found) (store.Scan, error) {
	job, err := s.scanning.Claim(ctx, f.ID)
	switch {
	case fault.Is(err, fault.Conflict):
		return s.standing(ctx, f.ID)
	case err != nil:
		return store.Scan{}, &ours{err}
	}
	answer := link.Scanned{AgentID: images.Own, Job: job, ImageID: f.ID}
	answer.Inventory, err = s.doors.Images.Scan(ctx, r, repository, f)
	switch {
	case ctx.Err() != nil:
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		return store.Scan{}, s.scanning.Unclaim(stopping, f.ID, job, "the server stopped before the scan ended")
	case ofRegistry(err):
		s.unclaim(ctx, f.ID, job, worded(err))
		return store.Scan{}, err
	case err != nil:
		answer.Inventory = nil
		answer.Error, answer.Remedy = untrusted.Clip(said(err), maxText), untrusted.Clip(fault.Remedy(err), maxText)
		answer.Final = isFinal(err)
	default:
		s.answered(ctx, place{r.Host, repository}, true)
	}
	if err := s.hand(ctx, answer); err != nil {
		s.unclaim(ctx, f.ID, job, "what the scan found could not be stored")
		return store.Scan{}, &ours{err}
	}
	return s.standing(ctx, f.ID)
}

// hand hands on what a scan found, a few times if the store does not take it: the
// scan took longer than that.
func (s *Service) hand(ctx context.Context, answer link.Scanned) (err error) {
	for range storeTries {
		err = s.scanning.Inventory(ctx, answer)
		if err == nil || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Invalid) {
			return nil // or what became of it is the image's
		}
		s.condition(ctx, PartScans, fmt.Errorf("store what a scan found: %w", err))
		if pace.Wait(ctx, afterTrouble); ctx.Err() != nil {
			break
		}
	}
	return err
}

// unclaim gives a scan back that is not told how it ended.
func (s *Service) unclaim(ctx context.Context, imageID, job, why string) {
	s.insist(ctx, "give a scan back", func(ctx context.Context) error { return s.scanning.Unclaim(ctx, imageID, job, why) })
}

func (s *Service) standing(ctx context.Context, imageID string) (store.Scan, error) {
	m, err := s.st.Image(ctx, imageID)
	if err != nil {
		return store.Scan{}, &ours{fmt.Errorf("read image %s: %w", imageID, err)}
	}
	return m.Scan, nil
}
