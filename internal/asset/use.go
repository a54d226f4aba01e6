package asset

// Use is what a workload was seen to use of its image: files that it executed,
// mapped as code, or holds open as archives of code.
type Use struct {
	WorkloadID string `json:"workload_id"`
	// Paths are absolute, as the container sees them, without those that came
	// with mounts or were written since the container started.
	Paths []string `json:"paths"`
}

// MaxUsePaths bounds the paths of one Use.
const MaxUsePaths = 1_000
