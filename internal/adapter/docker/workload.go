package docker

import (
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/asset"
)

// summary is one container in the engine's list.
type summary struct {
	ID      string `json:"Id"`
	Names   []string
	Image   string
	ImageID string
	Created int64 // seconds since 1970
	Labels  map[string]string
	State   string
}

// rank orders containers by how much they matter when there are too many.
func (c summary) rank() int {
	if stateOf(c.State) == asset.Exited {
		return 1
	}
	return 0
}

// workload is what the list alone tells of a container.
func (c summary) workload() asset.Workload {
	w := asset.Workload{
		ID:      c.ID,
		Name:    ownName(c.Names),
		ECS:     identity(c.Labels),
		Image:   image(c.Image, c.ImageID),
		State:   stateOf(c.State),
		Created: time.Unix(c.Created, 0).UTC(),
		Partial: true,
		Updated: time.Now().UTC(),
	}
	w.Group = asset.GroupOf(w)
	return w
}

// ownName picks the container's own name: those that links gave it have a
// second slash.
func ownName(names []string) string {
	for _, n := range names {
		n = strings.TrimPrefix(n, "/")
		if n != "" && !strings.Contains(n, "/") {
			return clean(n, maxText)
		}
	}
	return ""
}

// inspection is what is read of the engine's answer about one container. The
// environment is left out on purpose: it holds secrets.
type inspection struct {
	ID      string `json:"Id"`
	Created string
	Path    string
	Args    []string
	Name    string
	Image   string // the image's id
	Driver  string // of storage
	// ImageManifestDescriptor says which image of an index it is, where the
	// engine leaves images to containerd (API 1.48 and later).
	ImageManifestDescriptor *struct{ Platform *platform }
	State                   struct {
		Status     string
		OOMKilled  bool
		Pid        int
		ExitCode   int
		StartedAt  string
		FinishedAt string
	}
	HostConfig      hostConfig
	Mounts          []mountPoint
	NetworkSettings networkSettings
	Config          struct {
		User         string
		Image        string
		Labels       map[string]string
		ExposedPorts map[string]struct{}
		Shell        []string
		Healthcheck  *struct{ Test []string }
	}
}

// workload turns what the engine says into what Castellan keeps.
func (in inspection) workload() asset.Workload {
	w := asset.Workload{
		ID:        in.ID,
		Name:      ownName([]string{in.Name}),
		ECS:       identity(in.Config.Labels),
		Image:     image(in.Config.Image, in.Image),
		State:     stateOf(in.State.Status),
		OOMKilled: in.State.OOMKilled,
		Settings:  in.settings(),
		Updated:   time.Now().UTC(),
	}
	if t := instant(in.Created); t != nil {
		w.Created = *t
	}
	w.Started = instant(in.State.StartedAt)
	switch w.State {
	case asset.Running, asset.Paused:
		// When it ended and how is of the run before, if there was one.
		w.PID = in.State.Pid
	case asset.Exited:
		w.Finished = instant(in.State.FinishedAt)
		if w.Finished != nil {
			code := in.State.ExitCode
			w.ExitCode = &code
		}
	}
	straighten(&w)
	w.Group = asset.GroupOf(w)
	return w
}

// applyTo writes what events said into a workload that cannot be asked for.
func (c *change) applyTo(w *asset.Workload) {
	w.Updated = time.Now().UTC()
	if !c.told {
		return
	}
	if c.name != "" {
		w.Name = c.name
	}
	if w.Image.Reference == "" {
		w.Image = image(c.image, "")
	}
	if w.ECS == (asset.ECS{}) {
		w.ECS = c.ecs
	}
	if c.state != "" {
		w.State = c.state
	}
	if w.State == "" {
		w.State = asset.Running // it was killed, renamed or updated, so it is alive
	}
	if !c.created.IsZero() {
		w.Created = c.created
	}
	if !c.started.IsZero() {
		w.Started, w.Finished, w.ExitCode = &c.started, nil, nil
	}
	if !c.finished.IsZero() {
		w.Finished, w.ExitCode = &c.finished, c.exitCode
	}
	if w.State == asset.Exited {
		w.PID = 0
	}
	straighten(w)
	w.OOMKilled = w.OOMKilled || c.oom
	w.Group = asset.GroupOf(*w)
}

// straighten mends the start of a container that ended within milliseconds: the
// engine stamps it after the runtime returned, which may be after the runtime
// stamped the end. It started at that end or before.
func straighten(w *asset.Workload) {
	if w.State == asset.Exited && w.Started != nil && w.Finished != nil && w.Finished.Before(*w.Started) {
		w.Started = w.Finished
	}
}

// stateOf translates the engine's word. A container between two runs of its
// restart policy has ended; the next start says so. A word of a future engine
// counts as running, so that nothing alive is taken for dead.
func stateOf(word string) asset.State {
	switch container.ContainerState(word) {
	case container.StateCreated:
		return asset.Created
	case container.StatePaused:
		return asset.Paused
	case container.StateExited, container.StateDead, container.StateRemoving, container.StateRestarting:
		return asset.Exited
	}
	return asset.Running
}

// instant reads a time as the engine writes it; its zero time, year one, and
// what is no time at all are nil.
func instant(s string) *time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return nil
	}
	t = t.UTC()
	return &t
}
