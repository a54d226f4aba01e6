package behaviour

import (
	"context"
	"iter"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// rehearseFor is how long a rehearsal takes at most, before the client gives up,
	// and MaxRehearsed how many events it looks at.
	rehearseFor  = 20 * time.Second
	MaxRehearsed = 1_000_000
	// rehearseBack is how far it looks back unless it is said.
	rehearseBack = 7 * 24 * time.Hour
)

// Rehearse says what is to be rehearsed.
type Rehearse struct {
	Group asset.Group
	// Text is the profile that would protect; empty: that of the group as it is now.
	Text  string
	Since time.Time // zero: a week ago
}

// Rehearsed is what a rehearsal came to.
type Rehearsed struct {
	watch.Rehearsal
	// Cut says that there were more events than it looked at: the newest were.
	Cut bool `json:"cut,omitempty"`
}

// Rehearse holds the stored events of a group against its profile as if it had been
// protected: what would have been blocked, and would that have been wrong? One runs at
// a time: Exhausted while another does. It needs access.ReadBehaviour.
func (s *Service) Rehearse(ctx context.Context, who access.Identity, r Rehearse) (out Rehearsed, err error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return out, err
	}
	var p *profile.Profile
	var answers map[profile.Control]profile.Answer
	err = s.with(ctx, func(ctx context.Context, k *keeper) error {
		g, err := k.known(r.Group)
		if err != nil {
			return err
		}
		answers = map[profile.Control]profile.Answer{}
		for _, c := range profile.Controls() {
			answers[c] = watch.Answer(profile.Protect, g.Answers[c])
		}
		p, err = k.current(ctx, g)
		return err
	})
	if err != nil {
		return out, err
	}
	if r.Text != "" {
		d, problems := readProfile(r.Text)
		if len(problems) > 0 {
			return out, written.Refused(problems)
		}
		p = watch.Import(p, d.Profile)
		p.Group = r.Group
	}
	select {
	case s.replay <- struct{}{}:
		defer func() { <-s.replay }()
	default:
		return out, fault.New(fault.Exhausted, "another rehearsal is under way").With("try again in some seconds")
	}
	if r.Since.IsZero() {
		r.Since = s.Clock().Add(-rehearseBack)
	}
	out.Rehearsal, err = watch.Rehearse(p, s.recorded(ctx, r, &out.Cut), watch.RehearseOptions{Answers: answers})
	return out, err
}

// recorded are the events of a group, the newest first.
func (s *Service) recorded(ctx context.Context, r Rehearse, cut *bool) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		q := store.EventQuery{Group: string(r.Group), Since: r.Since, Limit: store.MaxPage}
		end := time.Now().Add(rehearseFor)
		for n := 0; ; {
			page, err := s.Store.Events(ctx, q)
			if err != nil {
				yield(event.Event{}, err)
				return
			}
			for i := range page.Events {
				if !yield(page.Events[i], nil) {
					return
				}
			}
			n += len(page.Events)
			if page.Next == 0 {
				return
			}
			if q.Before = page.Next; n >= MaxRehearsed || time.Now().After(end) {
				*cut = true
				return
			}
		}
	}
}
