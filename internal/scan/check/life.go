package check

import (
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// lifeChecks are checks about what is known of a task while it runs, and in whose
// name it acts.
func lifeChecks() []Check {
	return []Check{
		{ID: "CAST-TASK-018", Title: "Output is not logged", Severity: finding.Medium,
			Why:       "What the container said before it failed, or was broken into, is gone with it.",
			Remedy:    "Set logConfiguration: awslogs, awsfirelens or another driver.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.9"}, Prowler: []string{"ecs_task_definitions_logging_enabled"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				switch {
				case blueprint.Is(c.Log.Driver, "none"):
					hits(hit{at: c.Log.Driver.At, evidence: "the log driver is none"})
				case t.Origin == blueprint.ECS && c.Log.Is == blueprint.Absent:
					hits(hit{at: c.At.Head(), evidence: "logConfiguration is not set"})
				}
			})},
		{ID: "CAST-TASK-038", Title: "A full log stops the container", Severity: finding.Low,
			Why:       "In blocking mode the program waits whenever the log cannot be written: an outage of the log becomes one of the service.",
			Remedy:    "Set mode to non-blocking and max-buffer-size to what may wait.",
			Elsewhere: finding.Elsewhere{Prowler: []string{"ecs_task_definitions_logging_block_mode"}},
			find: containers(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if blueprint.Is(c.Log.Mode, "blocking") {
					hits(hit{at: c.Log.Mode.At, evidence: "the log's mode is blocking"})
				}
			})},
		{ID: "CAST-TASK-029", Title: "No health check", Severity: finding.Negligible,
			Why:       "A container that hangs counts as healthy and keeps its place. ECS does not heed the image's own HEALTHCHECK.",
			Remedy:    "Set healthCheck, unless a load balancer asks the container already.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.27"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Origin == blueprint.ECS && c.Health == blueprint.Absent && !blueprint.IsFalse(c.Essential) && c.Essential.Is != blueprint.Unknown || c.HealthDisabled {
					hits(hit{at: c.At.Head(), evidence: "healthCheck is not set"})
				}
			})},
		{ID: "CAST-TASK-037", Title: "No container is essential", Severity: finding.Low,
			Why:    "When the containers end the task goes on as if nothing had happened; ECS refuses a definition in which none is essential.",
			Remedy: "Set essential to true for the container that the task exists for.",
			find: tasks(func(t *blueprint.Task, hits report) {
				if t.Origin != blueprint.ECS || len(t.Containers) == 0 || slices.ContainsFunc(t.Containers, func(c blueprint.Container) bool { return !blueprint.IsFalse(c.Essential) }) {
					return
				}
				hits(hit{at: t.Containers[0].Essential.At, evidence: "essential is false for every container"})
			})},
		{ID: "CAST-TASK-023", Title: "Task has no role of its own", Severity: finding.Low,
			Why:    "On EC2 a task without a role acts with the instance's, which every task on it then shares.",
			Remedy: "Set taskRoleArn to a role with what the task needs, if only none.",
			find: tasks(func(t *blueprint.Task, hits report) {
				if t.Origin == blueprint.ECS && t.TaskRole.Absent() && !t.OnlyFargate() && !unknownPlace(t) {
					hits(hit{at: t.At.Head(), evidence: "taskRoleArn is not set"})
				}
			})},
		{ID: "CAST-TASK-024", Title: "Execution role is missing", Severity: finding.Low,
			Why:    "Without it the agent cannot fetch private images or secrets, or write logs: the task won't start, or does with the instance's rights.",
			Remedy: "Set executionRoleArn to a role with AmazonECSTaskExecutionRolePolicy and the secrets that the task names.",
			find: tasks(func(t *blueprint.Task, hits report) {
				if t.Origin == blueprint.ECS && t.ExecutionRole.Absent() {
					if why := needsExecutionRole(t); why != "" {
						hits(hit{at: t.At.Head(), evidence: "executionRoleArn is not set, and " + why})
					}
				}
			})},
		{ID: "CAST-TASK-025", Title: "Task and agent share a role", Severity: finding.Medium,
			Why:       "The program in the container can then read every secret and image that the agent fetches for it.",
			Remedy:    "Give the task a role of its own.",
			Elsewhere: finding.Elsewhere{Checkov: []string{"CKV_AWS_249"}},
			find: tasks(func(t *blueprint.Task, hits report) {
				a, b := t.TaskRole, t.ExecutionRole
				same := a.Known() && b.Known() && a.V != "" && a.V == b.V || blueprint.SameProperty(a, b)
				if same {
					hits(hit{at: a.At, evidence: "taskRoleArn and executionRoleArn are the same"})
				}
			})},
	}
}

// unknownPlace says that it is not known where the task may run.
func unknownPlace(t *blueprint.Task) bool {
	return t.Compatible.Is == blueprint.Unknown || slices.ContainsFunc(t.Compatible.V, func(c blueprint.Text) bool { return !c.Known() })
}

// needsExecutionRole says what the agent must do for a task that it needs a role
// for; "" for nothing.
func needsExecutionRole(t *blueprint.Task) string {
	for i := range t.Containers {
		c := &t.Containers[i]
		switch {
		case len(c.Secrets) > 0:
			return "a container has secrets"
		case t.OnlyFargate() && strings.Contains(c.Image.V, ".dkr.ecr."):
			return "Fargate must fetch an image from ECR"
		case t.OnlyFargate() && blueprint.Is(c.Log.Driver, "awslogs"):
			return "Fargate must write to CloudWatch"
		}
	}
	return ""
}
