package storetest

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

func scanJobCases() []testCase {
	return []testCase{
		{"leased once, to who has the image", func(k *kit) {
			k.noted(1)
			k.started("w", "a", 1, asset.Running)
			_, err := k.lease("b", "j0", 0)
			k.wantFault(err, fault.NotFound)
			v, err := k.lease("a", "j1", 0)
			k.ok(err)
			same(k, "scan", v.Scan, store.Scan{State: store.ScanRunning, Job: "j1", Agent: "a", Tries: 1, Next: base().Add(10 * time.Minute)})
			_, err = k.lease("a", "j2", time.Minute)
			k.wantFault(err, fault.NotFound)
		}},
		{"leased anew when its time is over, another agent first", func(k *kit) {
			k.noted(1)
			k.started("w1", "a", 1, asset.Running)
			k.started("w2", "b", 1, asset.Running)
			_, err := k.lease("a", "j1", 0)
			k.ok(err)
			_, err = k.lease("a", "j2", 10*time.Minute)
			k.wantFault(err, fault.NotFound)
			v, err := k.lease("b", "j3", 10*time.Minute)
			k.ok(err)
			if v.Scan.Tries != 2 || v.Scan.Agent != "b" {
				k.Errorf("got %+v", v.Scan)
			}
			k.wantFault(k.st.PutInventory(k.ctx, v.ID, "j1", inventory.Inventory{}, base()), fault.Conflict)
			k.wantFault(k.st.ScanFailed(k.ctx, v.ID, "j1", "late", base()), fault.Conflict)
			k.wantFault(k.st.PutInventory(k.ctx, v.ID, "", inventory.Inventory{}, base()), fault.Conflict)
			_, err = k.lease("b", "j4", 20*time.Minute+store.ScanPatience)
			k.ok(err)
		}},
		{"images with running workloads first", func(k *kit) {
			k.noted(1)
			k.noted(2)
			k.started("w1", "a", 1, asset.Exited)
			k.started("w2", "a", 2, asset.Running)
			v, err := k.lease("a", "j1", 0)
			k.ok(err)
			if v.ID != imageID(2) {
				k.Errorf("got %s", v.ID)
			}
		}},
	}
}

func scanEndCases() []testCase {
	return []testCase{
		{"given back, it was no try", func(k *kit) {
			k.noted(1)
			k.started("w", "a", 1, asset.Running)
			v, err := k.lease("a", "j1", 0)
			k.ok(err)
			k.wantFault(k.st.ReleaseScan(k.ctx, v.ID, "j2", "not its own", base()), fault.Conflict)
			k.ok(k.st.ReleaseScan(k.ctx, v.ID, "j1", "the registry is away", base()))
			s := k.image(1).Scan
			same(k, "scan", s, store.Scan{State: store.ScanWaiting, Agent: "a", Next: base(), Error: "the registry is away"})
			k.wantFault(k.st.ReleaseScan(k.ctx, v.ID, "j1", "twice", base()), fault.Conflict)
			_, err = k.lease("a", "j3", 0)
			k.ok(err)
			same(k, "tries", k.image(1).Scan.Tries, 1)
		}},
		{"fails, waits, is given up, is asked for anew", func(k *kit) {
			k.noted(1)
			k.started("w", "a", 1, asset.Running)
			v, err := k.lease("a", "j1", 0)
			k.ok(err)
			k.ok(k.st.ScanFailed(k.ctx, v.ID, "j1", "engine away", base().Add(time.Hour)))
			s := k.image(1).Scan
			same(k, "scan", s, store.Scan{State: store.ScanWaiting, Agent: "a", Tries: 1, Next: base().Add(time.Hour), Error: "engine away"})
			_, err = k.lease("a", "j2", 30*time.Minute)
			k.wantFault(err, fault.NotFound)
			_, err = k.lease("a", "j3", time.Hour+store.ScanPatience)
			k.ok(err)
			k.ok(k.st.ScanFailed(k.ctx, v.ID, "j3", "no image", time.Time{}))
			_, err = k.lease("a", "j4", 48*time.Hour)
			k.wantFault(err, fault.NotFound)
			k.ok(k.st.ScanAgain(k.ctx, v.ID, base()))
			_, err = k.lease("a", "j5", 0)
			k.ok(err)
			k.wantFault(k.st.ScanAgain(k.ctx, imageID(9), base()), fault.NotFound)
		}},
		{"its time is moved, and another agent takes it over", func(k *kit) {
			k.noted(1)
			k.started("w1", "a", 1, asset.Running)
			k.started("w2", "b", 1, asset.Running)
			v, err := k.lease("a", "j1", 0)
			k.ok(err)
			k.ok(k.st.MoveScanEnd(k.ctx, v.ID, "j1", base().Add(time.Minute)))
			if s := k.image(1).Scan; s.State != store.ScanRunning || s.Job != "j1" || !s.Next.Equal(base().Add(time.Minute)) {
				k.Errorf("got %+v", s)
			}
			_, err = k.lease("a", "j2", time.Minute)
			k.wantFault(err, fault.NotFound)
			_, err = k.lease("b", "j3", time.Minute)
			k.ok(err)
			k.wantFault(k.st.MoveScanEnd(k.ctx, v.ID, "j1", base()), fault.Conflict)
			k.wantFault(k.st.MoveScanEnd(k.ctx, imageID(9), "j1", base()), fault.NotFound)
		}},
	}
}

