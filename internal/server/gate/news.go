package gate

import (
	"context"

	"github.com/castellan-security/castellan/internal/access"
)

// News returns a channel that gets a value after a verdict was kept, or policy or
// exceptions changed. At most one value waits, so that the reader sets the pace. It
// is closed when ctx ends. The error is Exhausted when too many follow already. It
// needs access.ReadAdmission.
func (s *Service) News(ctx context.Context, who access.Identity) (<-chan struct{}, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	return s.news.News(ctx)
}
