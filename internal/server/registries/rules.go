package registries

import (
	"context"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// choose marks the images of a listing that the registry's rules leave out. The
// rules go by when an image was pushed or, where the registry does not tell, by
// when it was built, which is looked up once for each image.
func (s *Service) choose(ctx context.Context, r asset.Registry, l *store.Listing) error {
	if r.Keep == 0 && r.MaxAge == 0 {
		return nil
	}
	if err := s.date(ctx, r, l); err != nil {
		return err
	}
	leave(l.Images, r, l.At)
	return nil
}

// date fills in when images were built of which it is not known when they were
// pushed.
func (s *Service) date(ctx context.Context, r asset.Registry, l *store.Listing) error {
	if !slices.ContainsFunc(l.Images, func(m store.ListedImage) bool { return m.Pushed.IsZero() }) {
		return nil
	}
	known, err := s.st.RegistryTimes(ctx, r.Name, l.Repository)
	if err != nil {
		return err
	}
	wanted, err := s.platforms(ctx, r)
	if err != nil {
		return err
	}
	for i := range l.Images {
		m := &l.Images[i]
		if !m.Pushed.IsZero() {
			continue
		}
		if m.Created = known[m.Digest]; !m.Created.IsZero() || s.doors.Images == nil {
			continue
		}
		found, err := s.doors.Images.Resolve(ctx, r, l.Repository, m.Digest, wanted)
		switch fault.Of(err) {
		case fault.Unsupported, fault.NotFound, fault.Invalid, fault.Corrupt:
			continue // no image, gone meanwhile, or broken: the scan says which
		}
		if err != nil {
			return err
		}
		for _, f := range found {
			m.Created = later(m.Created, f.Created)
		}
		if m.Created.Before(firstImages()) {
			m.Created = undated() // so that it is not looked up again
		}
	}
	return nil
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