// leaseBy asks for a scan by an agent with an analysis, a day after all others.
func (k *kit) leaseBy(agent string, analysis int, job string) error {
	k.Helper()
	now := base().Add(24 * time.Hour)
	_, err := k.st.LeaseScan(k.ctx, store.Lease{AgentID: agent, Job: job, Now: now, Until: now.Add(time.Hour), Analysis: analysis})
	return err
}

func (k *kit) totals(analysis int) store.ScanTotals {
	k.Helper()
	t, err := k.st.ScanTotals(k.ctx, "two", analysis)
	k.ok(err)
	return t
}

func analysisCases() []testCase {
	return []testCase{
		{"a newer analysis scans again, once, and what was found stays", func(k *kit) {
			k.scanned(1) // by analysis 3
			k.findings(1, 0, found("CVE-1", "zlib", finding.High))
			for _, analysis := range []int{0, 2, 3} {
				k.wantFault(k.leaseBy("a", analysis, "j"), fault.NotFound)
			}
			k.wantFault(k.leaseBy("b", 4, "j"), fault.NotFound) // has no workload of it
			if t := k.totals(4); t.Outdated != 1 || t.States[store.ScanDone] != 1 || t.Unmatched != 1 {
				k.Errorf("before: %+v", t)
			}
			k.ok(k.leaseBy("a", 4, "j"))
			if t := k.totals(4); t.Outdated != 0 || t.States[store.ScanRunning] != 1 {
				k.Errorf("meanwhile: %+v", t)
			}
			if vs := k.vulnerabilities(store.VulnerabilityQuery{}); len(vs) != 1 {
				k.Errorf("%d findings, want 1", len(vs))
			}
			// It answers by the old one after all: it is not asked again.
			k.ok(k.st.PutInventory(k.ctx, imageID(1), "j", inventory.Inventory{Analysis: 3}, base()))
			k.wantFault(k.leaseBy("a", 4, "j2"), fault.NotFound)
			if t := k.totals(4); t.Outdated != 0 {
				k.Errorf("after its answer: %+v", t)
			}
			k.ok(k.leaseBy("a", 5, "j3"))
		}},
		{"what failed before begins anew with a newer analysis", func(k *kit) {
			k.scanned(1)
			k.ok(k.st.ScanAgain(k.ctx, imageID(1), base()))
			for try := range 5 {
				job := fmt.Sprint("j", try)
				k.ok(k.leaseBy("a", 3, job))
				k.ok(k.st.ScanFailed(k.ctx, imageID(1), job, "no space", base().Add(-time.Hour)))
			}
			k.ok(k.leaseBy("a", 3, "last"))
			k.ok(k.st.ScanFailed(k.ctx, imageID(1), "last", "no space", time.Time{}))
			if s := k.image(1).Scan; s.State != store.ScanFailed {
				k.Errorf("after all tries: %+v", s)
			}
			k.ok(k.leaseBy("a", 4, "new"))
			if s := k.image(1).Scan; s.Tries != 1 {
				k.Errorf("by a newer analysis: %+v, want the first try", s)
			}
		}},
		{"a try for a newer analysis is not for older agents, and giving it up loses nothing", func(k *kit) {
			k.scanned(1)
			k.started("w", "b", 1, asset.Running)
			k.ok(k.leaseBy("a", 4, "j"))
			k.ok(k.st.ScanFailed(k.ctx, imageID(1), "j", "no space", base()))
			k.wantFault(k.leaseBy("b", 3, "j2"), fault.NotFound)
			k.ok(k.leaseBy("b", 4, "j2"))
			k.ok(k.st.ScanFailed(k.ctx, imageID(1), "j2", "no space", time.Time{}))
			if s := k.image(1).Scan; s.State != store.ScanDone || s.Analysis != 3 || s.Error != "" || s.Tries != 0 {
				k.Errorf("given up: %+v", s)
			}
			k.wantFault(k.leaseBy("b", 4, "j3"), fault.NotFound)
			k.ok(k.st.ScanAgain(k.ctx, imageID(1), base())) // somebody wants it
			k.ok(k.leaseBy("b", 0, "j4"))
		}},
		{"a wait for a newer analysis that nobody has any more is in vain", waitInVain},
		{"none of what a registry has is in vain", waitForRegistry},
	}
}

