package asset

import "time"

// Sample is what one workload has used by a moment. Counters grow from the
// container's start; gauges are of the moment. A field that this host cannot
// tell is zero and named in Missing.
type Sample struct {
	WorkloadID string    `json:"workload_id"`
	Time       time.Time `json:"time"` // by the agent's clock

	CPU             time.Duration `json:"cpu_ns"`                 // counter
	Throttled       time.Duration `json:"throttled_ns"`           // counter: held back for its CPU limit
	CPULimit        uint64        `json:"cpu_limit_milli"`        // thousandths of a CPU; 0: none
	Memory          uint64        `json:"memory_bytes"`           // gauge: in use, without what the kernel could drop at once
	MemoryLimit     uint64        `json:"memory_limit_bytes"`     // 0: none
	Pids            uint64        `json:"pids"`                   // gauge: tasks
	PidsLimit       uint64        `json:"pids_limit"`             // 0: none
	Descriptors     uint64        `json:"descriptors"`            // gauge: open files of all its processes
	DiskRead        uint64        `json:"disk_read_bytes"`        // counter
	DiskWritten     uint64        `json:"disk_written_bytes"`     // counter
	NetworkReceived uint64        `json:"network_received_bytes"` // counter, of its network namespace, loopback left out
	NetworkSent     uint64        `json:"network_sent_bytes"`     // counter
	OOMKills        uint64        `json:"oom_kills"`              // counter
	Missing         []string      `json:"missing,omitempty"`      // JSON names of fields that this host cannot tell
}

// Rates are what one workload used per second between two samples.
type Rates struct {
	CPU             float64 `json:"cpu"`       // CPUs: 1 is one of them fully busy
	Throttled       float64 `json:"throttled"` // part of the time that it was held back, added up over its CPUs
	DiskRead        float64 `json:"disk_read_bytes"`
	DiskWritten     float64 `json:"disk_written_bytes"`
	NetworkReceived float64 `json:"network_received_bytes"`
	NetworkSent     float64 `json:"network_sent_bytes"`
}

// Since returns the rates from before to s; zero when no time lies between
// them. A counter that went back, because the container started anew, counts
// from zero.
func (s Sample) Since(before Sample) Rates {
	seconds := s.Time.Sub(before.Time).Seconds()
	if seconds <= 0 {
		return Rates{}
	}
	rate := func(now, then uint64) float64 {
		if now < then {
			then = 0
		}
		return float64(now-then) / seconds
	}
	const second = float64(time.Second)
	return Rates{
		CPU:             rate(uint64(max(s.CPU, 0)), uint64(max(before.CPU, 0))) / second,
		Throttled:       rate(uint64(max(s.Throttled, 0)), uint64(max(before.Throttled, 0))) / second,
		DiskRead:        rate(s.DiskRead, before.DiskRead),
		DiskWritten:     rate(s.DiskWritten, before.DiskWritten),
		NetworkReceived: rate(s.NetworkReceived, before.NetworkReceived),
		NetworkSent:     rate(s.NetworkSent, before.NetworkSent),
	}
}
