package behaviour

import (
	"maps"
	"sync"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// maxProfiles bounds the profiles in memory: some hundred megabytes where all are
// large. Beyond, those are read again that are needed.
const maxProfiles = 2_000

// fleet is what is known of groups by those who are not the owner.
type fleet struct {
	mu       sync.RWMutex
	of       map[asset.Group]standing
	profiles map[asset.Group]*profile.Profile // the newest stored ones

	changed chan struct{} // one token when rules may be others
}

// standing is what a group is held to.
type standing struct {
	mode     profile.Mode // that hosts hold it to
	answers  map[profile.Control]profile.Answer
	revision int64
}

func (s standing) same(o standing) bool {
	return s.mode == o.mode && s.revision == o.revision && maps.Equal(s.answers, o.answers)
}

func (f *fleet) init() {
	f.of, f.profiles, f.changed = map[asset.Group]standing{}, map[asset.Group]*profile.Profile{}, make(chan struct{}, 1)
}

// put takes over where a group stands.
func (f *fleet) put(g *group) {
	s := standing{stateOf(g).Effective(), maps.Clone(g.Answers), g.Revision}
	f.mu.Lock()
	was, known := f.of[g.Group]
	f.of[g.Group] = s
	f.mu.Unlock()
	if !known || !was.same(s) {
		f.nudge()
	}
}

func (f *fleet) drop(g asset.Group) {
	f.mu.Lock()
	delete(f.of, g)
	delete(f.profiles, g)
	f.mu.Unlock()
	f.nudge()
}

// nudge has the agents told of what may have changed.
func (f *fleet) nudge() {
	select {
	case f.changed <- struct{}{}:
	default: // a token waits already
	}
}

// standing returns where a group stands; one that nobody knows discovers.
func (f *fleet) standing(g asset.Group) standing {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.of[g]
}

// profile returns a revision of a group's profile if it is in memory.
func (f *fleet) profile(g asset.Group, revision int64) *profile.Profile {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if p := f.profiles[g]; p != nil && p.Revision == revision {
		return p
	}
	return nil
}

// keep keeps the newest profile of a group, which nobody changes any more.
func (f *fleet) keep(g asset.Group, p *profile.Profile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.profiles[g]; have == nil && len(f.profiles) >= maxProfiles {
		clear(f.profiles)
	} else if have != nil && have.Revision > p.Revision {
		return
	}
	f.profiles[g] = p
}