func waitForRegistry(k *kit) {
	k.scanned(1) // and no agent has it any more
	k.watched("hub")
	k.listed(0, "shop", held(1, "1"))
	k.ok(k.st.EndRegistryScan(k.ctx, k.takeEntry(time.Minute).ID, store.RegistryScanEnd{State: store.RegistryDone, Analysis: 3,
		Platforms: []store.RegistryPlatform{{ImageID: imageID(1)}}}))
	vain := func(when string, want int) {
		k.Helper()
		ended, err := k.st.SweepVain(k.ctx, map[string]int{"a": 3})
		k.ok(err)
		if len(ended) != want {
			k.Errorf("%s %d waits ended, want %d", when, len(ended), want)
		}
	}
	_, err := k.st.LeaseImage(k.ctx, imageID(1), store.Lease{AgentID: "this server", Job: "own", Now: base(), Until: base().Add(time.Hour), Analysis: 4})
	k.ok(err)
	vain("while the server is at it", 0)
	k.ok(k.st.ScanFailed(k.ctx, imageID(1), "own", "no space", base().Add(time.Hour)))
	vain("before the server's next try", 0)
	if s := k.image(1).Scan; s.State != store.ScanWaiting || s.Error != "no space" {
		k.Errorf("it is not tried again: %+v", s)
	}
	k.listed(time.Hour, "shop", held(2, "2"))
	vain("when the registry has it no more", 1)
}

func waitInVain(k *kit) {
	vain := func(want int, able map[string]int) {
		k.Helper()
		ended, err := k.st.SweepVain(k.ctx, able)
		k.ok(err)
		if len(ended) != want {
			k.Errorf("with %v %d waits ended, want %d", able, len(ended), want)
		}
	}
	k.scanned(1)
	k.started("w", "b", 1, asset.Running)
	k.noted(2) // which waits for its first scan, and goes on
	k.ok(k.leaseBy("a", 4, "j"))
	vain(0, nil) // an agent is at it
	k.ok(k.st.ScanFailed(k.ctx, imageID(1), "j", "no space", base()))
	vain(0, map[string]int{"a": 3, "b": 4})
	vain(1, map[string]int{"a": 3, "b": 3, "c": 4})
	if s := k.image(1).Scan; s.State != store.ScanDone || s.Analysis != 3 || s.Tries != 0 || s.Error != "" {
		k.Errorf("after it: %+v", s)
	}
	if t := k.totals(4); t.Outdated != 1 || t.States[store.ScanWaiting] != 1 {
		k.Errorf("totals %+v", t)
	}
	k.ok(k.leaseBy("b", 4, "j2")) // once somebody has it
	k.ok(k.st.ScanAgain(k.ctx, imageID(1), base()))
	vain(0, nil) // somebody wants it, by whatever analysis
}

