package registries

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// choose marks the images of a listing that the registry's rules leave out. The
// rules go by when an image was pushed or, where the registry does not tell, by
// when it was built, which is looked up once for each image. Of which that could
// not be looked up is taken out of the listing, and the error says why: what it
// would be taken for, new or old, would be wrong.
func (s *Service) choose(ctx context.Context, r asset.Registry, l *store.Listing) error {
	if r.Keep == 0 && r.MaxAge == 0 {
		return nil
	}
	err := s.date(ctx, r, l)
	leave(l.Images, r, l.At)
	return err
}

// date fills in when images were built of which it is not known when they were
// pushed, and leaves those in the listing of which it is known then.
func (s *Service) date(ctx context.Context, r asset.Registry, l *store.Listing) error {
	if !slices.ContainsFunc(l.Images, func(m store.ListedImage) bool { return m.Pushed.IsZero() }) {
		return nil
	}
	known, err := s.st.RegistryTimes(ctx, r.Name, l.Repository)
	if err != nil {
		l.Images = nil
		return err
	}
	wanted, err := s.platforms(ctx, r)
	if err != nil {
		l.Images = nil
		return err
	}
	inARow, undatable := 0, 0
	var first error
	l.Images = slices.DeleteFunc(l.Images, func(m store.ListedImage) bool {
		if !m.Pushed.IsZero() || !known[m.Digest].IsZero() {
			return false
		}
		known[m.Digest] = time.Time{}
		if inARow < giveUpAfter && ctx.Err() == nil {
			at, err := s.built(ctx, r, l.Repository, m.Digest, wanted)
			if err == nil {
				inARow, known[m.Digest] = 0, at
				return false
			}
			if inARow++; ofEach(err) {
				inARow = giveUpAfter // the next would fail alike
			}
			first = cmp.Or(first, err)
		}
		undatable++
		return true
	})
	for i := range l.Images {
		if m := &l.Images[i]; m.Pushed.IsZero() {
			m.Created = known[m.Digest]
		}
	}
	if first != nil {
		return fmt.Errorf("look up when %d images were built: %w", undatable, first)
	}
	return nil
}

// ofEach reports whether every image of a repository would meet an error.
func ofEach(err error) bool {
	return fault.Is(err, fault.Exhausted) || fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated)
}

// built looks up when an image was built; zero when nothing here can. Of what is no
// image, gone meanwhile or broken, nothing is known: the scan says which.
func (s *Service) built(ctx context.Context, r asset.Registry, repository, digest string, wanted []inventory.Platform) (at time.Time, err error) {
	if s.doors.Images == nil {
		return at, nil
	}
	found, err := s.doors.Images.Resolve(ctx, r, repository, digest, wanted)
	switch fault.Of(err) {
	case fault.Unsupported, fault.NotFound, fault.Invalid, fault.Corrupt:
		return at, nil
	}
	if err != nil {
		return at, err
	}
	for _, f := range found {
		at = later(at, f.Created)
	}
	if at.Before(firstImages()) {
		at = undated() // so that it is not looked up again
	}
	return at, nil
}

// leave marks images that are too old, or of which there are enough newer ones.
// Of which nobody knows the age counts as new: rather one scan too many. So does
// what says that it was made in the future.
func leave(images []store.ListedImage, r asset.Registry, now time.Time) {
	order := make([]int, len(images))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return age(&images[a], now).Compare(age(&images[b], now)) * -1 })
	for rank, i := range order {
		old := r.MaxAge > 0 && now.Sub(age(&images[i], now)) > r.MaxAge
		images[i].Left = old || r.Keep > 0 && rank >= r.Keep
	}
}

// age returns the time from which an image counts.
func age(m *store.ListedImage, now time.Time) time.Time {
	at := m.Pushed
	if at.IsZero() {
		at = m.Created
	}
	if at.Before(firstImages()) || at.After(now) {
		return now
	}
	return at
}

// firstImages is before there were any: what says that it is older was built so
// that its date says nothing.
func firstImages() time.Time { return time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC) }

// undated is kept as the date of an image that has none.
func undated() time.Time { return time.Unix(1, 0).UTC() }
