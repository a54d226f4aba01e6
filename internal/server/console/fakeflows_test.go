package console_test

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Flows adds the shop's connections up as a store does.
func (f *fakeStore) Flows(_ context.Context, q store.FlowQuery) ([]store.Flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	type line struct {
		workload string
		kind     event.Kind
		protocol string
		remote   netip.Addr
		port     uint16
	}
	sum := map[line]*store.Flow{}
	var order []line
	for _, e := range f.shop.Events {
		c := e.Connection
		if c == nil || e.Kind == event.KindClose || e.Time.Before(q.Since) || q.WorkloadID != "" && e.WorkloadID != q.WorkloadID {
			continue
		}
		l := line{e.WorkloadID, e.Kind, c.Protocol, c.Remote.Addr(), c.Remote.Port()}
		if e.Kind != event.KindConnect {
			l.port = c.Local.Port()
		}
		if sum[l] == nil {
			sum[l] = &store.Flow{WorkloadID: e.WorkloadID, Group: e.Group, AgentID: e.AgentID, Kind: e.Kind, Protocol: c.Protocol, Address: l.remote, Port: l.port, First: e.Time}
			order = append(order, l)
		}
		s := sum[l]
		s.Count += e.Times()
		s.Name, s.Peer, s.Last = c.Name, c.Peer, e.Time
		if c.Error != "" {
			s.Failed, s.Error = s.Failed+e.Times(), c.Error
		}
	}
	out := make([]store.Flow, 0, len(order))
	for _, l := range order {
		out = append(out, *sum[l])
	}
	slices.SortStableFunc(out, func(a, b store.Flow) int { return cmp.Compare(b.Count, a.Count) })
	if q.Limit > 0 {
		out = out[:min(len(out), q.Limit)]
	}
	return out, nil
}

func (f *fakeStore) Samples(_ context.Context, workload string, since, until time.Time, step time.Duration) ([]asset.Sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(); err != nil {
		return nil, err
	}
	var out []asset.Sample
	for _, s := range f.shop.Samples {
		if s.WorkloadID != workload || s.Time.Before(since) || !s.Time.Before(until) {
			continue
		}
		if n := len(out); n > 0 && step > 0 && out[n-1].Time.Truncate(step).Equal(s.Time.Truncate(step)) {
			out[n-1] = s
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// fakeEnrolment gives the second agent a certificate.
type fakeEnrolment struct{ *fakeAccount }

func (f fakeEnrolment) Invite(_ context.Context, who access.Identity, name string, _ time.Duration) (access.Invitation, string, error) {
	if err := f.allow(who, access.EnrolAgents); err != nil {
		return access.Invitation{}, "", err
	}
	return access.Invitation{ID: 1, Name: name, Expires: f.now.Add(time.Hour)}, "cji_Secret-0123456789abcdefghijklmnopqrstuvwxyzAB", f.did("invite " + name)
}

func (f fakeEnrolment) Certificates(_ context.Context, _ access.Identity, agentID string) ([]access.Certificate, error) {
	if agentID == "a1f0c2d4e6b8" {
		return nil, nil
	}
	return []access.Certificate{{Serial: "5f21c09a", AgentID: agentID, Issued: f.now.Add(-5 * 24 * time.Hour), Expires: f.now.Add(25 * 24 * time.Hour)}}, nil
}

func (f fakeEnrolment) Revoke(_ context.Context, who access.Identity, agentID string) (int, error) {
	if err := f.allow(who, access.EnrolAgents); err != nil {
		return 0, err
	}
	return 1, f.did("cut off " + agentID)
}