func goneCases() []testCase {
	hour := func(n int) time.Time { return base().Add(time.Duration(n) * time.Hour) }
	sweep := func(k *kit, before int, silent ...string) string {
		k.Helper()
		gone, back, err := k.st.SweepGone(k.ctx, store.Gone{Before: hour(before), Silent: silent, Now: hour(before + 24)})
		k.ok(err)
		return fmt.Sprint(len(gone), " gone, ", len(back), " back, ", k.image(1).Scan.State)
	}
	want := func(k *kit, when, got, want string) {
		k.Helper()
		if got != want {
			k.Errorf("%s: %s; want %s", when, got, want)
		}
	}
	return []testCase{
		{"what no agent can have any more is gone, until one has it again", func(k *kit) {
			k.noted(1)
			k.started("w1", "a", 1, asset.Exited) // ended at base
			k.started("w2", "a", 1, asset.Running)
			want(k, "while it runs", sweep(k, 1), "0 gone, 0 back, waiting")
			k.started("w2", "a", 1, asset.Exited)
			want(k, "not long after", sweep(k, 0), "0 gone, 0 back, waiting")
			want(k, "long after", sweep(k, 1), "1 gone, 0 back, gone")
			if t := k.totals(0); t.States[store.ScanGone] != 1 || t.States[store.ScanWaiting] != 0 {
				k.Errorf("totals %+v", t)
			}
			_, err := k.lease("a", "j", 48*time.Hour)
			k.wantFault(err, fault.NotFound)
			want(k, "again", sweep(k, 1), "0 gone, 0 back, gone")
			k.started("w3", "b", 1, asset.Created)
			want(k, "once there is another", sweep(k, 1), "0 gone, 1 back, waiting")
			k.started("w3", "b", 1, asset.Running)
			want(k, "while its agent is silent", sweep(k, 26, "b"), "1 gone, 0 back, gone")
			want(k, "when that is back", sweep(k, 26), "0 gone, 1 back, waiting")
			_, err = k.lease("b", "j", 100*time.Hour)
			k.ok(err)
			want(k, "while it is scanned", sweep(k, 200, "b"), "0 gone, 0 back, running")
		}},
		{"what no engine has any more is gone at once, until it is there again", func(k *kit) {
			k.noted(1)
			k.started("w1", "a", 1, asset.Exited) // ended at base, not a day ago
			_, err := k.lease("a", "j", time.Hour)
			k.ok(err)
			k.wantFault(k.st.ScanGone(k.ctx, imageID(1), "other", hour(1)), fault.Conflict)
			k.ok(k.st.ScanGone(k.ctx, imageID(1), "j", hour(1)))
			if s := k.image(1).Scan; s.State != store.ScanGone || s.Job != "" || s.Tries != 0 {
				k.Errorf("after it: %+v", s)
			}
			want(k, "though its container ended not long ago", sweep(k, -1), "0 gone, 0 back, gone")
			k.started("w2", "b", 1, asset.Created)
			want(k, "once there is another", sweep(k, -1), "0 gone, 1 back, waiting")
		}},
		{"what is scanned and no engine has any more is done as before", func(k *kit) {
			k.scanned(1)
			k.ok(k.leaseBy("a", 4, "j"))
			k.ok(k.st.ScanGone(k.ctx, imageID(1), "j", hour(1)))
			if s := k.image(1).Scan; s.State != store.ScanDone || s.Analysis != 3 {
				k.Errorf("after it: %+v", s)
			}
			k.wantFault(k.leaseBy("a", 4, "j2"), fault.NotFound) // it is not asked for again and again
		}},
		{"what is scanned already stays", func(k *kit) {
			k.scanned(1)
			k.ok(k.st.ScanAgain(k.ctx, imageID(1), base()))
			want(k, "long after", sweep(k, 1), "1 gone, 0 back, done")
		}},
	}
}
