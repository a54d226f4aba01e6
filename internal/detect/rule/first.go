package rule

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxGroups  = 2048 // for which it is known what is normal
	maxNormal  = 1024 // values of one group: one with more has no normal
	keepNormal = 30 * 24 * time.Hour
	// maxMemory bounds, in bytes of text, what one rule remembers over a start; what was
	// seen longest ago is forgotten beyond.
	maxMemory = 2 << 20
)

// firsts fires when a value comes up for the first time where it is known what is
// normal.
type firsts struct {
	by     Scope
	of     *Field
	after  time.Duration
	groups *keep.Map[scopeKey, *normal]
}

type normal struct {
	since time.Time
	seen  map[string]struct{}
}

func newGroups() *keep.Map[scopeKey, *normal] {
	return keep.New[scopeKey, *normal](maxGroups, keepNormal)
}

func (f *firsts) matched(s *Subject, _ int, _ *Field) ([]threat.Evidence, uint64, bool) {
	now, k := s.Event.Time, scopeOf(s, f.by, nil)
	at, ok := f.groups.Get(k, now)
	if !ok {
		at = f.groups.Put(k, &normal{since: now, seen: map[string]struct{}{}}, now)
	}
	n, v := *at, threat.Clip(s.text(f.of))
	if _, known := n.seen[v]; known || len(n.seen) >= maxNormal {
		return nil, 0, false
	}
	n.seen[v] = struct{}{}
	return nil, s.Event.Times(), now.Sub(n.since) >= f.after
}

// learned is what firsts know, written down. Of and By are what the rule looked at: one
// that was changed to look at something else learns anew.
type learned struct {
	Of     string         `json:"of"`
	By     Scope          `json:"by"`
	Groups []learnedGroup `json:"groups"` // what was seen longest ago first
}

type learnedGroup struct {
	Agent   string    `json:"agent,omitempty"`
	Scope   string    `json:"scope"`
	Key     string    `json:"key,omitempty"`
	Since   time.Time `json:"since"`
	Touched time.Time `json:"touched"`
	Seen    []string  `json:"seen"`
}

// memory returns what is normal where, without what is of processes: those end sooner
// than it would be of use.
func (f *firsts) memory() ([]byte, error) {
	l := learned{Of: f.of.Name, By: f.by}
	size := 0
	for _, k := range slices.Backward(f.groups.All()) {
		if !k.Key.process.IsZero() {
			continue
		}
		g := learnedGroup{
			Agent: k.Key.agent, Scope: k.Key.scope, Key: k.Key.key, Since: k.Value.since, Touched: k.Touched,
			Seen: slices.Sorted(maps.Keys(k.Value.seen)),
		}
		for _, v := range g.Seen {
			size += len(v)
		}
		if size > maxMemory {
			break
		}
		l.Groups = append(l.Groups, g)
	}
	if len(l.Groups) == 0 {
		return nil, nil
	}
	slices.Reverse(l.Groups)
	return json.Marshal(l)
}

func (f *firsts) remember(b []byte) error {
	var l learned
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	if l.Of != f.of.Name || l.By != f.by {
		return nil
	}
	f.groups = newGroups()
	for i := range l.Groups {
		g := &l.Groups[i]
		n := &normal{since: g.Since, seen: map[string]struct{}{}}
		for _, v := range g.Seen[:min(len(g.Seen), maxNormal)] {
			n.seen[v] = struct{}{}
		}
		f.groups.Put(scopeKey{agent: g.Agent, scope: g.Scope, key: g.Key}, n, g.Touched)
	}
	return nil
}
