package verify

import (
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// maxWanted bounds the images that are verified out of turn, and wantedFor how
	// long each is: what is held is then known as such anyway.
	maxWanted = 500
	wantedFor = 10 * time.Minute
)

// wanted is an image that somebody waits for.
type wanted struct {
	registry, repository string // as the registry calls it
	at                   time.Time
	told                 bool // it is among what registries hold
}

// Want has an image that a registry holds verified before its turn comes, whether or
// not it was scanned yet, and reports whether it will be: not where nothing of
// registries is verified, and not while as many as are taken wait already.
func (s *Service) Want(registry, repository string, n store.TrustName) bool {
	if s.Own == nil {
		return false
	}
	now := s.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.wanted[n]; !ok && len(s.wanted) >= maxWanted {
		for k, w := range s.wanted {
			if now.Sub(w.at) > wantedFor {
				delete(s.wanted, k)
			}
		}
		if len(s.wanted) >= maxWanted {
			return false
		}
	}
	s.wanted[n] = wanted{registry: registry, repository: repository, at: now}
	s.addWanted(now)
	nudge(s.wake)
	if s.behind {
		nudge(s.own)
	}
	return true
}

// addWanted puts what somebody waits for first among what registries hold. Who asks
// names a place, which counts if it is of that registry. It is called with mu held,
// and changes no list that others may have.
func (s *Service) addWanted(now time.Time) {
	all := slices.Clone(s.held)
	for n, w := range s.wanted {
		if now.Sub(w.at) > wantedFor {
			delete(s.wanted, n)
			continue
		}
		i := slices.IndexFunc(all, func(x watched) bool { return x.registry.Name == w.registry })
		if i < 0 {
			s.behind = true // its registry is new
			continue
		}
		full, err := trust.Repository(all[i].registry.Host + "/" + w.repository)
		if err != nil || full != n.Repository {
			continue
		}
		if !w.told {
			w.told, s.unseen = true, true
			s.wanted[n] = w
		}
		if !slices.Contains(all[i].names, n) {
			all[i].names = append([]store.TrustName{n}, all[i].names...)
			all[i].inside = append([]string{w.repository}, all[i].inside...)
		}
	}
	s.held = all
}

// isBehind says whether something is wanted of a registry that was not listed yet.
func (s *Service) isBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind
}

// takeUnseen says whether something is wanted that was not noted yet.
func (s *Service) takeUnseen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.unseen
	s.unseen = false
	return was
}

// amongWanted returns those of some images that somebody waits for.
func (s *Service) amongWanted(all []store.TrustName) []store.TrustName {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.TrustName
	for _, n := range all {
		if _, ok := s.wanted[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

// unwant says that nobody waits for an image any more.
func (s *Service) unwant(n store.TrustName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wanted, n)
}
