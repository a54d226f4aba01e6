package agent

import "github.com/castellan-security/castellan/internal/agent/spool"

// queue is the spool with a bell: who pushes wakes the sender.
type queue struct {
	*spool.Spool
	ready chan struct{} // one token when there is something to do
}

func newQueue(s *spool.Spool) *queue {
	return &queue{Spool: s, ready: make(chan struct{}, 1)}
}

// wake makes the sender look, also when there is no event.
func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
