package ecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// Limits on the answers. An instance runs at most some hundred tasks of ten
// containers each; one container is described in about a kilobyte.
const (
	maxInstanceBody = 64 << 10
	maxTasksBody    = 8 << 20
	maxTaskBody     = 1 << 20
	// maxInstanceARN is more than three names and what stands between them.
	maxInstanceARN = 512
)

// instance is what the ECS agent says of its host.
type instance struct {
	arn     string
	cluster string // by name
}

// parseInstance reads the answer of /v1/metadata.
func parseInstance(b []byte) (instance, error) {
	var said struct {
		Cluster              string
		ContainerInstanceArn string
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return instance{}, fmt.Errorf("parse instance metadata: %w", err)
	}
	at := instance{cluster: asset.ClusterName(said.Cluster)}
	if isInstanceARN(said.ContainerInstanceArn) {
		at.arn = said.ContainerInstanceArn
	}
	if at == (instance{}) {
		return instance{}, errors.New("parse instance metadata: neither a cluster nor a container instance in it")
	}
	return at, nil
}

func isInstanceARN(s string) bool {
	if len(s) > maxInstanceARN || !strings.HasPrefix(s, "arn:") || !strings.Contains(s, ":container-instance/") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// tasks are identities by containers' ids and, of those that have none yet, by the
// names that they will get.
type tasks struct{ byID, byName map[string]asset.ECS }

// parseTasks reads the answer of /v1/tasks. Tasks whose ARN is none are left out.
func parseTasks(b []byte) (tasks, error) {
	var said struct {
		Tasks []struct {
			Arn        string
			Family     string
			Version    string
			Containers []containerOf
		}
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return tasks{}, fmt.Errorf("parse tasks: %w", err)
	}
	all := tasks{byID: map[string]asset.ECS{}, byName: map[string]asset.ECS{}}
	for _, t := range said.Tasks {
		e, ok := asset.ParseTaskARN(t.Arn)
		if !ok {
			continue
		}
		e.Family, e.Revision = name(t.Family), name(t.Version)
		collect(all.byID, e, t.Containers)
		for _, c := range t.Containers {
			if c.DockerID == "" && c.DockerName != "" {
				e.Container = name(c.Name)
				all.byName[c.DockerName] = e
			}
		}
	}
	return all, nil
}

// containerOf is one container of a task, in either answer.
type containerOf struct {
	DockerID   string `json:"DockerId"`
	DockerName string
	Name       string
}

func collect(byID map[string]asset.ECS, e asset.ECS, cs []containerOf) {
	for _, c := range cs {
		if c.DockerID == "" {
			continue // not started yet
		}
		e.Container = name(c.Name)
		byID[c.DockerID] = e
	}
}

// ownTask is the task that Castellan itself runs in.
type ownTask struct {
	task asset.ECS // without a container
	byID map[string]asset.ECS
}

// of returns what own task metadata says of a workload: everything for one that
// is listed, the service for another one of the same task.
func (o ownTask) of(w asset.Workload) asset.ECS {
	if e, ok := o.byID[w.ID]; ok {
		return e
	}
	if w.ECS.TaskARN != "" && w.ECS.TaskARN == o.task.TaskARN {
		return o.task
	}
	return asset.ECS{}
}

// parseOwnTask reads the answer of /task of the task metadata endpoint.
func parseOwnTask(b []byte) (ownTask, error) {
	var said struct {
		Cluster     string
		TaskARN     string
		Family      string
		Revision    string
		ServiceName string
		Containers  []containerOf
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return ownTask{}, fmt.Errorf("parse task metadata: %w", err)
	}
	e, ok := asset.ParseTaskARN(said.TaskARN)
	if !ok {
		return ownTask{}, errors.New("parse task metadata: no task ARN in it")
	}
	if e.Cluster == "" {
		e.Cluster = asset.ClusterName(said.Cluster)
	}
	e.Family, e.Revision, e.Service = name(said.Family), name(said.Revision), name(said.ServiceName)
	own := ownTask{task: e, byID: map[string]asset.ECS{}}
	collect(own.byID, e, said.Containers)
	return own, nil
}

// name keeps what can be a name in ECS; see asset.WellNamed.
func name(s string) string {
	if asset.WellNamed(s) {
		return s
	}
	return ""
}
