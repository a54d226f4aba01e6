package live

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Condition is something that is wrong with the server now.
type Condition struct {
	Name   string    `json:"name" doc:"Which part: store, certificate, prune, …"`
	What   string    `json:"what" doc:"What is wrong, in words"`
	Since  time.Time `json:"since" doc:"Since when"`
	Remedy string    `json:"remedy,omitempty" doc:"What to do about it"`
}

// Conditions are what is wrong now, and what was lost on the way. They are
// safe for concurrent use.
type Conditions struct {
	clock func() time.Time

	mu     sync.Mutex
	wrong  map[string]Condition
	losses map[string]uint64
}

// NewConditions returns none; clock nil means time.Now.
func NewConditions(clock func() time.Time) *Conditions {
	if clock == nil {
		clock = time.Now
	}
	return &Conditions{clock: clock, wrong: map[string]Condition{}, losses: map[string]uint64{}}
}

// Set says that err is wrong with the named part; with nil the part is well
// again. It reports whether the part's being well changed, which is what is
// worth a line in the log.
//
// The text of an error without a kind is not shown to users: it may hold
// anything. They are sent to the log.
func (c *Conditions) Set(name string, err error) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, was := c.wrong[name]
	if err == nil {
		delete(c.wrong, name)
		return was
	}
	now := Condition{Name: name, What: err.Error(), Since: old.Since, Remedy: fault.Remedy(err)}
	if fault.Of(err) == fault.Unknown {
		now.What = "something unexpected went wrong"
		now.Remedy = "read the server's log"
	}
	if !was {
		now.Since = c.clock()
	}
	c.wrong[name] = now
	return !was
}

// List returns what is wrong, longest first.
func (c *Conditions) List() []Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.wrong), func(a, b Condition) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name))
	})
}

// Lose counts events that reached the server and are not stored. where is one
// of a few fixed words.
func (c *Conditions) Lose(where string, n uint64) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.losses[where] += n
}

// Losses returns what Lose counted since the server started, by name.
func (c *Conditions) Losses() []asset.Loss {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]asset.Loss, 0, len(c.losses))
	for _, where := range slices.Sorted(maps.Keys(c.losses)) {
		out = append(out, asset.Loss{Where: where, Count: c.losses[where]})
	}
	return out
}
