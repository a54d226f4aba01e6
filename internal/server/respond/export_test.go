package respond

import "context"

// Settle waits until all that was considered has been done, without Run.
func (s *Service) Settle(ctx context.Context) {
	for {
		select {
		case c := <-s.waiting:
			s.hold(ctx, &c)
		default:
			s.doing.Wait()
			s.tellMissed(ctx)
			return
		}
	}
}

// Undo undoes what is due.
func (s *Service) Undo(ctx context.Context) {
	s.undoDue(ctx)
	s.doing.Wait()
}

// Recall reads what rules did lately.
func (s *Service) Recall(ctx context.Context) error { return s.recall(ctx) }

// MaxWaiting is for tests.
const MaxWaiting = maxWaiting

// LookWhoSigned looks by whom snapshots are signed.
func (s *Service) LookWhoSigned(ctx context.Context) { s.lookWhoSigned(ctx) }

// Upload uploads what is to be by now.
func (s *Service) Upload(ctx context.Context) { s.uploadDue(ctx) }
