package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// Server is the agent of verdicts that this server has come to itself.
	Server = "server"
	// listEvery is how often is looked what registries hold.
	listEvery = 5 * time.Minute
	// listAgain is how soon at most that is looked for again because somebody waits.
	listAgain = 5 * time.Second
	// maxWatched bounds the images of one registry that are verified, the newest, and
	// maxWatchedAll those of all: each costs its registry some five requests a day.
	maxWatched    = 5_000
	maxWatchedAll = 20_000
	// turnOf is how many images of one registry are verified before it is the next
	// one's turn.
	turnOf = 20
	// watchedKept is how long a verdict on an image is kept that runs nowhere: when it
	// begins to run it is verified anew.
	watchedKept = 24 * time.Hour
	// maxOff bounds how long nothing is verified of a registry that refuses.
	maxOff = 2 * time.Hour
)

// partWatched is the condition of the verification of registries' images.
const partWatched = PartTrust + " registries"

// Own verifies images of registries that this server watches.
type Own interface {
	// VerifyImage is agent.Verifier for an image of a registry, by its settings. An
	// error that is the registry's, and not the image's, is a *Refused.
	VerifyImage(ctx context.Context, r asset.Registry, w link.VerifyWish) ([]byte, error)
}

// Refused says that a registry does not let its images be read: it is away, asked
// too much, or does not let us in.
type Refused struct{ Err error }

// Error is the cause's.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Err }

// watched is what a registry holds.
type watched struct {
	registry asset.Registry
	names    []store.TrustName
	inside   []string // the repositories of names, as the registry calls them
}

// place is a registry that is watched, by its name, or one of its repositories.
type place struct{ registry, repository string }

// offs are the places of which nothing is verified for a while because they
// refused.
type offs map[place]struct {
	until time.Time
	tries int
}

func (o offs) off(at place, now time.Time) bool { return now.Before(o[at].until) }

// extend leaves a place alone, for longer each time.
func (o offs) extend(at place, now time.Time) {
	k := o[at]
	pause := firstPause
	for range min(k.tries, 8) {
		pause = min(pause*pauseGrows, maxOff)
	}
	k.until, k.tries = now.Add(pause), k.tries+1
	o[at] = k
}

// verifyWatched keeps what registries hold verified until ctx ends.
func (s *Service) verifyWatched(ctx context.Context) {
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	offs := offs{}
	var listed time.Time
	for ctx.Err() == nil {
		n := 0
		var err error
		if now := s.Clock(); now.Sub(listed) >= min(listEvery, s.Every*6) || s.isBehind() && now.Sub(listed) >= min(listAgain, s.Every/2) {
			if err = s.list(ctx); err == nil {
				listed = now
			}
		}
		if err == nil {
			n, err = s.verifyRegistries(ctx, offs)
		}
		if ctx.Err() != nil {
			return
		}
		s.Condition(ctx, partWatched, err)
		if n > 0 && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.own:
		case <-tick.C:
		}
	}
}

// list finds out what registries hold: images that were found to be some, as
// scans do.
func (s *Service) list(ctx context.Context) error {
	registries, err := s.Store.Registries(ctx)
	if err != nil {
		return fmt.Errorf("list registries: %w", err)
	}
	var all []watched
	room := maxWatchedAll
	for i := range registries {
		w := watched{registry: registries[i].Registry}
		if err := s.listOne(ctx, &w, min(room, maxWatched)); err != nil {
			return fmt.Errorf("list images of registry %s: %w", w.registry.Name, err)
		}
		room -= len(w.names)
		all = append(all, w)
	}
	s.mu.Lock()
	s.held, s.behind = all, false
	if s.addWanted(s.Clock()); s.unseen {
		nudge(s.wake)
	}
	s.behind = false // what is wanted of a registry that there is not is none of ours
	s.mu.Unlock()
	return nil
}

