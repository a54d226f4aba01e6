package behaviour

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// maxRules bounds the compiled rules in memory: beyond, all are compiled anew.
	maxRules = 20_000
	// restShare is how much longer than it took agents are not told again: in a large
	// fleet in which containers come and go.
	restShare = 10
)

// rules remembers what was compiled.
type rules struct {
	mu sync.Mutex
	of map[place]compiled
}

// compiled are the rules of a group on a host, with what they were made of.
type compiled struct {
	link.BriefRules
	from    standing
	changes uint64 // of the map
	notes   []string
}

func (r *rules) init() { r.of = map[place]compiled{} }

// rulesOf returns what a group is held to on a host.
func (s *Service) rulesOf(ctx context.Context, at place) (compiled, error) {
	now, changes := s.fleet.standing(at.group), s.Map.Changes()
	s.rules.mu.Lock()
	have, ok := s.rules.of[at]
	s.rules.mu.Unlock()
	// What is only learned has no peers to look up.
	if ok && have.from.same(now) && (have.changes == changes || now.mode == profile.Discover) {
		return have, nil
	}
	p := &profile.Profile{Group: at.group}
	if now.mode != profile.Discover && now.revision != 0 {
		if p = s.fleet.profile(at.group, now.revision); p == nil {
			r, err := s.Store.BehaviourRevision(ctx, at.group, now.revision)
			if err != nil {
				return compiled{}, err
			}
			p = r.Profile
			s.fleet.keep(at.group, p)
		}
	}
	fresh, err := s.compile(at, p, now)
	if err != nil {
		return compiled{}, err
	}
	fresh.changes = changes
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	if len(s.rules.of) >= maxRules {
		clear(s.rules.of)
	}
	s.rules.of[at] = fresh
	return fresh, nil
}

// compile makes the rules of a profile for one host.
func (s *Service) compile(at place, p *profile.Profile, now standing) (compiled, error) {
	ways := func(g asset.Group) []netip.Addr {
		var all []netip.Addr
		for _, w := range s.Map.Ways(at.agent, at.group, g) {
			all = append(all, w.Address)
		}
		return slices.Compact(all) // sorted
	}
	o := watch.CompileOptions{Mode: now.mode, Switched: now.answers, Group: ways, Own: ways(at.group), Resolvers: profile.Resolvers()}
	if slices.ContainsFunc(p.Peers, func(q profile.Peer) bool { return q.Kind == event.PeerHost }) {
		o.Hosts = s.Map.Hosts()
	}
	r, notes, err := watch.Compile(p, o)
	if err != nil {
		return compiled{}, err
	}
	packed, err := link.PackRules(&r)
	if err != nil {
		return compiled{}, err
	}
	sum := sha256.Sum256(fmt.Appendf(packed[:len(packed):len(packed)], "\n%s", now.mode))
	return compiled{
		BriefRules: link.BriefRules{Group: at.group, Stamp: hex.EncodeToString(sum[:16]), Mode: now.mode, Packed: packed},
		from:       now, notes: notes,
	}, nil
}

// inForce reports whether a group is held to something, and not only learned from.
func (s *Service) inForce(g asset.Group) bool {
	m := s.fleet.standing(g).mode
	return m == profile.Monitor || m == profile.Protect
}

// all returns the rules of all groups of a host, their stamp, and how many groups that
// are to be held are left out because there are too many.
func (s *Service) all(ctx context.Context, agentID string) (list []compiled, stamp string, cut int, err error) {
	groups, cut := s.hosts.held(agentID, s.inForce, s.Clock())
	out := make([]compiled, 0, len(groups))
	h := sha256.New()
	for _, g := range groups {
		c, err := s.rulesOf(ctx, place{agentID, g})
		if err != nil {
			return nil, "", 0, fmt.Errorf("make the rules of group %s: %w", g, err)
		}
		out = append(out, c)
		fmt.Fprintf(h, "%s\n%s\n", g, c.Stamp)
	}
	return out, hex.EncodeToString(h.Sum(nil)[:16]), cut, nil
}

