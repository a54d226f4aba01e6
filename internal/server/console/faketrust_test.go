package console_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
)

// fakeTrust keeps the shop's trust policy and verdicts in memory. What people ask
// goes through the real service.
type fakeTrust struct {
	*fakeStore
	policies []store.TrustPolicy // the newest last
	images   []store.TrustImage
	audit    []access.Audit
}

// newTrust returns the service and what it keeps.
func newTrust(st *fakeStore, now time.Time) (*verify.Service, *fakeTrust) {
	f := &fakeTrust{fakeStore: st}
	if len(st.shop.Workloads) > 0 {
		f.policies, f.images = consoletest.TrustPolicies(now), st.shop.TrustImages(now)
	}
	return verify.New(verify.Options{Store: f, Directions: nobody{}, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}), f
}

// nobody listens.
type nobody struct{}

func (nobody) Listening() []string                { return nil }
func (nobody) AskVerify(string, link.VerifyWish)  {}
func (nobody) EndVerify(agentID string, _ string) {}

func (f *fakeTrust) AppendAudit(_ context.Context, a access.Audit) error {
	f.audit = append(f.audit, a)
	return nil
}

func (f *fakeTrust) PutTrustPolicy(_ context.Context, p store.TrustPolicy, after int64) (store.TrustPolicy, error) {
	if int64(len(f.policies)) != after {
		return p, fault.New(fault.Conflict, "the trust policy was changed meanwhile")
	}
	p.Version = after + 1
	f.policies = append(f.policies, p)
	return p, nil
}

func (f *fakeTrust) TrustPolicy(_ context.Context, version int64) (store.TrustPolicy, error) {
	if version == 0 {
		version = int64(len(f.policies))
	}
	if version < 1 || version > int64(len(f.policies)) {
		return store.TrustPolicy{}, fault.New(fault.NotFound, "there is no such version of the trust policy")
	}
	return f.policies[version-1], nil
}

func (f *fakeTrust) TrustPolicies(_ context.Context, before int64, limit int) (out []store.TrustPolicy, err error) {
	for _, p := range slices.Backward(f.policies) {
		if before == 0 || p.Version < before {
			p.Text = ""
			out = append(out, p)
		}
	}
	if limit == 0 {
		limit = store.DefaultPage
	}
	return out[:min(len(out), limit)], nil
}

func (f *fakeTrust) NoteTrustImages(context.Context, []store.TrustSeen, time.Time, time.Time) error {
	return nil
}

func (f *fakeTrust) DueTrustImages(context.Context, time.Time, []store.TrustName, int) ([]store.TrustDue, error) {
	return nil, nil
}

func (f *fakeTrust) Registries(context.Context) ([]store.WatchedRegistry, error) { return nil, nil }

func (f *fakeTrust) RegistryImages(context.Context, store.RegistryImageQuery) ([]store.RegistryImage, error) {
	return nil, nil
}

func (f *fakeTrust) DueTrustWatched(context.Context, time.Time, []store.TrustName, int) ([]store.TrustDue, error) {
	return nil, nil
}

func (f *fakeTrust) TrustDetails(_ context.Context, after int64, limit int) (out []store.TrustImage, err error) {
	for _, m := range f.images {
		if m.ID > after && m.Running > 0 {
			out = append(out, m)
		}
	}
	return out[:min(len(out), limit)], nil
}

func (f *fakeTrust) PutTrustVerdict(context.Context, store.TrustVerdict) error { return nil }

func (f *fakeTrust) TrustImages(_ context.Context, q store.TrustQuery) (out []store.TrustImage, err error) {
	rank := func(m store.TrustImage) int {
		n := slices.Index(store.TrustStates(), m.State)
		if m.Running == 0 {
			n += 100
		}
		return n
	}
	all := slices.Clone(f.images)
	slices.SortStableFunc(all, func(a, b store.TrustImage) int { return rank(a) - rank(b) })
	behind := q.After == 0
	for _, m := range all {
		signed := slices.ContainsFunc(m.Signers, func(s store.TrustSigner) bool { return s.Identity == q.Signer || slices.Contains(s.Names, q.Signer) })
		if behind && (q.State == "" || q.State == m.State) && (!q.Running || m.Running > 0) && (q.Signer == "" || signed) &&
			(q.ImageID == "" || slices.Contains(m.Images, q.ImageID)) && strings.Contains(m.Repository, q.Repository) {
			m.Details = nil
			out = append(out, m)
		}
		behind = behind || m.ID == q.After
	}
	if !behind {
		return nil, fault.New(fault.Invalid, "no image %d to continue behind", q.After)
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fakeTrust) TrustImage(_ context.Context, repository, digest string) (store.TrustImage, error) {
	for _, m := range f.images {
		if m.Repository == repository && m.Digest == digest {
			return m, nil
		}
	}
	return store.TrustImage{}, fault.New(fault.NotFound, "no image %s@%s is known", repository, digest)
}

func (f *fakeTrust) TrustTotals(context.Context) (store.TrustTotals, error) {
	t := store.TrustTotals{States: map[store.TrustState]int{}, Workloads: map[store.TrustState]int{}}
	for _, m := range f.images {
		if m.Running > 0 {
			t.States[m.State]++
			t.Workloads[m.State] += m.Running
		}
	}
	return t, nil
}
