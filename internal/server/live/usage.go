package live

import (
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

const (
	// usageLife is how long a sample stands for now: six of the ten seconds
	// between two of an agent's.
	usageLife = time.Minute
	// maxUsage bounds the workloads whose use is kept, at about 400 bytes each.
	maxUsage = 100_000
)

// WorkloadUsage is what one workload uses now.
type WorkloadUsage struct {
	Sample asset.Sample `json:"sample"`
	// Rates are those since the sample before; nil while there was none.
	Rates *asset.Rates `json:"rates,omitempty"`
	heard time.Time    // by the server's clock
}

// use takes samples; t.mu is held.
func (t *Tables) use(samples []asset.Sample, now time.Time) {
	if len(t.usage)+len(samples) > maxUsage {
		t.forgetUsage(now)
	}
	for _, s := range samples {
		last, known := t.usage[s.WorkloadID]
		if !known && len(t.usage) >= maxUsage {
			continue
		}
		if known && !s.Time.After(last.Sample.Time) {
			continue // came twice
		}
		u := WorkloadUsage{Sample: s, heard: now}
		if known {
			r := s.Since(last.Sample)
			u.Rates = &r
		}
		t.usage[s.WorkloadID] = u
	}
}

func (t *Tables) forgetUsage(now time.Time) {
	for id, u := range t.usage {
		if now.Sub(u.heard) > usageLife {
			delete(t.usage, id)
		}
	}
}

// Usage returns what the workloads use now, in no order. A workload of which
// nothing was heard for a minute is left out.
func (t *Tables) Usage() []WorkloadUsage {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetUsage(now)
	all := make([]WorkloadUsage, 0, len(t.usage))
	for _, u := range t.usage {
		all = append(all, u)
	}
	return all
}
