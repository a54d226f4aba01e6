package notify

import (
	"context"
	"fmt"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// Dead returns the notifications that were given up, the last first, of one target
// or, with 0, of all. It needs access.ReadNotify.
func (s *Service) Dead(ctx context.Context, who access.Identity, target int64) ([]notice.Dead, error) {
	if err := who.Need(access.ReadNotify); err != nil {
		return nil, err
	}
	return s.st.Dead(ctx, target)
}

// RetryDead has dead letters delivered after all, with the id that they had, and
// returns how many. The zero query means all. NotFound when one is named and not
// there. It needs access.ManageNotify.
func (s *Service) RetryDead(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error) {
	n, err := s.endDead(ctx, who, "notify.dead.retry", q, func() (int, error) { return s.st.RetryDead(ctx, q, s.clock()) })
	if n > 0 {
		s.Nudge()
	}
	return n, err
}

// DropDead removes dead letters: nobody is told of what is in them. It returns how
// many, as RetryDead does, and needs access.ManageNotify.
func (s *Service) DropDead(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error) {
	return s.endDead(ctx, who, "notify.dead.drop", q, func() (int, error) { return s.st.DropDead(ctx, q) })
}

func (s *Service) endDead(ctx context.Context, who access.Identity, action string, q store.DeadQuery, end func() (int, error)) (int, error) {
	if err := who.Need(access.ManageNotify); err != nil {
		return 0, err
	}
	if q.ID != "" && q.Target != 0 {
		return 0, fault.New(fault.Invalid, "dead letters: by id or by target, not both")
	}
	which := "all"
	if q.Target != 0 {
		t, err := s.target(ctx, who, q.Target)
		if err != nil {
			return 0, err
		}
		which = t.Name
	}
	n, err := end()
	if err != nil {
		return 0, err
	}
	if n == 0 && q.ID != "" {
		return 0, fault.New(fault.NotFound, "no dead letter has the id %.100q", q.ID).With("list them: castellan notify dead")
	}
	detail := fmt.Sprintf("%d", n)
	if q.ID != "" {
		detail = q.ID
	}
	return n, s.audit(ctx, who, action, which, detail)
}
