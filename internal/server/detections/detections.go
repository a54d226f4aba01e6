// Package detections keeps what people write about detection: documents of rules with
// their history, and silences. Agents fetch both, hold what happens against them, and
// tell how rules fare, which is summed here. Threats that agents tell pass through it:
// what a silence keeps here that an agent did not know of yet goes no further.
//
// It is not for what rules mean (see internal/detect), nor for what becomes of threats.
package detections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// PartDetection is the name of the condition that says why rules of detection can't be
// used.
const PartDetection = "detection"

const (
	// flushEvery is how often how rules fare is stored.
	flushEvery = 5 * time.Second
	// maxAgents bounds the agents that are remembered.
	maxAgents = 10_000
)

// Store is what is kept.
type Store interface {
	store.Detections
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Directions reach the agents that listen.
type Directions interface {
	// TellDetect tells all agents that rules or silences are others now.
	TellDetect(stamp string)
}

// Threats takes threats of agents.
type Threats interface {
	Take(ctx context.Context, agentID string, threats []*threat.Threat) error
}

// Options are what a Service needs. All but Directions, Next and Condition are required.
type Options struct {
	Store      Store
	Directions Directions
	// Next gets the threats that no silence keeps.
	Next Threats
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service keeps it. It is safe for concurrent use.
type Service struct {
	Options
	exchange sync.Mutex // makes a change and its audit one step
	loading  sync.Mutex
	now      atomic.Pointer[standing] // nil until it is read

	mu     sync.Mutex
	agents map[string]*reporter
}

// standing is what holds now.
type standing struct {
	documents []store.DetectionDocument
	silences  []store.DetectionSilence // those that held when it was read
	rules     []*threat.Rule
	known     map[string]bool // ids of rules
	hush      []threat.Silence
	stamp     string
	texts     link.DetectionTexts
}

// reporter is what an agent told.
type reporter struct {
	seen     time.Time
	stamp    string
	unusable []link.UnusableText
	boot     string
	stats    map[string]threat.RuleStats // not stored yet
	errors   map[string]string           // of rules
}

// New returns a service that tells nothing before Run.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	return &Service{Options: o, agents: map[string]*reporter{}}
}

// Run tells agents what holds, and stores how rules fare, until ctx ends. Call it once.
func (s *Service) Run(ctx context.Context) {
	s.exchange.Lock() // what is told last is what holds
	_, err := s.load(ctx)
	s.exchange.Unlock()
	if err != nil && ctx.Err() == nil {
		s.Condition(ctx, PartDetection, err)
	}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.flush(context.WithoutCancel(ctx))
			return
		case <-tick.C:
			s.flush(ctx)
			s.expire(ctx)
		}
	}
}

// standing returns what holds now.
func (s *Service) standing(ctx context.Context) (*standing, error) {
	if x := s.now.Load(); x != nil {
		return x, nil
	}
	return s.load(ctx)
}

// load reads what holds, and tells the agents. Documents that can't be used any more
// are those of a newer server, or clash with rules that came with this one: agents use
// what they can, and the reason is told.
func (s *Service) load(ctx context.Context) (*standing, error) {
	s.loading.Lock() // what was read earlier never replaces what was read later
	defer s.loading.Unlock()
	x := &standing{known: map[string]bool{}}
	var err error
	if x.documents, err = s.Store.DetectionDocuments(ctx); err != nil {
		return nil, fmt.Errorf("read rules of detection: %w", err)
	}
	if x.silences, err = s.Store.DetectionSilences(ctx, s.Clock()); err != nil {
		return nil, fmt.Errorf("read silences: %w", err)
	}
	e, err := detect.New(textsOf(x.documents))
	s.Condition(ctx, PartDetection, err)
	if err != nil {
		if e, err = detect.New(nil); err != nil {
			return nil, fmt.Errorf("read the built-in rules: %w", err)
		}
	}
	x.rules, x.hush = e.Rules(), slices.Clone(e.Silences())
	for _, r := range x.rules {
		x.known[r.ID] = true
	}
	for i := range x.silences {
		x.texts.Silences = append(x.texts.Silences, x.silences[i].Silence)
	}
	x.hush = append(x.hush, x.texts.Silences...)
	for i := range x.documents {
		d := &x.documents[i]
		x.texts.Documents = append(x.texts.Documents, link.DetectionText{Name: d.Name, Version: d.Version, Text: d.Text})
	}
	if x.stamp, err = stampOf(x); err != nil {
		return nil, err
	}
	s.now.Store(x)
	if s.Directions != nil {
		s.Directions.TellDetect(x.stamp)
	}
	return x, nil
}

