package storetest

import (
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

func imageID(n int) string { return fmt.Sprintf("sha256:%064d", n) }

// started makes a workload of image n on an agent.
func (k *kit) started(id, agent string, n int, state asset.State) {
	k.Helper()
	k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{{
		ID: id, AgentID: agent, State: state, Created: base(), Updated: base(), Image: asset.Image{Reference: "shop/web:1", ID: imageID(n)},
	}}))
}

func (k *kit) noted(n int, references ...string) []string {
	k.Helper()
	fresh, err := k.st.NoteImages(k.ctx, []store.Image{{ID: imageID(n), References: references}}, base())
	k.ok(err)
	return fresh
}

func (k *kit) image(n int) store.Image {
	k.Helper()
	v, err := k.st.Image(k.ctx, imageID(n))
	k.ok(err)
	return v
}

func (k *kit) lease(agent, job string, after time.Duration) (store.Image, error) {
	k.Helper()
	now := base().Add(after)
	return k.st.LeaseScan(k.ctx, store.Lease{AgentID: agent, Job: job, Now: now, Until: now.Add(10 * time.Minute)})
}

// scanned gives image n an inventory.
func (k *kit) scanned(n int) {
	k.Helper()
	k.started(fmt.Sprintf("scanned-%d", n), "a", n, asset.Exited)
	k.noted(n, fmt.Sprintf("shop/web:%d", n))
	v, err := k.lease("a", fmt.Sprint("job-", n), time.Minute)
	k.ok(err)
	if v.ID != imageID(n) {
		k.Fatalf("leased %s, want image %d", v.ID, n)
	}
	k.ok(k.st.PutInventory(k.ctx, v.ID, v.Scan.Job, inventory.Inventory{Analysis: 3, Packages: []inventory.Package{}}, base()))
}

// found is a finding in a package.
func found(id, name string, severity finding.Severity) finding.Vulnerability {
	v := finding.Vulnerability{
		ID: id, Severity: severity, State: finding.Fixable, Fixed: "2", Summary: "About " + id, Aliases: []string{"GHSA-" + id},
		Package:    inventory.Package{Type: "deb", Name: name, Version: "1", Places: []inventory.Place{{Path: "/var/lib/dpkg/status", Layer: 1}}},
		Advisories: []finding.Statement{{ID: "DSA-" + id, Source: "debian", Fixed: "2"}},
	}
	v.Print()
	return v
}

func (k *kit) findings(n int, after time.Duration, vs ...finding.Vulnerability) {
	k.Helper()
	k.ok(k.st.PutFindings(k.ctx, store.ImageFindings{
		ImageID: imageID(n), Database: "one", Matched: base().Add(after), Gaps: 4, Vulnerabilities: vs,
	}))
}

func (k *kit) vulnerabilities(q store.VulnerabilityQuery) []store.ImageVulnerability {
	k.Helper()
	vs, err := k.st.Vulnerabilities(k.ctx, q)
	k.ok(err)
	return vs
}

func imageCases() []testCase {
	return []testCase{
		{"noted once, by several names", func(k *kit) {
			if fresh := k.noted(1, "shop/web:1"); len(fresh) != 1 || fresh[0] != imageID(1) {
				k.Errorf("new: %v", fresh)
			}
			if fresh := k.noted(1, "shop/web:latest"); len(fresh) != 0 {
				k.Errorf("new again: %v", fresh)
			}
			v := k.image(1)
			same(k, "names", v.References, []string{"shop/web:latest", "shop/web:1"})
			same(k, "scan", v.Scan, store.Scan{State: store.ScanWaiting, Next: base()})
			for n := range store.MaxReferences + 5 {
				k.noted(1, fmt.Sprint("name-", n))
			}
			if got := len(k.image(1).References); got != store.MaxReferences {
				k.Errorf("%d names, want %d", got, store.MaxReferences)
			}
			_, err := k.st.Image(k.ctx, imageID(2))
			k.wantFault(err, fault.NotFound)
		}},
		{"workloads are counted", func(k *kit) {
			k.started("w1", "a", 1, asset.Running)
			k.noted(1)
			k.noted(2)
			k.started("w2", "a", 1, asset.Running)
			k.started("w1", "a", 1, asset.Exited)
			if v := k.image(1); v.Workloads != 2 || v.Running != 1 {
				k.Errorf("%d workloads, %d run; want 2, 1", v.Workloads, v.Running)
			}
			k.started("w2", "a", 2, asset.Running)
			if one, two := k.image(1), k.image(2); one.Workloads != 1 || one.Running != 0 || two.Running != 1 {
				k.Errorf("after a change of image: %+v, %+v", one, two)
			}
		}},
	}
}

