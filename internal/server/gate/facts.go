package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// Limits of what is remembered.
const (
	// maxImages and maxRemembered bound the images whose facts are remembered, and
	// the size of those as JSON; in memory they are about twice that.
	maxImages     = 4_096
	maxRemembered = 128 << 20
	// looksFor is how long facts stand without a look at whether anything of them
	// has changed, should no change have been told.
	looksFor = 5 * time.Second
)

// image is how an image is asked for.
type image struct {
	repository string // full name, as the trust policy writes it; "" if it is not known
	digest     string // of a manifest or an index; "" if it is not known
	id         string // the engine's
}

// imageOf is how an image of a request is asked for. Only of an engine's own agent,
// who speaks for its own host, the engine's id is what is there; others could name
// the id of a good image beside the digest of a bad one.
func imageOf(m *admission.Image, engine bool) image {
	n := named(m.Registry, m.Repository, m.Digest, m.ID)
	if n.digest != "" && !engine {
		n.id = ""
	}
	return n
}

func named(registry, repository, digest, id string) image {
	var n image
	if inventory.CheckDigest(digest) == nil {
		n.digest = digest
	}
	if inventory.CheckDigest(id) == nil {
		n.id = id
	}
	if repository != "" {
		if registry != "" {
			repository = registry + "/" + repository
		}
		if full, err := trust.Repository(asset.Repository(repository)); err == nil {
			n.repository = full
		}
	}
	return n
}

// facts are what is known of images, as it was gathered last.
type facts struct {
	generation atomic.Uint64 // another one when something may have changed

	mu   sync.Mutex
	of   map[image]*known
	size int // of all, as JSON
}

func (f *facts) init() { f.of = map[image]*known{} }

// known is what is known of one image.
type known struct {
	mu         sync.Mutex // held while it is gathered
	stamp      string     // of what it was gathered from
	generation uint64
	looked     time.Time
	facts      *admission.Facts // never changed, but replaced
	packed     store.AdmissionFacts
	agent      string // by whose word it is trusted or not
	held       *held
	size       int // as facts.size counts it; guarded by facts.mu

	used atomic.Int64 // when it was last asked for
}

// at returns the entry of an image, and makes room for it.
func (f *facts) at(n image, now time.Time) *known {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.of[n]
	if k == nil {
		for len(f.of) >= maxImages || f.size > maxRemembered && len(f.of) > 0 {
			f.dropOldest()
		}
		k = &known{}
		f.of[n] = k
	}
	k.used.Store(now.UnixNano())
	return k
}

// dropOldest forgets the image that was not asked for the longest.
func (f *facts) dropOldest() {
	var oldest image
	least := int64(0)
	for n, k := range f.of {
		if at := k.used.Load(); least == 0 || at < least {
			oldest, least = n, at
		}
	}
	f.size -= f.of[oldest].size
	delete(f.of, oldest)
}

// fit notes the size of what is known of an image.
func (f *facts) fit(n image, k *known, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of[n] == k {
		f.size += size - k.size
		k.size = size
	}
}

// gathered is what is known of an image, for one use: nothing of it changes.
type gathered struct {
	image  image
	facts  *admission.Facts
	packed store.AdmissionFacts
	agent  string // by whose word it is trusted or not
	held   *held  // where a registry holds it; nil: nowhere
}

// gather returns what is known of an image now.
func (s *Service) gather(ctx context.Context, n image) (gathered, error) {
	now := s.Clock()
	k := s.facts.at(n, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	generation := s.facts.generation.Load()
	if k.stamp == "" || k.generation != generation || now.Sub(k.looked) >= looksFor || now.Before(k.looked) {
		if err := s.renew(ctx, n, k, now); err != nil {
			return gathered{}, err
		}
		k.generation, k.looked = generation, now
	}
	return gathered{n, k.facts, k.packed, k.agent, k.held}, nil
}

// renew gathers what is known of an image, unless all is as it was.
func (s *Service) renew(ctx context.Context, n image, k *known, now time.Time) error {
	src, err := s.sources(ctx, n, now)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", cmp.Or(n.digest, n.id), err)
	}
	stamp := src.stamp()
	if stamp == k.stamp {
		return nil
	}
	f, err := s.read(ctx, n, &src, now)
	if err != nil {
		return fmt.Errorf("gather what is known of image %s: %w", cmp.Or(n.digest, n.id), err)
	}
	packed, err := store.NewAdmissionFacts(&f)
	if err != nil {
		return err
	}
	s.facts.fit(n, k, len(packed.JSON))
	k.facts, k.packed, k.stamp, k.agent, k.held = &f, packed, stamp, src.trust.Agent, src.held
	return nil
}

