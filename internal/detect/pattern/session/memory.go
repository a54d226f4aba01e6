package session

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
)

// memory is what outlives a start of the server: else whoever calls first after it,
// with credentials that were taken, would be who is compared with.
type memory struct {
	Sessions []keep.Kept[key, *seen]      `json:"sessions"`
	Shared   []keep.Kept[place, *sharers] `json:"shared"`
}

func newSessions() *keep.Map[key, *seen] { return keep.New[key, *seen](maxSessions, forget) }

func newShared() *keep.Map[place, *sharers] {
	return keep.New[place, *sharers](maxShared, 30*24*time.Hour)
}

// Memory is part of pattern.Learner.
func (d *sessions) Memory() ([]byte, error) {
	if d.of.Len() == 0 {
		return nil, nil
	}
	return json.Marshal(memory{d.of.All(), d.shared.All()})
}

// Remember is part of pattern.Learner.
func (d *sessions) Remember(b []byte) error {
	var m memory
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	d.of, d.shared = newSessions(), newShared()
	d.of.Take(slices.DeleteFunc(m.Sessions, func(k keep.Kept[key, *seen]) bool {
		return k.Value == nil || k.Value.Tools == nil || k.Value.Endpoints == nil
	}))
	d.shared.Take(slices.DeleteFunc(m.Shared, func(k keep.Kept[place, *sharers]) bool { return k.Value == nil }))
	return nil
}