// stampOf is another one when anything is; empty when nobody wrote anything.
func stampOf(x *standing) (string, error) {
	if len(x.texts.Documents)+len(x.texts.Silences) == 0 {
		return "", nil
	}
	b, err := json.Marshal(x.texts)
	if err != nil {
		return "", fmt.Errorf("encode rules of detection: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}

func textsOf(documents []store.DetectionDocument) []detect.Text {
	out := make([]detect.Text, len(documents))
	for i := range documents {
		out[i] = detect.Text{Name: documents[i].Name, Body: []byte(documents[i].Text)}
	}
	return out
}

// expire takes silences whose time is over out of what agents are told.
func (s *Service) expire(ctx context.Context) {
	x := s.now.Load()
	now := s.Clock()
	if x == nil || !slices.ContainsFunc(x.silences, func(v store.DetectionSilence) bool { return !v.Holds(now) }) {
		return
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	if _, err := s.load(ctx); err != nil && ctx.Err() == nil {
		s.Log.Error("silences that are over are still told", "error", err)
	}
}

// Take passes threats of an agent on, without those that a silence keeps: one that the
// agent did not have yet, or of a group that it did not know yet.
func (s *Service) Take(ctx context.Context, agentID string, threats []*threat.Threat) error {
	x, err := s.standing(ctx)
	if err != nil {
		return err
	}
	left := make([]*threat.Threat, 0, len(threats))
	for _, t := range threats {
		if !slices.ContainsFunc(x.hush, func(v threat.Silence) bool { return detect.Silences(&v, t) }) {
			left = append(left, t)
		}
	}
	if len(left) == 0 || s.Next == nil {
		return nil
	}
	return s.Next.Take(ctx, agentID, left)
}

// Detections is link.Detections. a.AgentID must have been proven by the caller.
func (s *Service) Detections(ctx context.Context, a link.DetectionsAsk) (link.DetectionsBrief, error) {
	if err := a.Check(); err != nil {
		return link.DetectionsBrief{}, err
	}
	x, err := s.standing(ctx)
	if err != nil {
		return link.DetectionsBrief{}, err
	}
	s.note(&a, x)
	b := link.DetectionsBrief{Stamp: x.stamp}
	if a.Stamp != x.stamp {
		b.Changed, b.Texts = true, x.texts
	}
	return b, nil
}

// note remembers what an agent told, of rules that there are.
func (s *Service) note(a *link.DetectionsAsk, x *standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.agents[a.AgentID]
	if r == nil || r.boot != a.Boot {
		if r == nil && len(s.agents) >= maxAgents {
			for other := range s.agents {
				delete(s.agents, other)
				break
			}
		}
		if r != nil && len(r.stats) > 0 {
			s.Log.Warn("how rules fared at the end of an agent's start is not counted", "agent_id", a.AgentID)
		}
		r = &reporter{boot: a.Boot, stats: map[string]threat.RuleStats{}, errors: map[string]string{}}
		s.agents[a.AgentID] = r
	}
	r.seen, r.stamp, r.unusable = s.Clock(), a.Stamp, a.Unusable
	for _, st := range a.Rules {
		if !x.known[st.Rule] {
			continue
		}
		if delete(r.errors, st.Rule); st.Error != "" {
			r.errors[st.Rule] = st.Error
		}
		r.stats[st.Rule] = st
	}
}

// flush stores how rules fare.
func (s *Service) flush(ctx context.Context) {
	s.mu.Lock()
	waiting := map[string]*reporter{}
	for id, r := range s.agents {
		if len(r.stats) > 0 {
			waiting[id] = &reporter{boot: r.boot, stats: r.stats}
			r.stats = map[string]threat.RuleStats{}
		}
	}
	s.mu.Unlock()
	for id, r := range waiting {
		stats := slices.Collect(maps.Values(r.stats))
		if err := s.Store.PutDetectionStats(ctx, id, r.boot, stats); err != nil {
			s.Log.Error("how rules of detection fare is not stored", "agent_id", id, "error", err)
			s.restore(id, r)
		}
	}
}

// restore keeps for the next try what was not stored.
func (s *Service) restore(id string, r *reporter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.agents[id]
	if at == nil || at.boot != r.boot {
		return
	}
	for rule, st := range r.stats {
		if _, newer := at.stats[rule]; !newer {
			at.stats[rule] = st
		}
	}
}