func imageListCases() []testCase {
	return []testCase{
		{"listed by what needs attention", func(k *kit) {
			for n := 1; n <= 3; n++ {
				k.scanned(n)
			}
			k.findings(2, 0, found("CVE-1", "zlib", finding.Critical))
			k.findings(3, 0, found("CVE-2", "zlib", finding.Low))
			k.started("w", "a", 1, asset.Running)
			var got []string
			q := store.ImageQuery{Limit: 2}
			for {
				page, err := k.st.Images(k.ctx, q)
				k.ok(err)
				for _, v := range page {
					got = append(got, v.ID)
				}
				if len(page) < 2 {
					break
				}
				q.After = page[1].ID
			}
			same(k, "order", got, []string{imageID(1), imageID(2), imageID(3)})
			for name, c := range map[string]struct {
				q    store.ImageQuery
				want int
			}{
				"text": {store.ImageQuery{Text: "web:2"}, 1}, "running": {store.ImageQuery{Running: true}, 1},
				"state": {store.ImageQuery{State: store.ScanDone}, 3}, "other state": {store.ImageQuery{State: store.ScanFailed}, 0},
			} {
				page, err := k.st.Images(k.ctx, c.q)
				k.ok(err)
				if len(page) != c.want {
					k.Errorf("%s: %d images, want %d", name, len(page), c.want)
				}
			}
			_, err := k.st.Images(k.ctx, store.ImageQuery{After: "x"})
			k.wantFault(err, fault.Invalid)
		}},
		{"retention takes an image with its last workload", func(k *kit) {
			k.scanned(1)
			k.findings(1, 0, found("CVE-1", "zlib", finding.High))
			_, err := k.st.NoteUses(k.ctx, imageID(1), []string{"/bin/sh"})
			k.ok(err)
			_, err = k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(30*time.Minute))
			k.ok(err)
			k.image(1)
			_, err = k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(2*time.Hour))
			k.ok(err)
			_, err = k.st.Image(k.ctx, imageID(1))
			k.wantFault(err, fault.NotFound)
			if vs := k.vulnerabilities(store.VulnerabilityQuery{}); len(vs) != 0 {
				k.Errorf("findings are left: %v", vs)
			}
		}},
	}
}

func findingCases() []testCase {
	return []testCase{
		{"an inventory comes back whole", func(k *kit) {
			k.started("w", "a", 1, asset.Running)
			k.noted(1)
			_, err := k.st.Inventory(k.ctx, imageID(1))
			k.wantFault(err, fault.NotFound)
			v, err := k.lease("a", "j", 0)
			k.ok(err)
			want := filled[inventory.Inventory](k)
			k.ok(k.st.PutInventory(k.ctx, v.ID, "j", want, base()))
			got, err := k.st.Inventory(k.ctx, v.ID)
			k.ok(err)
			same(k, "inventory", got, want, cmpopts.EquateEmpty())
			v = k.image(1)
			if v.Scan.State != store.ScanDone || !v.Scan.Done.Equal(base()) || v.Scan.Analysis != want.Analysis || v.Packages != len(want.Packages) {
				k.Errorf("got %+v", v)
			}
		}},
		{"a finding comes back whole", func(k *kit) {
			k.scanned(1)
			want := filled[finding.Vulnerability](k)
			want.State = finding.Fixable
			k.findings(1, time.Hour, want)
			got := k.vulnerabilities(store.VulnerabilityQuery{Accepted: true})
			want.Package.Files = nil // the inventory has them
			same(k, "finding", got, []store.ImageVulnerability{{Vulnerability: want, ImageID: imageID(1), First: base().Add(time.Hour)}})
		}},
		{"replaced all at once; first stays", func(k *kit) {
			k.scanned(1)
			one, two := found("CVE-1", "zlib", finding.High), found("CVE-2", "zlib", finding.Low)
			k.findings(1, 0, one, two)
			one.Severity = finding.Critical
			three := found("CVE-3", "zlib", finding.Medium)
			gone := found("CVE-4", "zlib", finding.Critical)
			gone.State = finding.Withdrawn
			k.findings(1, time.Hour, one, three, gone)
			vs := k.vulnerabilities(store.VulnerabilityQuery{ImageID: imageID(1)})
			var got []string
			for _, v := range vs {
				got = append(got, fmt.Sprint(v.ID, " ", v.Severity, " ", v.First.Sub(base())))
			}
			same(k, "findings", got, []string{"CVE-1 critical 0s", "CVE-3 medium 1h0m0s"})
			v := k.image(1)
			same(k, "counts", v.Counts, store.Counts{Critical: 1, Medium: 1, Fixable: 2})
			if v.Scan.Database != "one" || v.Scan.Gaps != 4 || !v.Scan.Matched.Equal(base().Add(time.Hour)) {
				k.Errorf("got %+v", v.Scan)
			}
			k.wantFault(k.st.PutFindings(k.ctx, store.ImageFindings{ImageID: imageID(7)}), fault.NotFound)
		}},
	}
}

