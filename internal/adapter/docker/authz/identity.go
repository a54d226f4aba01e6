package authz

import (
	"cmp"
	"context"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
)

// Labels of the ECS agent. Whoever may make a container may set them.
const (
	labelCluster   = "com.amazonaws.ecs.cluster"
	labelTask      = "com.amazonaws.ecs.task-arn"
	labelFamily    = "com.amazonaws.ecs.task-definition-family"
	labelRevision  = "com.amazonaws.ecs.task-definition-version"
	labelContainer = "com.amazonaws.ecs.container-name"
)

// place sets where a container is to run, as its labels say.
func place(r *admission.Request, labels map[string]string) {
	arn := strings.SplitN(labels[labelTask], ":", 6)
	if len(arn) == 6 && arn[2] == "ecs" {
		r.Place.Region, r.Place.Account = bounded(arn[3]), bounded(arn[4])
		r.Task.ARN = bounded(labels[labelTask])
	}
	cluster := labels[labelCluster]
	r.Place.Cluster = bounded(cluster[strings.LastIndexByte(cluster, '/')+1:])
	r.Task.Family, r.Task.Revision = bounded(labels[labelFamily]), bounded(labels[labelRevision])
	if r.Task.ARN != "" {
		r.Task.Launch = "EC2"
	}
}

// asTask makes the one container of a request a task of its own, and says of which
// task of ECS it is. Where the ECS agent of this host can tell, it goes before what
// labels say, and what it doesn't know is of no task: scopes and exceptions for a
// family are for what ECS runs.
func (p *Plugin) asTask(ctx context.Context, r *admission.Request, c admission.Container, id, name string) {
	name = strings.TrimPrefix(name, "/")
	var of asset.ECS
	labels := true
	if p.options.Task != nil {
		of, labels = p.options.Task(ctx, id, name)
	}
	switch {
	case of.TaskARN != "":
		r.Task.Family, r.Task.Revision, r.Task.ARN, r.Task.Launch = of.Family, of.Revision, of.TaskARN, "EC2"
		r.Place.Account, r.Place.Region, r.Place.Cluster, r.Place.Service = of.Account, of.Region, of.Cluster, of.Service
		c.Name = cmp.Or(of.Container, c.Name)
	case labels:
		place(r, c.Labels)
	default:
		c.Name = bounded(cmp.Or(name, c.Image.Reference))
	}
	r.Task.Network, r.Task.PID, r.Task.IPC = c.Network, c.PID, c.IPC
	r.Task.Containers = []admission.Container{c}
}
