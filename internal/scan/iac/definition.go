package iac

import (
	"fmt"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// maxDefinitions bounds the task definitions of one file.
const maxDefinitions = 1000

// taskDefinitions adds what ECS's interface takes and returns: a definition, one
// within taskDefinition, an array of them, or of containers alone, as Terraform's
// files have them.
func taskDefinitions(n *tree.Node, d *blueprint.Document) bool {
	any := false
	for _, one := range atMost(n.Each(), maxDefinitions) {
		if one.Kind != tree.Map {
			return any
		}
		if inner := one.Get("taskDefinition"); inner != nil && inner.Kind == tree.Map {
			one = inner
		}
		containers := one.Get("containerDefinitions")
		if containers == nil || containers.Kind != tree.List {
			continue
		}
		name := one.Get("family").AsText().V
		if revision := one.Get("revision").AsNumber(); revision.Known() && revision.V > 0 {
			name = fmt.Sprintf("%s:%d", name, revision.V)
		}
		if name == "" {
			name = "task definition"
		}
		d.Tasks = append(d.Tasks, taskOf(name, one))
		any = true
	}
	return any
}