func fleetFindingCases() []testCase {
	return []testCase{
		{"in use, then exploited, then by severity and probability", func(k *kit) {
			k.scanned(1)
			use, kev := found("CVE-1", "a", finding.Low), found("CVE-2", "b", finding.Low)
			likely, critical := found("CVE-3", "c", finding.High), found("CVE-4", "d", finding.Critical)
			use.InUse, kev.KEV, likely.EPSS = true, &advisory.Exploited{}, &advisory.Probability{EPSS: 0.5}
			k.findings(1, 0, found("CVE-5", "e", finding.High), critical, likely, kev, use)
			var got []string
			for _, v := range k.vulnerabilities(store.VulnerabilityQuery{}) {
				got = append(got, v.ID)
			}
			same(k, "order", got, []string{"CVE-1", "CVE-2", "CVE-4", "CVE-3", "CVE-5"})
			var sums []string
			ws, err := k.st.Weaknesses(k.ctx, store.VulnerabilityQuery{})
			k.ok(err)
			for _, w := range ws {
				sums = append(sums, w.ID)
			}
			same(k, "order over the fleet", sums, got)
		}},
		{"every filter", filterFindingCase},
		{"added up over the fleet", func(k *kit) {
			for n := 1; n <= 2; n++ {
				k.scanned(n)
				k.findings(n, time.Duration(n)*time.Hour, found("CVE-1", "libz", finding.High), found("CVE-1", "libz-dev", finding.Medium))
				k.started(fmt.Sprint("w", n), "a", n, asset.Running)
			}
			k.started("w3", "a", 1, asset.Running)
			ws, err := k.st.Weaknesses(k.ctx, store.VulnerabilityQuery{})
			k.ok(err)
			same(k, "weaknesses", ws, []store.Weakness{{
				ID: "CVE-1", Severity: finding.High, Summary: "About CVE-1", Fixable: true, Packages: []string{"libz", "libz-dev"},
				Fixed: []string{"libz 2", "libz-dev 2"}, Images: 2, Workloads: 3, First: base().Add(time.Hour),
			}})
		}},
		{"what another generation compared", func(k *kit) {
			k.scanned(1)
			k.scanned(2)
			k.noted(3)
			k.started("w", "a", 2, asset.Running)
			for want, database := range []string{"one", "two"} {
				k.findings(1, 0)
				ids, err := k.st.Unmatched(k.ctx, database, 10)
				k.ok(err)
				same(k, database, ids, []string{imageID(2), imageID(1)}[:want+1])
			}
		}},
	}
}

func filterFindingCase(k *kit) {
	k.scanned(1)
	k.scanned(2)
	kev, use, unfixed, accepted := found("CVE-1", "a", finding.High), found("CVE-2", "b", finding.Low), found("CVE-3", "c", finding.Medium), found("CVE-4", "d", finding.High)
	kev.KEV, use.InUse, unfixed.State = &advisory.Exploited{}, true, finding.Unfixed
	accepted.Accepted = &finding.Acceptance{Reason: "not reachable"}
	k.findings(1, 0, kev, use, unfixed, accepted)
	k.findings(2, 0, use)
	k.started("w", "a", 2, asset.Running)
	for _, c := range []struct {
		name        string
		q           store.VulnerabilityQuery
		want, fleet int
	}{
		{"none", store.VulnerabilityQuery{}, 4, 3},
		{"image", store.VulnerabilityQuery{ImageID: imageID(1)}, 3, 3},
		{"no such image", store.VulnerabilityQuery{ImageID: imageID(9)}, 0, 0},
		{"weakness", store.VulnerabilityQuery{ID: "CVE-2"}, 2, 1},
		{"alias", store.VulnerabilityQuery{ID: "GHSA-CVE-2"}, 2, 1},
		{"package", store.VulnerabilityQuery{Package: "a"}, 1, 1},
		{"severity", store.VulnerabilityQuery{Severity: finding.Medium}, 2, 2},
		{"fixable", store.VulnerabilityQuery{Fixable: true}, 3, 2},
		{"exploited", store.VulnerabilityQuery{Exploited: true}, 1, 1},
		{"in use", store.VulnerabilityQuery{InUse: true}, 2, 1},
		{"running", store.VulnerabilityQuery{Running: true}, 1, 1},
		{"accepted", store.VulnerabilityQuery{Accepted: true}, 1, 1},
		{"text", store.VulnerabilityQuery{Text: "ve-3"}, 1, 1},
		{"several", store.VulnerabilityQuery{Fixable: true, InUse: true, ImageID: imageID(1), Severity: finding.Low}, 1, 1},
		{"next page", store.VulnerabilityQuery{Offset: 2}, 2, 1},
		{"limit", store.VulnerabilityQuery{Limit: 1}, 1, 1},
	} {
		if got := len(k.vulnerabilities(c.q)); got != c.want {
			k.Errorf("%s: %d findings, want %d", c.name, got, c.want)
		}
		ws, err := k.st.Weaknesses(k.ctx, c.q)
		k.ok(err)
		if len(ws) != c.fleet {
			k.Errorf("%s: %d weaknesses, want %d", c.name, len(ws), c.fleet)
		}
	}
}

