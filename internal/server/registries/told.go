package registries

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// tokenPrefix lets people and scanners for secrets recognise a webhook's token.
const tokenPrefix = "csw_"

// newToken returns a webhook's token and what is kept of it. It is 256 random
// bits, so that a slow hash adds nothing.
func newToken() (token string, hash []byte) {
	token = tokenPrefix + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, sum[:]
}

// Admit returns whether a token is that of a registry's webhook: Unauthenticated
// when it is not, whether or not there is such a registry. It costs little, so that
// it may be asked before anything is read of who shows the token.
func (s *Service) Admit(ctx context.Context, name, token string) error {
	s.mu.Lock()
	var hash []byte
	p, loaded := s.plans[name], s.loaded
	if p != nil {
		hash = p.hook
	}
	s.mu.Unlock()
	if p == nil && !loaded {
		r, err := s.st.Registry(ctx, name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("read registry: %w", err)
		}
		hash = r.Webhook
	}
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], hash) != 1 {
		return fault.New(fault.Unauthenticated, "the token is not that of this registry's webhook").
			With("make a new one: castellan registries edit NAME --webhook")
	}
	return nil
}

// Hook takes what a registry sends to its webhook, and returns how many
// repositories are listed anew because of it. It is believed only so far: what
// it names is listed, not taken for true. Unauthenticated as of Admit.
func (s *Service) Hook(ctx context.Context, name, token string, body []byte, contentType string) (int, error) {
	if err := s.Admit(ctx, name, token); err != nil {
		return 0, err
	}
	if s.doors.Webhook == nil {
		return 0, fault.New(fault.Unsupported, "this server reads no webhooks")
	}
	changes, err := s.doors.Webhook(body, contentType)
	if err != nil {
		return 0, fmt.Errorf("read what the registry sent: %w", err)
	}
	return s.tell(name, changes), nil
}

// Seek has a repository listed soon, and what is new in it scanned, and reports
// whether a registry that is watched would have it.
func (s *Service) Seek(host, repository string) bool {
	s.mu.Lock()
	var names []string
	for name, p := range s.plans {
		if p.r.Host == host && watches(p.r, repository) {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	for _, name := range names {
		s.tell(name, []asset.RegistryChange{{Host: host, Repository: repository}})
	}
	return len(names) > 0
}

// tell notes what a registry told of itself, and returns how many repositories
// are listed anew.
func (s *Service) tell(name string, changes []asset.RegistryChange) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.plans[name]
	if p == nil {
		return 0
	}
	now := s.clock()
	seen := map[string]bool{}
	for _, c := range changes {
		if c.Repository == "" || seen[c.Repository] || !watches(p.r, c.Repository) {
			continue
		}
		seen[c.Repository] = true
		if c.Tag != "" && !c.Deleted && !chooses(p.r.Tags, c.Tag) {
			delete(seen, c.Repository) // another change of it may be wanted
			continue
		}
		p.tell(c.Repository, now)
	}
	if len(seen) > 0 {
		s.nudge()
	}
	return len(seen)
}

// watches reports whether a repository is meant by the configuration.
func watches(r asset.Registry, repository string) bool {
	if !asset.IsRepository(repository) {
		return false
	}
	return slices.Contains(r.Named, repository) || chooses(r.Repositories, repository)
}

// tell has a repository listed once it is quiet, or after a while.
func (p *plan) tell(repository string, now time.Time) {
	t, known := p.told[repository]
	if !known || t.again {
		if !known && len(p.told) >= maxTold {
			p.force = true
			clear(p.told)
			return
		}
		t = told{first: now}
	}
	t.at = earlier(now.Add(settle), t.first.Add(settleAtMost))
	p.told[repository] = t
}

// tellAgain has repositories listed by themselves that could not be, at their
// times. One that there is no room for waits for the next look at all.
func (p *plan) tellAgain(repositories map[string]time.Time) {
	for name, at := range repositories {
		if _, known := p.told[name]; !known && !p.force && len(p.told) < maxTold {
			p.told[name] = told{first: at, at: at, again: true}
		}
	}
}

// Held returns which repositories of a registry nothing is to be read of now,
// because it refuses; of a registry that is not watched all.
func (s *Service) Held(r asset.Registry) func(repository string) bool {
	s.mu.Lock()
	p := s.plans[r.Name]
	s.mu.Unlock()
	if p == nil {
		return func(string) bool { return true }
	}
	held, _ := s.holds.held(r.Name, p.r.Host, s.clock(), nil)
	of := map[string]bool{}
	for _, h := range held {
		of[h.Repository] = true
	}
	return func(repository string) bool { return of[""] || of[repository] }
}
