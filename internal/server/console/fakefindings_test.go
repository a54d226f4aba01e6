package console_test

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// judged are the secrets and faults of an image of the shop, with what holds of
// the decisions.
func (f *fakeStore) judged(m consoletest.Image) (out []store.Finding) {
	for _, j := range m.Judged {
		j.ImageID, j.First = m.ID, m.Seen
		for _, a := range f.acceptances {
			if a.Kind == j.Kind && a.Ended.IsZero() && a.Expires.After(f.now) && (a.Image == "" || a.Image == m.ID) &&
				(a.Rule == j.Rule || j.Secret != nil && a.Rule == j.Secret.Fingerprint) {
				j.Accepted = &finding.Acceptance{Reason: a.Reason, By: a.By, Expires: a.Expires}
			}
		}
		out = append(out, j)
	}
	return out
}

func (f *fakeStore) FindingsIn(_ context.Context, q store.FindingQuery) (out []store.Finding, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	return f.pick(q), nil
}

func (f *fakeStore) pick(q store.FindingQuery) (out []store.Finding) {
	for _, m := range f.shop.Images {
		runs := f.imageOf(m).Running > 0
		for _, j := range f.judged(m) {
			text := j.Rule + j.Title
			if j.Secret != nil {
				text += j.Secret.Path + j.Secret.Name
			}
			if j.Kind == q.Kind && (q.ImageID == "" || q.ImageID == m.ID) && (q.Key == "" || q.Key == j.Key) && j.Severity >= q.Severity &&
				(!q.Running || runs) && q.Accepted == (j.Accepted != nil) && strings.Contains(text, q.Text) {
				out = append(out, j)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b store.Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return out
}

func (f *fakeStore) FindingLines(_ context.Context, q store.FindingQuery) (out []store.FindingLine, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	for _, j := range f.pick(q) {
		i := slices.IndexFunc(out, func(l store.FindingLine) bool { return l.Key == j.Key })
		if i < 0 {
			i, out = len(out), append(out, store.FindingLine{Finding: j})
		}
		l := &out[i]
		for _, m := range f.shop.Images {
			if m.ID == j.ImageID {
				running := f.imageOf(m).Running
				l.Images++
				l.Workloads += running
				l.In = append(l.In, store.FindingImage{ID: m.ID, Reference: m.Reference, Owner: "Shop team", Running: running})
			}
		}
	}
	out = out[min(q.Offset, len(out)):]
	return out[:min(len(out), q.Limit)], nil
}

// Trend has two secrets that came a week ago, one of which is gone.
func (f *fakeStore) Trend(_ context.Context, kind store.FindingKind, since time.Time) (out []store.TrendDay, err error) {
	if kind != store.KindSecret {
		return nil, nil
	}
	today := f.now.UTC().Truncate(24 * time.Hour)
	for ago := 7; ago >= 0; ago-- {
		d := store.TrendDay{Day: today.AddDate(0, 0, -ago), Severity: finding.High, Open: 2}
		switch {
		case ago == 7:
			d.New = 2
		case ago == 3:
			d.Resolved = 1
		}
		if ago <= 3 {
			d.Open = 1
		}
		out = append(out, d)
	}
	return out, nil
}

func (f *fakeImages) Owners(_ context.Context, who access.Identity) (asset.Owners, error) {
	return asset.Owners{
		{Image: "**", Owner: asset.Owner{Name: "Shop team", Contact: "#shop"}},
		{Group: consoletest.HostileName, Owner: asset.Owner{Name: consoletest.HostileName, Contact: consoletest.HostileArg}},
	}, f.accounts.allow(who, access.ReadImages)
}

func (f *fakeImages) SetOwner(_ context.Context, who access.Identity, r asset.OwnerRule) error {
	if err := f.accounts.allow(who, access.ManageImages); err != nil || f.refuse != nil {
		return cmp.Or(err, f.refuse)
	}
	return f.accounts.did("owner of " + r.Image + r.Group + " is " + r.Name + " " + r.Contact)
}

func (f *fakeImages) RemoveOwner(_ context.Context, who access.Identity, r asset.OwnerRule) error {
	if err := f.accounts.allow(who, access.ManageImages); err != nil {
		return err
	}
	return f.accounts.did("no owner of " + r.Image + r.Group)
}
