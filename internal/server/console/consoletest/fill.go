package consoletest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

// Store is what Fill writes to; store.Store satisfies it.
type Store interface {
	store.ScanJobs
	store.Findings
	store.Trends
	store.Uses
	PutWorkloads(ctx context.Context, ws []asset.Workload) error
}

// Fill brings the shop's workloads and images into a store, as if these had been
// scanned and compared with the advisories in a file (see WriteAdvisories).
func (s Shop) Fill(ctx context.Context, st Store, advisories string) (err error) {
	now := time.Now()
	db, _, err := scan.OpenDatabase(advisories)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := st.PutWorkloads(ctx, append([]asset.Workload{s.tried()}, s.Workloads...)); err != nil {
		return err
	}
	var seen []store.Image
	for _, m := range s.Images {
		seen = append(seen, store.Image{ID: m.ID, References: []string{m.Reference}, Digest: m.Digest})
	}
	if _, err := st.NoteImages(ctx, seen, now); err != nil {
		return err
	}
	jobs, err := s.leases(ctx, st, now)
	if err != nil {
		return err
	}
	for _, m := range s.Images {
		if jobs[m.ID] == "" {
			return fmt.Errorf("no agent was given %s", m.Reference)
		}
		if err := m.fill(ctx, st, jobs[m.ID], db, now); err != nil {
			return fmt.Errorf("fill %s: %w", m.Reference, err)
		}
	}
	const days = 9 // that were counted before
	for ago := days; ago > 0; ago-- {
		if err := st.NoteTrend(ctx, now.AddDate(0, 0, -ago)); err != nil {
			return fmt.Errorf("count a day: %w", err)
		}
	}
	return nil
}

// tried is a workload of the storefront's next release, which was stopped again:
// without one nobody would have its image.
func (s Shop) tried() asset.Workload {
	for _, w := range s.Workloads {
		if w.ID == Client {
			w.ID, w.Image.ID, w.Image.Reference = strings.Repeat("24", 32), ImageID("storefront:2.4.2"), repository+"storefront:2.4.2"
			return w
		}
	}
	return asset.Workload{}
}

// leases takes all jobs that the shop's agents are given.
func (s Shop) leases(ctx context.Context, st Store, now time.Time) (map[string]string, error) {
	jobs := map[string]string{}
	for _, a := range s.Agents {
		for {
			job := fmt.Sprintf("job-%d", len(jobs))
			m, err := st.LeaseScan(ctx, store.Lease{AgentID: a.ID, Job: job, Now: now, Until: now.Add(time.Hour)})
			if fault.Is(err, fault.NotFound) {
				break
			}
			if err != nil {
				return nil, err
			}
			jobs[m.ID] = job
		}
	}
	return jobs, nil
}

// fill brings one image into the state that the shop says.
func (m Image) fill(ctx context.Context, st Store, job string, db *scan.Database, now time.Time) error {
	if m.Failed != "" {
		next := now.Add(24 * time.Hour)
		if m.Final {
			next = time.Time{}
		}
		return st.ScanFailed(ctx, m.ID, job, m.Failed, next)
	}
	if m.Inside == nil {
		return nil // an agent is at it
	}
	if err := st.PutInventory(ctx, m.ID, job, *m.Inside, now); err != nil {
		return err
	}
	if _, err := st.NoteUses(ctx, m.ID, m.Used); err != nil {
		return err
	}
	r, err := scan.Match(ctx, db, m.Inside, scan.MatchOptions{Now: now})
	if err != nil {
		return err
	}
	for i := range r.Vulnerabilities {
		v := &r.Vulnerabilities[i]
		v.InUse = slices.Contains(m.InUse, v.Package.Name)
	}
	return st.PutFindings(ctx, store.ImageFindings{
		ImageID: m.ID, Database: db.Digest(), Matched: now, Gaps: len(r.Gaps), Vulnerabilities: r.Vulnerabilities, Findings: m.Judged,
	})
}
