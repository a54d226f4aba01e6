package notify

import (
	"context"
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// TellTarget puts a notice into the queue of the target of a name, whatever its filter
// says: a rule has named it. NotFound when there is none.
func (s *Service) TellTarget(ctx context.Context, target string, n notice.Notice) error {
	all, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return fmt.Errorf("read notification targets: %w", err)
	}
	for i := range all {
		if all[i].Name != target {
			continue
		}
		if err := s.st.TakeNews(ctx, 0, []store.Telling{{Target: all[i].ID, Notice: n}}); err != nil {
			return fmt.Errorf("store what %s is to be told: %w", target, err)
		}
		s.Nudge()
		return nil
	}
	return fault.New(fault.NotFound, "there is no notification target %q", target).With("castellan notify list shows those there are")
}
