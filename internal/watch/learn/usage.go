package learn

import (
	"math/bits"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// usage is the most that one container of the group took.
type usage struct {
	Processes   uint64 `json:"processes,omitempty"`
	Memory      uint64 `json:"memory,omitempty"`
	CPU         uint64 `json:"cpu,omitempty"`
	Descriptors uint64 `json:"descriptors,omitempty"`
	Writes      uint64 `json:"writes,omitempty"` // bytes a second
	Connections uint64 `json:"connections,omitempty"`
	Samples     uint64 `json:"samples,omitempty"`
}

// Limits are proposed from the most that was seen: headroom times as much, rounded
// up to a power of two, and no less than what any program may need. They are for
// what runs away, not for what grows.
const (
	headroom = 4
	// connectionHeadroom is more: sensors count connections that are alike over ten
	// seconds, so that a short peak is seen lower than it was.
	connectionHeadroom = 16
	minProcesses       = 64
	minMemory          = 64 << 20
	minCPU             = 1_000
	minDescriptors     = 1_024
	minWrites          = 16 << 20
	minConnections     = 128
	minSamples         = 60 // fewer say nothing of what is usual
)

// Usage learns from what a workload has used, and from the sample before; before
// may be zero.
func (l *Learner) Usage(s, before asset.Sample) {
	u := &l.usage
	u.Samples++
	u.Processes = max(u.Processes, s.Pids)
	u.Memory = max(u.Memory, s.Memory)
	u.Descriptors = max(u.Descriptors, s.Descriptors)
	if before.Time.IsZero() || before.WorkloadID != s.WorkloadID {
		return
	}
	r := s.Since(before)
	u.CPU = max(u.CPU, uint64(r.CPU*1000))
	u.Writes = max(u.Writes, uint64(r.DiskWritten))
}

func (u usage) limits() profile.Limits {
	if u.Samples < minSamples {
		return profile.Limits{}
	}
	l := profile.Limits{Source: profile.Learned}
	room := func(to *uint64, most, least, headroom uint64) {
		if most > 0 {
			*to = max(roundUp(most*headroom), least)
		}
	}
	set := func(to *uint64, most, least uint64) { room(to, most, least, headroom) }
	set(&l.Processes, u.Processes, minProcesses)
	set(&l.Memory, u.Memory, minMemory)
	set(&l.CPU, u.CPU, minCPU)
	set(&l.Descriptors, u.Descriptors, minDescriptors)
	set(&l.WriteBytes, u.Writes, minWrites)
	room(&l.NewConnections, u.Connections, minConnections, connectionHeadroom)
	return l
}

// roundUp returns the next power of two: limits stay the same from one learning to
// the next.
func roundUp(n uint64) uint64 {
	if n <= 1 {
		return n
	}
	return 1 << min(bits.Len64(n-1), 62)
}