func useCases() []testCase {
	return []testCase{
		{"kept once, sorted, bounded", func(k *kit) {
			k.noted(1)
			for _, c := range []struct {
				paths []string
				want  bool
			}{{[]string{"/b", "/a"}, true}, {nil, false}, {[]string{"/a"}, false}} {
				fresh, err := k.st.NoteUses(k.ctx, imageID(1), c.paths)
				k.ok(err)
				if fresh != c.want {
					k.Errorf("%v: new %v, want %v", c.paths, fresh, c.want)
				}
			}
			got, err := k.st.Uses(k.ctx, imageID(1))
			k.ok(err)
			same(k, "uses", got, []string{"/a", "/b"})
			many := make([]string, store.MaxUses)
			for i := range many {
				many[i] = fmt.Sprintf("/lib/%d", i)
			}
			_, err = k.st.NoteUses(k.ctx, imageID(1), many)
			k.ok(err)
			got, err = k.st.Uses(k.ctx, imageID(1))
			k.ok(err)
			if len(got) != store.MaxUses {
				k.Errorf("%d uses, want %d", len(got), store.MaxUses)
			}
			_, err = k.st.NoteUses(k.ctx, imageID(2), []string{"/a"})
			k.wantFault(err, fault.NotFound)
		}},
	}
}

func acceptanceCases() []testCase {
	return []testCase{
		{"make, end, list", func(k *kit) {
			want := filled[store.Acceptance](k)
			want.ID, want.Ended, want.EndedBy = 0, time.Time{}, ""
			got, err := k.st.PutAcceptance(k.ctx, want)
			k.ok(err)
			want.ID = got.ID
			same(k, "made", got, want)
			if !got.Holds(got.Expires.Add(-1)) || got.Holds(got.Expires) {
				k.Error("holds until it expires, and no longer")
			}
			second, err := k.st.PutAcceptance(k.ctx, store.Acceptance{Vulnerability: "CVE-2", Expires: base()})
			k.ok(err)
			want.Ended, want.EndedBy = base(), "user:anna"
			_, err = k.st.PutAcceptance(k.ctx, want)
			k.ok(err)
			if want.Holds(base()) {
				k.Error("holds after it was ended")
			}
			one, err := k.st.Acceptance(k.ctx, want.ID)
			k.ok(err)
			same(k, "one", one, want)
			all, err := k.st.Acceptances(k.ctx)
			k.ok(err)
			same(k, "all", all, []store.Acceptance{second, want})
			_, err = k.st.Acceptance(k.ctx, 99)
			k.wantFault(err, fault.NotFound)
			_, err = k.st.PutAcceptance(k.ctx, store.Acceptance{ID: 99})
			k.wantFault(err, fault.NotFound)
		}},
		{"retention takes what ended long ago", func(k *kit) {
			_, err := k.st.PutAcceptance(k.ctx, store.Acceptance{Vulnerability: "CVE-1", Expires: base()})
			k.ok(err)
			k.pruned(30*time.Minute, 1)
			k.pruned(2*time.Hour, 0)
		}},
	}
}

func (k *kit) pruned(after time.Duration, want int) {
	k.Helper()
	_, err := k.st.Prune(k.ctx, store.Retention{Audit: time.Hour}, base().Add(after))
	k.ok(err)
	all, err := k.st.Acceptances(k.ctx)
	k.ok(err)
	if len(all) != want {
		k.Errorf("after %v: %d acceptances, want %d", after, len(all), want)
	}
}
