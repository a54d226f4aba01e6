package server

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/server/direct"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// agents is link.Server: reports go one way, directives come the other.
type agents struct {
	intake *intake.Intake
	direct *direct.Hub
	images *images.Service
	trust  *verify.Service
	gate   *gate.Service

	behaviour *behaviour.Service
	respond   *respond.Service

	detections *detections.Service
}

// Report is link.Server.
func (a agents) Report(ctx context.Context, r link.Report) (link.Receipt, error) {
	receipt, err := a.intake.Report(ctx, r)
	if err == nil { // it is well formed, and of the agent that it says
		a.respond.Holds(ctx, &r.Agent)
	}
	return receipt, err
}

// Directives is link.Server.
func (a agents) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	return a.direct.Directives(ctx, who, take)
}

// Inventory is link.Server.
func (a agents) Inventory(ctx context.Context, s link.Scanned) error {
	return a.images.Inventory(ctx, s)
}

// Verdict is link.Server.
func (a agents) Verdict(ctx context.Context, v link.Verified) error {
	return a.trust.Verdict(ctx, v)
}

// Brief is link.Admission.
func (a agents) Brief(ctx context.Context, q link.AdmissionAsk) (link.AdmissionBrief, error) {
	return a.gate.Brief(ctx, q)
}

// Admitted is link.Admission.
func (a agents) Admitted(ctx context.Context, r link.AdmissionReport) error {
	return a.gate.Admitted(ctx, r)
}

// Behaviour is link.Behaviour.
func (a agents) Behaviour(ctx context.Context, q link.BehaviourAsk) (link.BehaviourBrief, error) {
	if err := a.intake.Seed(ctx); err != nil { // without it rules would lack all peers
		return link.BehaviourBrief{}, err
	}
	return a.behaviour.Behaviour(ctx, q)
}

// Responded is link.Responses.
func (a agents) Responded(ctx context.Context, r link.Responded) error {
	return a.respond.Responded(ctx, r)
}

// SnapshotPiece is link.Snapshots.
func (a agents) SnapshotPiece(ctx context.Context, p link.SnapshotPiece) error {
	return a.respond.SnapshotPiece(ctx, p)
}

// Detections is link.Detections.
func (a agents) Detections(ctx context.Context, q link.DetectionsAsk) (link.DetectionsBrief, error) {
	return a.detections.Detections(ctx, q)
}

// listeners hear what is reported.
type listeners struct {
	*images.Service
	behaviour *behaviour.Service
}

// Noted is intake.Images.
func (l listeners) Noted(ws []asset.Workload) {
	l.Service.Noted(ws)
	l.behaviour.Noted(ws)
}

// newDetections makes what keeps rules of detection. The threats that agents tell
// become incidents.
func (s *Server) newDetections() *detections.Service {
	return detections.New(detections.Options{
		Store: s.st, Directions: s.direct, Next: s.incidents, Condition: s.condition, Clock: s.cfg.Clock, Log: s.log,
	})
}

// consider has a threat held against the response rules.
func (s *Server) consider(ctx context.Context, i *threat.Incident, t *threat.Threat) {
	s.respond.Consider(ctx, i, t)
}

// newGate makes what decides on deployments. Nothing of it runs yet.
func (s *Server) newGate() *gate.Service {
	return gate.New(gate.Options{
		Store:   s.st,
		Changed: func(ctx context.Context) (<-chan struct{}, error) { return s.images.Changed(ctx, "") },
		Advisories: func() (string, time.Time) {
			d := s.images.Database()
			return d.Generation, d.Newest()
		},
		Want:   s.wantVerified,
		Seeker: s.registries, Directions: s.direct, Condition: s.condition, Clock: s.cfg.Clock, Log: s.log,
	})
}

// wantVerified has an image of a registry verified soon, if this server verifies such.
func (s *Server) wantVerified(registry, repository string, n store.TrustName) bool {
	return s.trust.Want(registry, repository, n)
}

// vouching is the store of the trust policy, which tells when something of it has
// changed.
type vouching struct {
	store.Store
	changed func()
}

// PutTrustVerdict is store.TrustVerdicts.
func (v vouching) PutTrustVerdict(ctx context.Context, t store.TrustVerdict) error {
	defer v.changed()
	return v.Store.PutTrustVerdict(ctx, t)
}

// PutTrustPolicy is store.TrustPolicies.
func (v vouching) PutTrustPolicy(ctx context.Context, p store.TrustPolicy, after int64) (store.TrustPolicy, error) {
	defer v.changed()
	return v.Store.PutTrustPolicy(ctx, p, after)
}