// Behaviour is link.Behaviour: what an agent is to hold, as far as it does not have
// it. a.AgentID must have been proven by the caller.
func (s *Service) Behaviour(ctx context.Context, a link.BehaviourAsk) (link.BehaviourBrief, error) {
	if err := a.Check(); err != nil {
		return link.BehaviourBrief{}, err
	}
	select {
	case <-s.ready:
	default: // every group would seem to discover, and be let go of
		return link.BehaviourBrief{}, fault.New(fault.Unavailable, "the server is reading what it knows of groups")
	}
	s.held.put(a.AgentID, a.Held, s.Clock())
	s.changes.Publish(nil)
	for _, g := range a.Wanted {
		s.hosts.expect(a.AgentID, g, s.inForce(g), s.Clock())
	}
	all, stamp, cut, err := s.all(ctx, a.AgentID)
	if err != nil {
		return link.BehaviourBrief{}, err
	}
	has := map[asset.Group]string{}
	for i := range a.Held {
		has[a.Held[i].Group] = a.Held[i].Stamp
	}
	b := link.BehaviourBrief{Stamp: stamp, Cut: cut}
	size := 0
	for i := range all {
		c := &all[i]
		had, knows := has[c.Group]
		delete(has, c.Group)
		if knows && had == c.Stamp || b.More {
			continue
		}
		if size += len(c.Packed); size > link.MaxBriefRules && len(b.Rules) > 0 {
			b.More = true
			continue
		}
		b.Rules = append(b.Rules, c.BriefRules)
	}
	for g := range has {
		b.Release = append(b.Release, g)
	}
	slices.Sort(b.Release)
	return b, nil
}

// tellAll tells agents when what they hold may be another, until ctx ends.
func (s *Service) tellAll(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	told, seen := map[string]string{}, s.Map.Changes()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.fleet.changed:
		case <-look.C:
			if s.Map.Changes() == seen {
				continue
			}
		}
		pace.Wait(ctx, s.Pace.Tell)
		began := time.Now()
		seen = s.Map.Changes()
		for _, agentID := range s.held.agents() {
			_, stamp, _, err := s.all(ctx, agentID)
			if err != nil {
				if ctx.Err() == nil {
					s.Log.Warn("an agent is not told what to hold", "agent_id", agentID, "error", err)
				}
				continue
			}
			if told[agentID] != stamp && s.Directions != nil {
				told[agentID] = stamp
				s.Directions.TellBehaviour(agentID, stamp)
			}
		}
		pace.Wait(ctx, restShare*time.Since(began))
	}
}

// held is what agents say they hold.
type held struct {
	mu sync.Mutex
	of map[string]holding
}

type holding struct {
	at   time.Time
	list []profile.Held
}

// maxAgents bounds the agents that are remembered, and forgetHeld is how long after
// they were heard last: they ask every minute.
const (
	maxAgents  = 10_000
	forgetHeld = 15 * time.Minute
)

func (h *held) init() { h.of = map[string]holding{} }

func (h *held) put(agentID string, list []profile.Held, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.of[agentID]; !known && len(h.of) >= maxAgents {
		for id, o := range h.of {
			if now.Sub(o.at) > forgetHeld {
				delete(h.of, id)
			}
		}
		if len(h.of) >= maxAgents {
			return
		}
	}
	h.of[agentID] = holding{now, list}
}

// one is what an agent said last of a group.
func (h *held) one(agentID string, g asset.Group) (profile.Held, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.of[agentID].list
	i := slices.IndexFunc(list, func(x profile.Held) bool { return x.Group == g })
	if i < 0 {
		return profile.Held{}, false
	}
	return list[i], true
}

func (h *held) agents() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]string, 0, len(h.of))
	for id := range h.of {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// HeldBy is what an agent holds a group to.
type HeldBy struct {
	AgentID string    `json:"agent_id"`
	At      time.Time `json:"at,omitzero"` // when it said so; zero when it did not: Error says why
	profile.Held
	// Current says that it holds the rules that the server has now.
	Current bool `json:"current"`
}

// by returns who holds a group, as of the last minutes.
func (h *held) by(g asset.Group, now time.Time) []HeldBy {
	out := []HeldBy{}
	h.each(now, func(agentID string, o *holding, x *profile.Held) {
		if x.Group == g {
			out = append(out, HeldBy{AgentID: agentID, At: o.at, Held: *x})
		}
	})
	return out
}

// each goes through what agents hold, as of the last minutes, in the order of their
// ids.
func (h *held) each(now time.Time, do func(agentID string, o *holding, x *profile.Held)) {
	for _, id := range h.agents() {
		h.mu.Lock()
		o, known := h.of[id]
		h.mu.Unlock()
		if !known || now.Sub(o.at) > forgetHeld {
			continue
		}
		for i := range o.list { // a list is replaced, never changed
			do(id, &o, &o.list[i])
		}
	}
}
