package console_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/store"
)

// fakeGate keeps the shop's admission policy, exceptions and verdicts in memory. What
// people ask goes through the real service.
type fakeGate struct {
	*fakeTrust
	policies   []store.AdmissionPolicy    // the newest last
	exceptions []store.AdmissionException // the newest first
	verdicts   []store.AdmissionVerdict   // the oldest first
	audit      []access.Audit
}

// newGate returns the service and what it keeps.
func newGate(tr *fakeTrust, now time.Time) (*gate.Service, *fakeGate) {
	f := &fakeGate{fakeTrust: tr}
	if len(tr.shop.Workloads) > 0 {
		f.policies, f.exceptions, f.verdicts = consoletest.AdmissionPolicies(now), consoletest.AdmissionExceptions(now), tr.shop.AdmissionVerdicts(now)
	}
	return gate.New(gate.Options{Store: f, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}), f
}

func (f *fakeGate) AppendAudit(_ context.Context, a access.Audit) error {
	f.audit = append(f.audit, a)
	return nil
}

func (f *fakeGate) PutAdmissionPolicy(_ context.Context, p store.AdmissionPolicy, after int64) (store.AdmissionPolicy, error) {
	if int64(len(f.policies)) != after {
		return p, fault.New(fault.Conflict, "the admission policy was changed meanwhile")
	}
	p.Version = after + 1
	f.policies = append(f.policies, p)
	return p, nil
}

func (f *fakeGate) AdmissionPolicy(_ context.Context, version int64) (store.AdmissionPolicy, error) {
	if version == 0 {
		version = int64(len(f.policies))
	}
	if version < 1 || version > int64(len(f.policies)) {
		return store.AdmissionPolicy{}, fault.New(fault.NotFound, "there is no such version of the admission policy")
	}
	return f.policies[version-1], nil
}

func (f *fakeGate) AdmissionPolicies(_ context.Context, before int64, limit int) (out []store.AdmissionPolicy, err error) {
	for _, p := range slices.Backward(f.policies) {
		if before == 0 || p.Version < before {
			p.Text = ""
			out = append(out, p)
		}
	}
	return out[:min(len(out), limit)], nil
}

func (f *fakeGate) PutAdmissionException(_ context.Context, e store.AdmissionException) (store.AdmissionException, error) {
	e.ID = strconv.Itoa(len(f.exceptions) + 1)
	f.exceptions = append([]store.AdmissionException{e}, f.exceptions...)
	return e, nil
}

func (f *fakeGate) WithdrawAdmissionException(_ context.Context, id, by string, now time.Time) (store.AdmissionException, error) {
	for i := range f.exceptions {
		switch e := &f.exceptions[i]; {
		case e.ID != id:
		case !e.Holds(now):
			return *e, fault.New(fault.Conflict, "exception %s is over already", id)
		default:
			e.Withdrawn, e.WithdrawnBy = now, by
			return *e, nil
		}
	}
	return store.AdmissionException{}, fault.New(fault.NotFound, "there is no exception %.40q", id)
}

