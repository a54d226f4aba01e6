package detect

import (
	"time"

	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
)

// OrdinaryWork returns so many events of what a shop's containers do all day, from a
// time on, for measuring what rules cost that find nothing.
func OrdinaryWork(n int, from time.Time) ([]*event.Event, error) {
	return trial.Ordinary(n, "", from)
}
