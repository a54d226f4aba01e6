package asset

import "time"

// Inventory is what a container engine says at once: everything it knows, or
// what changed.
type Inventory struct {
	Engine    Engine
	Workloads []Workload
	// Complete is true when Workloads is everything the engine knows. Whatever
	// was known before and is not in it has ended unseen.
	Complete bool
	// Asked is when the engine was asked for a list that is Complete: what was made
	// since may be missing from it.
	Asked time.Time
	// Removed are the ids of containers that the engine does not know any more: they
	// can't be started again.
	Removed []string
}