func (f *fakeGate) AdmissionExceptions(_ context.Context, since time.Time) (out []store.AdmissionException, err error) {
	for _, e := range f.exceptions {
		if since.IsZero() || e.Expires.After(since) && (e.Withdrawn.IsZero() || e.Withdrawn.After(since)) {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *fakeGate) PutAdmissionVerdicts(_ context.Context, vs []store.AdmissionVerdict) error {
	f.verdicts = append(f.verdicts, vs...)
	return nil
}

func (f *fakeGate) AdmissionRecords(_ context.Context, q store.AdmissionQuery) (out []store.AdmissionVerdict, err error) {
	for _, v := range slices.Backward(f.verdicts) {
		fits := func(test func(c *admission.Container) bool) bool {
			return slices.ContainsFunc(v.Request.Task.Containers, func(c admission.Container) bool { return test(&c) })
		}
		reason := func(test func(r *admission.Reason) bool) bool {
			return slices.ContainsFunc(v.Verdict.Reasons, func(r admission.Reason) bool { return test(&r) })
		}
		place := v.Request.Place
		if (q.Outcome == "" || q.Outcome == v.Verdict.Outcome) && (q.Door == "" || q.Door == v.Request.Door) && (q.Cluster == "" || q.Cluster == place.Cluster) &&
			(q.Service == "" || q.Service == place.Service) && (q.Before == 0 || v.ID < q.Before) && !v.Received.Before(q.Since) &&
			(q.RequestID == "" || q.RequestID == v.Request.ID) &&
			(q.Rule == "" || reason(func(r *admission.Reason) bool { return r.Rule == q.Rule })) &&
			(!q.Audited || reason(func(r *admission.Reason) bool { return r.Effect == admission.Audited })) &&
			(q.Image == "" || fits(func(c *admission.Container) bool {
				return c.Image.Digest == q.Image || c.Image.Registry+"/"+c.Image.Repository == q.Image
			})) {
			out = append(out, v)
		}
	}
	return out[:min(len(out), q.Limit)], nil
}

func (f *fakeGate) AdmissionLines(ctx context.Context, q store.AdmissionQuery) (out []store.AdmissionLine, err error) {
	all, err := f.AdmissionRecords(ctx, q)
	for i := range all {
		v := &all[i]
		l := store.AdmissionLine{
			ID: v.ID, Request: v.Request.ID, At: v.Verdict.At, Received: v.Received, Agent: v.Agent, Actor: v.Actor, Door: v.Request.Door, Action: v.Request.Action,
			Outcome: v.Verdict.Outcome, Declared: v.Verdict.Declared, Policy: v.Verdict.Policy, Place: v.Request.Place, Family: v.Request.Task.Family, Reasons: len(v.Verdict.Reasons),
		}
		for _, c := range v.Request.Task.Containers {
			l.Images = append(l.Images, c.Image.Reference)
		}
		for k, r := range v.Verdict.Reasons {
			l.Rules = append(l.Rules, r.Rule)
			l.Audited = l.Audited || r.Effect == admission.Audited
			if k == 0 {
				l.Message = r.Message
			}
		}
		out = append(out, l)
	}
	return out, err
}

func (f *fakeGate) AdmissionVerdict(_ context.Context, id int64) (store.AdmissionVerdict, error) {
	for _, v := range f.verdicts {
		if v.ID == id {
			return v, nil
		}
	}
	return store.AdmissionVerdict{}, fault.New(fault.NotFound, "no verdict has the number %d", id)
}

func (f *fakeGate) AdmissionTotals(context.Context, time.Time) (store.AdmissionTotals, error) {
	t := store.AdmissionTotals{Outcomes: map[admission.Outcome]int64{}, Doors: map[admission.Door]int64{}}
	for _, v := range f.verdicts {
		t.Outcomes[v.Verdict.Outcome]++
		t.Doors[v.Request.Door]++
		for _, r := range v.Verdict.Reasons {
			k := slices.IndexFunc(t.Rules, func(x store.AdmissionRuleTotal) bool { return x.Rule == r.Rule && x.Effect == r.Effect })
			if k < 0 {
				k, t.Rules = len(t.Rules), append(t.Rules, store.AdmissionRuleTotal{Rule: r.Rule, Effect: r.Effect})
			}
			t.Rules[k].Reasons++
		}
	}
	return t, nil
}

// ImagesNamed finds the shop's images by their id, and by the digest that workloads
// know them by.
func (f *fakeStore) ImagesNamed(_ context.Context, digest string) (out []store.Image, _ []store.RegistryImage, err error) {
	for _, w := range f.shop.Workloads {
		if w.Image.ID == digest || w.Image.Digest == digest {
			return []store.Image{{ID: w.Image.ID}}, nil, nil
		}
	}
	return nil, nil, nil
}
