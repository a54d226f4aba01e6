// Package direct tells agents what the server wants of them: the settings to
// work by, as soon as they change, a snapshot when one is asked for, and the
// images to scan and to verify.
//
// Settings are kept per agent and once for all agents that have none of their
// own. An agent takes them as wishes: it never switches on what its own host's
// owner has switched off. People change them with access.ManageAgents. It is not
// for what agents report (see internal/server/intake), nor for who is an agent
// (see internal/server/enrol).
package direct

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
)

// Store is what this package needs kept.
type Store interface {
	store.AgentSettings
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Hub holds the open streams of directives. It is safe for concurrent use.
type Hub struct {
	st    Store
	clock func() time.Time
	log   *slog.Logger

	// changes makes a change and its audit one step.
	changes sync.Mutex

	joined chan struct{} // one token when a stream has begun

	mu      sync.Mutex
	streams map[string]*stream       // by agent id
	scans   map[string]link.ScanWish // by agent id, whether it listens or not
	// verifies are as scans.
	verifies  map[string]link.VerifyWish
	admission *link.AdmissionWish // of all agents; nil until it is known
	behaviour map[string]string   // by agent id, the stamp of what its groups are held to
	detect    string              // stamp of the rules of detection; empty until it is known
	// deeds are what an agent is to do, in their order, by its id, until EndRespond.
	deeds map[string][]response.Deed
}

// stream is one agent that listens.
type stream struct {
	wake     chan struct{} // one token when something may have changed
	replaced chan struct{} // closed when the agent connects anew

	mu       sync.Mutex
	snapshot time.Time // when one was asked for that is not passed on yet
}

// New returns a hub without streams.
func New(st Store, clock func() time.Time, log *slog.Logger) *Hub {
	return &Hub{st: st, clock: clock, log: log, streams: map[string]*stream{},
		joined: make(chan struct{}, 1), scans: map[string]link.ScanWish{}, verifies: map[string]link.VerifyWish{},
		behaviour: map[string]string{}, deeds: map[string][]response.Deed{}}
}

// Directives is that of link.Server. who.AgentID must have been proven by the
// caller. An agent has one stream: a second one ends the first, whose
// connection may be dead without anybody knowing yet.
func (h *Hub) Directives(ctx context.Context, who link.Caller, take func(link.Directive)) error {
	s := h.enter(who.AgentID)
	defer h.leave(who.AgentID, s)
	sent, job, verifying, deciding, holding, detecting := "", "", "", "", "", ""
	doing := map[string]bool{}
	for {
		d, err := h.settings(ctx, who.AgentID)
		if err != nil {
			return err
		}
		if d.ID != sent {
			take(d)
			sent = d.ID
		}
		if asked := s.takeSnapshot(); !asked.IsZero() {
			take(link.Directive{ID: "snapshot-" + asked.UTC().Format(time.RFC3339Nano), Kind: link.DirectiveSnapshot, Issued: asked})
		}
		if d, ok := h.scan(who.AgentID, job); ok {
			take(d)
			job = d.Scan.Job
		}
		if d, ok := h.verify(who.AgentID, verifying); ok {
			take(d)
			verifying = d.Verify.Job
		}
		if d, ok := h.admit(deciding); ok {
			take(d)
			deciding = d.Admission.Stamp
		}
		if d, ok := h.behave(who.AgentID, holding); ok {
			take(d)
			holding = d.Behaviour.Stamp
		}
		if d, ok := h.detects(detecting); ok {
			take(d)
			detecting = d.Detect.Stamp
		}
		for _, d := range h.respond(who.AgentID, doing) {
			take(d)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.replaced:
			return fault.New(fault.Unavailable, "agent %s has connected anew", who.AgentID).
				With("if two hosts run with one data folder, join one of them with a folder of its own")
		case <-s.wake:
		}
	}
}

func (h *Hub) enter(agentID string) *stream {
	s := &stream{wake: make(chan struct{}, 1), replaced: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.streams[agentID]; old != nil {
		close(old.replaced)
	}
	h.streams[agentID] = s
	select {
	case h.joined <- struct{}{}:
	default: // a value waits already
	}
	return s
}

func (h *Hub) leave(agentID string, s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[agentID] == s {
		delete(h.streams, agentID)
	}
}

// settings returns what holds for an agent now, as a directive.
func (h *Hub) settings(ctx context.Context, agentID string) (link.Directive, error) {
	own, err := h.effective(ctx, agentID)
	if err != nil {
		return link.Directive{}, err
	}
	b, err := json.Marshal(own)
	if err != nil {
		return link.Directive{}, fmt.Errorf("write the settings of agent %s: %w", agentID, err)
	}
	sum := sha256.Sum256(b)
	return link.Directive{
		ID: "settings-" + hex.EncodeToString(sum[:8]), Kind: link.DirectiveSettings, Issued: h.clock(), Settings: &own,
	}, nil
}

// effective returns an agent's own settings, else those of all.
func (h *Hub) effective(ctx context.Context, agentID string) (asset.AgentSettings, error) {
	own, err := h.st.AgentSettings(ctx, agentID)
	if err != nil {
		return asset.AgentSettings{}, fmt.Errorf("read the settings of agent %s: %w", agentID, err)
	}
	if !isZero(own) {
		return own, nil
	}
	all, err := h.st.AgentSettings(ctx, "")
	if err != nil {
		return asset.AgentSettings{}, fmt.Errorf("read the settings of all agents: %w", err)
	}
	return all, nil
}

func isZero(s asset.AgentSettings) bool {
	return len(s.SensorsOff) == 0 && len(s.SensitivePaths) == 0 && s.Window == 0
}

// wake makes one stream look again, or all with "".
func (h *Hub) wake(agentID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, s := range h.streams {
		if agentID == "" || id == agentID {
			s.nudge()
		}
	}
}

func (s *stream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (s *stream) askSnapshot(now time.Time) {
	s.mu.Lock()
	s.snapshot = now
	s.mu.Unlock()
	s.nudge()
}

func (s *stream) takeSnapshot() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.snapshot
	s.snapshot = time.Time{}
	return asked
}
