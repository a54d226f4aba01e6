package brief

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

const (
	// freshFor is how long facts are used without asking the server again while it
	// answers.
	freshFor = 2 * refreshEvery
	// momentFor is how long that holds of what is not known yet: a container is decided
	// on when it is made, and again when it starts.
	momentFor = 500 * time.Millisecond
	// askFor is how long a decision waits for the server.
	askFor = 2 * time.Second
	// silentFor is how long a server that did not answer is not asked again about what
	// is known here.
	silentFor = 15 * time.Second
	// maxImages bounds the images that are kept, and keepImages how long one is after
	// it was asked for last.
	maxImages  = 500
	keepImages = 7 * 24 * time.Hour
)

// image is what is known of one image.
type image struct {
	hash      string
	facts     admission.Facts // never changed: another image takes its place
	confirmed time.Time       // by the server
	used      time.Time
}

// key is how an image is kept.
func key(m link.AskedImage) link.AskedImage {
	m.Have = ""
	return m
}

// Facts returns what is known of images, in their order: what is kept, if the server
// confirmed it lately, else what it says now, else what it said last. Of what nobody
// knows it says so and why. It waits for the server for two seconds at most. Nobody
// changes what it returns.
func (k *Keeper) Facts(ctx context.Context, images []link.AskedImage) []*admission.Facts {
	var stale []link.AskedImage
	now := k.o.Clock()
	for _, m := range images {
		if !k.fresh(key(m), now) && !slices.Contains(stale, key(m)) {
			stale = append(stale, key(m))
		}
	}
	why := ""
	if len(stale) > 0 {
		timed, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		if err := k.ask(timed, stale, true); err != nil {
			k.mu.Lock()
			k.silent = now
			k.mu.Unlock()
			why = "the server does not tell what is known of it: " + err.Error()
		}
	}
	out := make([]*admission.Facts, 0, len(images))
	for _, m := range images {
		out = append(out, k.known(key(m), why, now))
	}
	return out
}

// fresh says that what is kept of an image need not be asked for.
func (k *Keeper) fresh(m link.AskedImage, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := k.images[m]
	if x == nil || x.hash == "" {
		return false
	}
	x.used = now
	if age := now.Sub(k.silent); age >= 0 && age < silentFor {
		return true // it did not answer just now: a decision must not wait again
	}
	holds := momentFor
	if x.facts.Scan.State == admission.Known && x.facts.Trust.State != admission.Waiting {
		holds = freshFor
	}
	return now.Sub(x.confirmed) < holds
}

// known returns what is kept of an image, or that nothing is.
func (k *Keeper) known(m link.AskedImage, why string, now time.Time) *admission.Facts {
	k.mu.Lock()
	defer k.mu.Unlock()
	if x := k.images[m]; x != nil && x.hash != "" {
		return &x.facts
	}
	why = cmp.Or(why, "the server has not told what is known of it")
	return &admission.Facts{
		Digest: cmp.Or(m.Digest, m.ID), At: now.UTC(),
		Scan: admission.Scan{Why: why}, Trust: admission.Trust{Why: why, Remedy: "let the agent reach the server"},
	}
}

// ask has the server say what is known of images; used says that somebody needs
// them now.
func (k *Keeper) ask(ctx context.Context, images []link.AskedImage, used bool) error {
	for len(images) > 0 {
		n := min(len(images), link.MaxAskedImages)
		ask := link.AdmissionAsk{AgentID: k.o.AgentID, Images: slices.Clone(images[:n])}
		k.mu.Lock()
		ask.Stamp = k.standing.Stamp
		for i := range ask.Images {
			if x := k.images[ask.Images[i]]; x != nil {
				ask.Images[i].Have = x.hash
			}
		}
		k.mu.Unlock()
		b, err := k.o.Server.Brief(ctx, ask)
		if err != nil {
			return err
		}
		if err := k.take(b); err != nil {
			return err
		}
		if len(b.Facts) == 0 || len(b.Facts) > n {
			return fault.New(fault.Invalid, "the server tells of %d images, and was asked about %d", len(b.Facts), n)
		}
		for i := range b.Facts {
			if err := k.learn(images[i], b.Facts[i], used); err != nil {
				return err
			}
		}
		images = images[len(b.Facts):]
	}
	return nil
}

// learn takes what the server said of one image, and writes it down if it is new.
func (k *Keeper) learn(m link.AskedImage, b link.BriefFacts, used bool) error {
	now := k.o.Clock()
	k.mu.Lock()
	x := k.images[m]
	if x != nil && b.Same && b.Hash == x.hash {
		x.confirmed = now
		k.mu.Unlock()
		return nil
	}
	k.mu.Unlock()
	if b.Same {
		return fault.New(fault.Invalid, "the server says that facts are as before which are not here")
	}
	f, _, err := link.UnpackFacts(b.Packed)
	if err != nil {
		return err
	}
	fresh := &image{hash: b.Hash, facts: f, confirmed: now, used: now}
	k.mu.Lock()
	if !used && x != nil {
		fresh.used = x.used
	}
	k.images[m] = fresh
	gone := k.trim(now)
	k.mu.Unlock()
	k.forget(gone)
	k.note(k.saveFacts(m, fresh, b.Packed))
	return nil
}

// trim takes out images that nobody asked for lately, or that there is no room for.
// k.mu is held.
func (k *Keeper) trim(now time.Time) (gone []link.AskedImage) {
	for m, x := range k.images {
		if now.Sub(x.used) > keepImages {
			gone = append(gone, m)
			delete(k.images, m)
		}
	}
	for len(k.images) > maxImages {
		var oldest link.AskedImage
		var at time.Time
		for m, x := range k.images {
			if at.IsZero() || x.used.Before(at) {
				oldest, at = m, x.used
			}
		}
		gone = append(gone, oldest)
		delete(k.images, oldest)
	}
	return gone
}

// refresh asks anew for what is kept and was not confirmed for a while.
func (k *Keeper) refresh(ctx context.Context) error {
	now := k.o.Clock()
	var old []link.AskedImage
	k.mu.Lock()
	gone := k.trim(now)
	for m, x := range k.images {
		if now.Sub(x.confirmed) >= refreshEvery/2 {
			old = append(old, m)
		}
	}
	k.mu.Unlock()
	k.forget(gone)
	return k.ask(ctx, old, false)
}
