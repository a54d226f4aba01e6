package hunt

import "time"

// A container's first events often come before its engine has told of it. Rules and
// silences that are of groups need to know where it belongs, so its events wait for
// that: with all others, a moment, and within a budget, for who can make up names of
// containers must not hold up detection.
const (
	groupWait = 500 * time.Millisecond // as long as one container may be waited for
	// groupShare of the time may be waited in the long run, groupBurst at once.
	groupShare = 0.1
	groupBurst = 2 * time.Second
	// maxUnplaced bounds the containers that were waited for in vain.
	maxUnplaced = 4_096
)

// groups remembers for whom was waited. It is for the engine's goroutine.
type groups struct {
	left     time.Duration
	at       time.Time
	unplaced map[string]struct{}
}

func (g *groups) init(now time.Time) {
	g.left, g.at, g.unplaced = groupBurst, now, map[string]struct{}{}
}

// may returns how long may be waited for a container.
func (g *groups) may(id string, now time.Time) time.Duration {
	if _, tried := g.unplaced[id]; tried {
		return 0
	}
	if len(g.unplaced) >= maxUnplaced {
		clear(g.unplaced)
	}
	g.unplaced[id] = struct{}{}
	g.left = min(groupBurst, g.left+time.Duration(groupShare*float64(max(0, now.Sub(g.at)))))
	g.at = now
	return min(groupWait, g.left)
}

// group returns the group of a container, for which it may wait.
func (h *Hunter) group(id string) string {
	name, known := h.start.Group(id)
	if known {
		return name
	}
	began := h.o.Clock()
	most := h.groups.may(id, began)
	if most <= 0 {
		return ""
	}
	t := time.NewTimer(most)
	defer t.Stop()
	for !known {
		select {
		case <-t.C:
			h.groups.left -= most
			return ""
		case <-h.bell:
			name, known = h.start.Group(id)
		}
	}
	delete(h.groups.unplaced, id)
	h.groups.left -= h.o.Clock().Sub(began)
	return name
}