// sources are what facts are gathered from.
type sources struct {
	images  []store.Image         // that the digest means
	entries []store.RegistryImage // where registries hold it
	other   bool                  // registries hold it for other platforms alone
	policy  string                // digest of the trust policy; "" for none
	trust   store.TrustImage
	vouched bool // trust is set
	overdue bool // it holds no longer
	newest  time.Time
	sought  sought
	// held is where a registry holds it, if what registries hold is verified.
	held *held
	ends bool // its distribution has come to its end
}

// stamp is another one when the facts may be.
func (o *sources) stamp() string {
	b := fmt.Appendf(nil, "%v %s %v %d %v", o.other, o.policy, o.newest.UnixNano(), o.sought, o.ends)
	for i := range o.images {
		m := &o.images[i]
		b = fmt.Appendf(b, "\n%s %s %d %d %s %s %q %s", m.ID, m.Scan.State, m.Scan.Done.UnixNano(), m.Scan.Matched.UnixNano(), m.Scan.Database, m.Owner, m.Scan.Error, m.OS.ID)
	}
	for i := range o.entries {
		e := &o.entries[i]
		b = fmt.Appendf(b, "\n%d %s %d %q", e.ID, e.State, len(e.Platforms), e.Error)
	}
	if o.vouched {
		t := &o.trust
		b = fmt.Appendf(b, "\n%s %s %d %d %v %s %q", t.State, t.Policy, t.Checked.UnixNano(), t.Next.UnixNano(), o.overdue, t.Agent, t.Reason)
	}
	return string(b)
}

// sources looks up what there is.
func (s *Service) sources(ctx context.Context, n image, now time.Time) (o sources, err error) {
	if err := s.findImages(ctx, n, &o); err != nil {
		return o, err
	}
	if len(o.images) == 0 && len(o.entries) == 0 {
		o.sought = s.seek(n, now)
	}
	if s.Want != nil {
		o.held = heldBy(n, o.entries)
	}
	generation, newest := s.Advisories()
	for i := range o.images {
		o.ends = o.ends || scan.Unmaintained(o.images[i].OS, now) != nil
		if o.images[i].Scan.Database == generation {
			o.newest = newest
		}
	}
	policies, err := s.Store.TrustPolicies(ctx, 0, 1)
	if err != nil {
		return o, fmt.Errorf("read the trust policy: %w", err)
	}
	if len(policies) == 0 {
		return o, nil
	}
	o.policy = policies[0].Digest
	return o, s.findTrust(ctx, n, &o, now)
}

// findImages finds the images that are meant. An id is of one image, whatever else
// it is called. What a registry holds under a digest is the registry's word; what
// engines call so is that of agents, and counts only where no registry knows.
func (s *Service) findImages(ctx context.Context, n image, o *sources) error {
	told, entries, err := s.Store.ImagesNamed(ctx, cmp.Or(n.digest, n.id))
	if err != nil {
		return err
	}
	o.entries = entries
	ids := map[string]bool{}
	for i := range entries {
		for _, p := range entries[i].Platforms {
			ids[p.ImageID] = true
		}
	}
	switch {
	case n.id != "":
		// An image of another platform than is scanned where it is held, too.
		o.other = len(ids) > 0 && !ids[n.id]
		clear(ids)
		ids[n.id] = true
	case len(ids) == 0:
		o.images = told
	}
	for id := range ids {
		m, err := s.Store.Image(ctx, id)
		if fault.Is(err, fault.NotFound) && id == n.id {
			continue
		}
		if err != nil {
			return err
		}
		o.images = append(o.images, m)
	}
	slices.SortFunc(o.images, func(a, b store.Image) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}
