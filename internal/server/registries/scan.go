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
		sleep(ctx, afterTrouble)
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
		e, err := s.st.TakeRegistryScan(ctx, s.clock())
		switch {
		case fault.Is(err, fault.NotFound):
			s.condition(ctx, PartScans, nil)
			s.awaitWork(ctx)
		case err != nil:
			s.condition(ctx, PartScans, fmt.Errorf("take an image of a registry: %w", err))
			sleep(ctx, afterTrouble)
		default:
			s.scanOne(ctx, e)
		}
	}
}

// awaitWork waits until something may wait for a scan.
func (s *Service) awaitWork(ctx context.Context) {
	d := lookEvery
	if next, err := s.st.NextRegistryScan(ctx); err == nil && !next.IsZero() {
		d = min(d, max(next.Sub(s.clock()), time.Second))
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
// server stops, the image stays as it is: the next start has it wait anew.
func (s *Service) scanOne(ctx context.Context, e store.RegistryImage) {
	s.scanning.Touch()
	end := s.try(ctx, &e)
	if ctx.Err() != nil {
		return
	}
	if end.State == store.RegistryFailed || end.State == store.RegistryWaiting && end.Error != "" {
		s.log.Warn("image of a registry not scanned", "registry", e.Registry, "repository", e.Repository, "digest", e.Digest,
			"why", end.Error, "given_up", end.State == store.RegistryFailed)
	}
	err := s.st.EndRegistryScan(ctx, e.ID, end)
	if err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
		s.condition(ctx, PartScans, fmt.Errorf("note the end of a scan: %w", err))
		return
	}
	s.scanning.Touch()
}

// try brings an image as far as it goes.
func (s *Service) try(ctx context.Context, e *store.RegistryImage) store.RegistryScanEnd {
	s.mu.Lock()
	p := s.plans[e.Registry]
	s.mu.Unlock()
	if p == nil {
		// Not yet after a start, or being changed; what is removed has no entries.
		return store.RegistryScanEnd{State: store.RegistryWaiting, Next: s.clock().Add(busyPause)}
	}
	found, err := s.resolve(ctx, p.r, e)
	if err != nil {
		return failed(e, err, s.clock())
	}
	end := store.RegistryScanEnd{State: store.RegistryDone, Analysis: s.analysis}
	known := make([]store.Image, 0, len(found))
	for _, f := range found {
		end.Created = later(end.Created, f.Created)
		end.Platforms = append(end.Platforms, store.RegistryPlatform{ImageID: f.ID, Platform: f.Platform})
		known = append(known, store.Image{ID: f.ID, References: references(p.r, e), Digest: e.Digest, Platform: f.Platform, Layers: f.Layers})
	}
	if err := s.scanning.Known(ctx, known); err != nil {
		return failed(e, fmt.Errorf("store the image: %w", err), s.clock())
	}
	for _, f := range found {
		state, err := s.scanPlatform(ctx, p.r, e.Repository, f)
		if ctx.Err() != nil {
			return end
		}
		if err != nil {
			other := failed(e, err, s.clock())
			other.Platforms, other.Created = end.Platforms, end.Created
			return other
		}
		combine(&end, state, s.clock())
	}
	return end
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
		return nil, fmt.Errorf("list agents: %w", err)
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
// stands then. An error is none of the image's.
func (s *Service) scanPlatform(ctx context.Context, r asset.Registry, repository string, f Found) (store.Scan, error) {
	job, err := s.scanning.Claim(ctx, f.ID)
	switch {
	case fault.Is(err, fault.Conflict):
		return s.standing(ctx, f.ID)
	case err != nil:
		return store.Scan{}, err
	}
	answer := link.Scanned{AgentID: images.Own, Job: job, ImageID: f.ID}
	answer.Inventory, err = s.doors.Images.Scan(ctx, r, repository, f)
	if ctx.Err() != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		return store.Scan{}, s.scanning.Unclaim(stopping, f.ID, job)
	}
	if err != nil {
		answer.Inventory = nil
		answer.Error, answer.Remedy = untrusted.Clip(said(err), maxText), untrusted.Clip(fault.Remedy(err), maxText)
		answer.Final = isFinal(err)
	}
	err = s.scanning.Inventory(ctx, answer)
	if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Invalid) {
		return store.Scan{}, err
	}
	return s.standing(ctx, f.ID)
}

// isFinal reports whether another try would end the same.
func isFinal(err error) bool {
	switch fault.Of(err) {
	case fault.Invalid, fault.Unsupported, fault.Corrupt:
		return true
	}
	return false
}

func (s *Service) standing(ctx context.Context, imageID string) (store.Scan, error) {
	m, err := s.st.Image(ctx, imageID)
	if err != nil {
		return store.Scan{}, fmt.Errorf("read image %s: %w", imageID, err)
	}
	return m.Scan, nil
}

// combine adds how the scan of one image stands to how the entry ends: it waits
// as long as one waits, and is done when all are.
func combine(end *store.RegistryScanEnd, scan store.Scan, now time.Time) {
	next := scan.Next
	switch scan.State {
	case store.ScanDone:
		return
	case store.ScanFailed, store.ScanGone:
		if end.State == store.RegistryDone {
			end.State, end.Analysis = store.RegistryFailed, 0
		}
		end.Error = scan.Error
		return
	case store.ScanRunning:
		next = now.Add(busyPause)
	case store.ScanWaiting:
		if !next.After(now) {
			next = now.Add(time.Second) // asked for anew meanwhile
		}
	}
	if end.State != store.RegistryWaiting || next.Before(end.Next) {
		end.Next = next
	}
	end.State, end.Analysis = store.RegistryWaiting, 0
	if scan.State == store.ScanWaiting && scan.Error != "" {
		end.Error = scan.Error
	}
}

// failed says what follows from an entry that could not be read.
func failed(e *store.RegistryImage, err error, now time.Time) store.RegistryScanEnd {
	why := said(err)
	if remedy := fault.Remedy(err); remedy != "" {
		why += "; " + remedy
	}
	switch {
	case fault.Is(err, fault.Unsupported):
		return store.RegistryScanEnd{State: store.RegistrySkipped, Error: why}
	case isFinal(err) || e.Tries >= maxTries:
		return store.RegistryScanEnd{State: store.RegistryFailed, Error: why}
	}
	pause := firstPause
	for range e.Tries - 1 {
		pause *= pauseGrows
	}
	return store.RegistryScanEnd{State: store.RegistryWaiting, Next: now.Add(min(pause, maxBackoff)), Error: why}
}
