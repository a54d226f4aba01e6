package gate

import (
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// wantAgain is how long an image is not asked to be verified again.
	wantAgain = time.Minute
	// wantsEach is how many images one requester may have verified in a wantPeriod:
	// a deployment of some services at once. What exceeds it has its turn when the
	// registry's images are verified anyway.
	wantsEach  = 60
	wantPeriod = time.Minute
	// maxWants bounds the images and requesters that are remembered.
	maxWants = 10_000
)

// wants are the images that were asked to be verified for a decision.
type wants struct {
	mu    sync.Mutex
	last  map[image]time.Time
	spent map[string]spent // by requester
}

// spent is what a requester has asked for in a period.
type spent struct {
	from time.Time
	n    int
}

// admit says whether an image is to be asked for now, for a requester.
func (w *wants) admit(actor string, n image, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.last[n]; ok && now.Sub(at) < wantAgain && !now.Before(at) {
		return false
	}
	of := w.spent[actor]
	if now.Sub(of.from) >= wantPeriod || now.Before(of.from) {
		of = spent{from: now}
	}
	if of.n++; of.n > wantsEach {
		return false
	}
	if len(w.last) >= maxWants {
		clear(w.last)
	}
	if len(w.spent) >= maxWants {
		clear(w.spent)
	}
	w.last[n], w.spent[actor] = now, of
	return true
}

// want has what waits to be verified for a decision verified soon.
func (s *Service) want(actor string, known []gathered, now time.Time) {
	if s.Want == nil {
		return
	}
	for i := range known {
		g := &known[i]
		if g.held == nil || g.facts.Trust.State != admission.Waiting || !s.wants.admit(actor, g.image, now) {
			continue
		}
		if !s.Want(g.held.registry, g.held.repository, store.TrustName{Repository: g.image.repository, Digest: g.image.digest}) {
			s.Log.Info("image not verified out of turn: enough wait already", "repository", g.image.repository, "digest", g.image.digest)
		}
	}
}

// held is where a registry that is watched holds an image.
type held struct{ registry, repository string }

// heldBy returns the first place where a registry holds an image of that name, nil
// if none does.
func heldBy(n image, entries []store.RegistryImage) *held {
	for i := range entries {
		e := &entries[i]
		switch e.State {
		case store.RegistryGone, store.RegistryLeft, store.RegistrySkipped:
			continue
		}
		if strings.HasSuffix(n.repository, "/"+e.Repository) {
			return &held{e.Registry, e.Repository}
		}
	}
	return nil
}
