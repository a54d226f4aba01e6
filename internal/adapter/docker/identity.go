package docker

import "github.com/castellan-security/castellan/internal/asset"

// Labels that the ECS agent puts on the containers it starts: Amazon ECS
// Developer Guide, "Amazon ECS container agent", since agent 1.0. Any other
// maker of a container can set them too, so they identify; they don't prove.
const (
	labelCluster   = "com.amazonaws.ecs.cluster"
	labelTaskARN   = "com.amazonaws.ecs.task-arn"
	labelFamily    = "com.amazonaws.ecs.task-definition-family"
	labelRevision  = "com.amazonaws.ecs.task-definition-version"
	labelContainer = "com.amazonaws.ecs.container-name"
)

// Identity returns the ECS identity that the labels of a container say.
func Identity(labels map[string]string) asset.ECS { return identity(labels) }

// identity reads the ECS identity from labels. A value that cannot be what its
// label says is left out: a made-up name must not pass for a part of another
// group's name.
func identity(labels map[string]string) asset.ECS {
	e, _ := asset.ParseTaskARN(labels[labelTaskARN])
	if e.Cluster == "" {
		e.Cluster = asset.ClusterName(labels[labelCluster])
	}
	e.Family = name(labels[labelFamily])
	e.Revision = name(labels[labelRevision])
	e.Container = name(labels[labelContainer])
	return e
}

func name(s string) string {
	if asset.WellNamed(s) {
		return s
	}
	return ""
}
