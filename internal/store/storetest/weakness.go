package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

func weaknessCases() []testCase {
	return []testCase{
		{"what is added up is what a recount finds, whatever happened before", recountCase},
		{"of a weakness that is open in one image and accepted in another", func(k *kit) {
			k.scanned(1)
			k.scanned(2)
			open, accepted := found("CVE-1", "zlib", finding.High), found("CVE-1", "zlib", finding.High)
			accepted.Accepted = &finding.Acceptance{Reason: "behind the proxy"}
			k.findings(1, time.Hour, open)
			k.findings(2, 0, accepted)
			for _, q := range []store.VulnerabilityQuery{{}, {Accepted: true}} {
				ws := k.weaknesses(q)
				if len(ws) != 1 || ws[0].Images != 1 || ws[0].First.Equal(base()) != q.Accepted {
					k.Errorf("accepted %v: %+v", q.Accepted, ws)
				}
			}
			k.findings(2, 2*time.Hour, open) // its time is over
			if ws := k.weaknesses(store.VulnerabilityQuery{}); len(ws) != 1 || ws[0].Images != 2 || !ws[0].First.Equal(base()) {
				k.Errorf("after it: %+v", ws)
			}
			if ws := k.weaknesses(store.VulnerabilityQuery{Accepted: true}); len(ws) != 0 {
				k.Errorf("accepted after it: %+v", ws)
			}
		}},
	}
}

func (k *kit) weaknesses(q store.VulnerabilityQuery) []store.Weakness {
	k.Helper()
	ws, err := k.st.Weaknesses(k.ctx, q)
	k.ok(err)
	return ws
}

// recountCase does at random what a fleet does, and adds up again by hand.
func recountCase(k *kit) {
	const images, rounds = 6, 60
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= images; n++ {
		k.scanned(n)
	}
	now := time.Duration(0)
	for round := range rounds {
		now += time.Minute
		n := 1 + r.IntN(images)
		switch r.IntN(10) {
		case 0:
			k.started(fmt.Sprint("w", r.IntN(5)), "a", n, asset.Running)
		case 1:
			k.started(fmt.Sprint("w", r.IntN(5)), "a", n, asset.Exited)
		case 2:
			k.prunedImages(now)
		default:
			k.putRandom(r, n, now)
		}
		if round%3 == 0 {
			k.recount(randomQuery(r))
		}
		k.recount(store.VulnerabilityQuery{})
	}
}

// prunedImages removes the images of which no workload is left: what of the
// suite's is from before. They are there again at once, without findings.
func (k *kit) prunedImages(now time.Duration) {
	k.Helper()
	_, err := k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(now+2*time.Hour))
	k.ok(err)
	for n := 1; n <= 6; n++ {
		k.noted(n, fmt.Sprintf("shop/web:%d", n))
	}
}

// putRandom replaces what is wrong with an image, mostly by what was.
func (k *kit) putRandom(r *rand.Rand, n int, now time.Duration) {
	k.Helper()
	var vs []finding.Vulnerability
	for range r.IntN(12) {
		v := found(fmt.Sprint("CVE-", r.IntN(6)), fmt.Sprint("package-", r.IntN(3)), finding.Severity(r.IntN(6)))
		v.InUse = r.IntN(3) == 0
		if r.IntN(2) == 0 {
			v.State, v.Fixed = finding.Unfixed, ""
		}
		if r.IntN(4) == 0 {
			v.KEV = &advisory.Exploited{CVE: v.ID}
		}
		if r.IntN(2) == 0 {
			v.EPSS = &advisory.Probability{EPSS: 0.25 * float32(r.IntN(4))}
		}
		if r.IntN(4) == 0 {
			v.Accepted = &finding.Acceptance{Reason: "known"}
		}
		v.Package.Places[0].Path = fmt.Sprint("/place-", r.IntN(2))
		v.Print()
		if !slices.ContainsFunc(vs, func(o finding.Vulnerability) bool { return o.Fingerprint == v.Fingerprint }) {
			vs = append(vs, v)
		}
	}
	k.findings(n, now, vs...)
}

func randomQuery(r *rand.Rand) store.VulnerabilityQuery {
	some := func() bool { return r.IntN(3) == 0 }
	q := store.VulnerabilityQuery{Fixable: some(), Exploited: some(), InUse: some(), Running: some(), Accepted: some()}
	if some() {
		q.Severity = finding.Severity(r.IntN(6))
	}
	if some() {
		q.Package = fmt.Sprint("package-", r.IntN(3))
	}
	if some() {
		q.ID = fmt.Sprint("GHSA-CVE-", r.IntN(6)) // another name of it
	}
	if some() {
		q.ImageID = imageID(1 + r.IntN(6))
	}
	if some() {
		q.Text = fmt.Sprint("-", r.IntN(6))
	}
	return q
}

// recount compares Weaknesses with what single findings and images add up to.
func (k *kit) recount(q store.VulnerabilityQuery) {
	k.Helper()
	type sum struct {
		store.Weakness
		images map[string]bool
	}
	sums := map[string]*sum{}
	q.Limit = store.MaxPage
	for _, v := range k.vulnerabilities(q) {
		s := sums[v.ID]
		if s == nil {
			s = &sum{Weakness: store.Weakness{ID: v.ID, Summary: v.Summary, First: v.First}, images: map[string]bool{}}
			sums[v.ID] = s
		}
		s.Severity = max(s.Severity, v.Severity)
		s.Exploited, s.InUse, s.Fixable = s.Exploited || v.KEV != nil, s.InUse || v.InUse, s.Fixable || v.State == finding.Fixable
		if v.EPSS != nil {
			s.EPSS = max(s.EPSS, float64(v.EPSS.EPSS))
		}
		s.Packages = append(s.Packages, v.Package.Name)
		if v.Fixed != "" {
			s.Fixed = append(s.Fixed, v.Package.Name+" "+v.Fixed)
		}
		if v.First.Before(s.First) {
			s.First = v.First
		}
		s.images[v.ImageID] = true
	}
	var want []store.Weakness
	for _, s := range sums {
		for image := range s.images {
			m, err := k.st.Image(k.ctx, image)
			k.ok(err)
			s.Images++
			s.Workloads += m.Running
		}
		want = append(want, normal(s.Weakness))
	}
	got := k.weaknesses(q)
	for i := range got {
		got[i] = normal(got[i])
	}
	byID := func(a, b store.Weakness) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortFunc(want, byID)
	slices.SortFunc(got, byID)
	same(k, fmt.Sprintf("%+v", q), got, want)
}

// normal puts lists of names into one order, each once.
func normal(w store.Weakness) store.Weakness {
	slices.Sort(w.Packages)
	slices.Sort(w.Fixed)
	w.Packages, w.Fixed = slices.Compact(w.Packages), slices.Compact(w.Fixed)
	return w
}