func (s *Service) listOne(ctx context.Context, w *watched, most int) error {
	q := store.RegistryImageQuery{Registry: w.registry.Name, Limit: store.MaxPage}
	for len(w.names) < most {
		page, err := s.Store.RegistryImages(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			e := &page[i]
			if e.State == store.RegistryGone || e.State == store.RegistryLeft {
				return nil // what is there comes first
			}
			repository, err := trust.Repository(w.registry.Host + "/" + e.Repository)
			if err != nil || len(e.Platforms) == 0 || e.State == store.RegistrySkipped || len(w.names) == most {
				continue // no image, or nobody knows yet
			}
			w.names = append(w.names, store.TrustName{Repository: repository, Digest: e.Digest})
			w.inside = append(w.inside, e.Repository)
		}
		if len(page) < store.MaxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
	return nil
}

// addWatched takes up what registries hold and does not run.
func (s *Service) addWatched(seen map[name]*store.TrustSeen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.held {
		for _, n := range w.names {
			if at := (name{n.Repository, n.Digest}); seen[at] == nil {
				seen[at] = &store.TrustSeen{Repository: n.Repository, Digest: n.Digest}
			}
		}
	}
}

// verifyRegistries verifies a few images of each registry that are due, and
// returns how many. What registries refuse is no error.
func (s *Service) verifyRegistries(ctx context.Context, offs offs) (n int, err error) {
	s.mu.Lock()
	all := s.held
	s.mu.Unlock()
	for i := range all {
		if offs.off(place{registry: all[i].registry.Name}, s.Clock()) {
			continue
		}
		done, err := s.verifyRegistry(ctx, &all[i], offs)
		n += done
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// verifyRegistry has its turn, which ends when the registry does not let itself be
// read.
func (s *Service) verifyRegistry(ctx context.Context, w *watched, offs offs) (n int, err error) {
	var free []store.TrustName
	inside := map[store.TrustName]place{}
	held := s.Held(w.registry)
	for i, at := range w.names {
		if p := (place{w.registry.Name, w.inside[i]}); !held(p.repository) && !offs.off(p, s.Clock()) {
			free = append(free, at)
			inside[at] = p
		}
	}
	due, err := s.due(ctx, free)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	p, err := s.Store.TrustPolicy(ctx, 0)
	if fault.Is(err, fault.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the trust policy: %w", err)
	}
	whole := place{registry: w.registry.Name}
	for i := range due {
		at := inside[due[i].TrustName]
		if offs.off(at, s.Clock()) {
			continue // since another one of it was tried
		}
		refused, err := s.verifyOwn(ctx, w.registry, &due[i], p)
		switch {
		case err != nil || ctx.Err() != nil:
			return n, err
		case refused == nil:
			s.unwant(due[i].TrustName)
			delete(offs, whole)
			delete(offs, at)
			n++
		case fault.Is(refused, fault.Denied) || fault.Is(refused, fault.Unauthenticated):
			offs.extend(at, s.Clock()) // rights differ between repositories
		default:
			offs.extend(whole, s.Clock())
			return n, nil
		}
	}
	return n, nil
}

// due returns what is due of a registry's images: what somebody waits for, or else
// what is due the longest.
func (s *Service) due(ctx context.Context, all []store.TrustName) ([]store.TrustDue, error) {
	if first := s.amongWanted(all); len(first) > 0 {
		due, err := s.Store.DueTrustWatched(ctx, s.Clock(), first, turnOf)
		if err != nil || len(due) > 0 {
			return due, err
		}
	}
	return s.Store.DueTrustWatched(ctx, s.Clock(), all, turnOf)
}

// verifyOwn verifies one image and keeps the verdict. Refused is why the registry
// does not let it be read, nil if it does.
func (s *Service) verifyOwn(ctx context.Context, r asset.Registry, v *store.TrustDue, p store.TrustPolicy) (refused *Refused, err error) {
	l := lease{job: Server, repository: v.Repository, digest: v.Digest, policy: p.Digest, tries: v.Tries}
	within, cancel := context.WithTimeout(ctx, leaseFor)
	defer cancel()
	b, failed := s.Own.VerifyImage(within, r, link.VerifyWish{
		Job: l.job, Repository: l.repository, Digest: l.digest, Policy: []byte(p.Text), PolicyDigest: l.policy, Until: s.Clock().Add(leaseFor),
	})
	if ctx.Err() != nil {
		return nil, nil
	}
	now := s.Clock()
	var out store.TrustVerdict
	if failed == nil {
		out, failed = read(link.Verified{Verdict: b}, l, now)
	}
	switch {
	case failed != nil:
		out = undecided(l, failed.Error(), fault.Remedy(failed), now)
		errors.As(failed, &refused)
	case out.State == store.TrustAllowed:
		out.Next = now.Add(watchedKept)
	default:
		// Soon after it was pushed it may be signed; later on nobody waits for that.
		out.Next = now.Add(min(max(now.Sub(v.Seen), denialKept), watchedKept))
	}
	out.Agent = Server
	err = s.Store.PutTrustVerdict(ctx, out)
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		return refused, nil // the policy or the image is another
	}
	if err != nil {
		return refused, fmt.Errorf("keep the verdict of %s@%s: %w", l.repository, l.digest, err)
	}
	s.Log.Debug("image of a registry verified", "registry", r.Name, "repository", l.repository, "digest", l.digest, "state", out.State, "reason", out.Reason)
	return refused, nil
}
