package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

func serviceChecks() []Check {
	return []Check{
		{ID: "CAST-SERVICE-001", Title: "Service gives its tasks public addresses", Severity: finding.High,
			Why:    "Each task is on the internet, and only a security group stands before it.",
			Remedy: "Set assignPublicIp to DISABLED, and reach out through a NAT gateway or VPC endpoints.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.2"}, Prowler: []string{"ecs_service_no_assign_public_ip"},
				Checkov: []string{"CKV_AWS_333"}},
			find: services(publicIP(false))},
		{ID: "CAST-SERVICE-002", Title: "Service lies in public subnets", Severity: finding.Low,
			Why:    "With assignPublicIp a task in such a subnet is reached from the internet through its gateway: one rule of a security group too many, and everybody can.",
			Remedy: "Set assignPublicIp to DISABLED, put the service into private subnets, and a load balancer before it.",
			find: services(func(s *blueprint.Service, hits report) {
				if !blueprint.IsTrue(s.PublicIP) {
					return // it decides, and not what the subnet gives to instances
				}
				for _, n := range s.PublicSubnets {
					hits(hit{at: n.At, subject: n.V, evidence: fmt.Sprintf("assignPublicIp is ENABLED, and subnet %s is a public one", n.V)})
				}
			})},
		{ID: "CAST-SERVICE-003", Title: "ECS Exec is on", Severity: finding.Low,
			Why:    "Whoever has ecs:ExecuteCommand has a shell in every task of the service, with the task's role and secrets.",
			Remedy: "Switch enableExecuteCommand off where it is not needed, and log sessions where it is.",
			find: services(func(s *blueprint.Service, hits report) {
				if blueprint.IsTrue(s.Exec) {
					hits(hit{at: s.Exec.At, evidence: "enableExecuteCommand is true"})
				}
			})},
		{ID: "CAST-SERVICE-004", Title: "Platform version of Fargate is outdated", Severity: finding.Medium,
			Why:    "Older platform versions get no fixes and lack ephemeral storage encryption, EFS and SYS_PTRACE control.",
			Remedy: "Set platformVersion to LATEST, or leave it out.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.10"}, Prowler: []string{"ecs_service_fargate_latest_platform_version"},
				Checkov: []string{"CKV_AWS_332"}},
			find: oldPlatforms},
		{ID: "CAST-SERVICE-005", Title: "Failed deployment is not rolled back", Severity: finding.Negligible,
			Why:    "Without the circuit breaker ECS starts tasks that fail again and again until somebody looks.",
			Remedy: "Set deploymentCircuitBreaker with enable and rollback.",
			find: services(func(s *blueprint.Service, hits report) {
				if s.TaskSet || !(s.Controller.Absent() || blueprint.Is(s.Controller, "ECS")) {
					return
				}
				switch {
				case s.CircuitBreaker.Absent():
					hits(hit{at: s.At.Head(), evidence: "deploymentCircuitBreaker is not set"})
				case blueprint.IsFalse(s.CircuitBreaker):
					hits(hit{at: s.CircuitBreaker.At, evidence: "the circuit breaker is off"})
				case blueprint.IsFalse(s.CircuitRollback):
					hits(hit{at: s.CircuitRollback.At, evidence: "the circuit breaker does not roll back"})
				}
			})},
		{ID: "CAST-SERVICE-006", Title: "Task set gives its tasks public addresses", Severity: finding.High,
			Why:       "Each task is on the internet, and only a security group stands before it.",
			Remedy:    "Set assignPublicIp to DISABLED.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.16"}, Prowler: []string{"ecs_task_set_no_assign_public_ip"}},
			find:      services(publicIP(true))},
	}
}

func publicIP(ofTaskSets bool) func(*blueprint.Service, report) {
	return func(s *blueprint.Service, hits report) {
		if s.TaskSet == ofTaskSets && blueprint.IsTrue(s.PublicIP) {
			hits(hit{at: s.PublicIP.At, evidence: "assignPublicIp is ENABLED"})
		}
	}
}

// oldPlatforms finds services on outdated platform versions. Windows' is 1.0.0:
// where a document has tasks of both, which a service is for is not known.
func oldPlatforms(d *blueprint.Document, in func(blueprint.Resource, *blueprint.Container) report) {
	windows := slices.ContainsFunc(d.Tasks, func(t blueprint.Task) bool { return t.Windows() || t.OS.Is == blueprint.Unknown })
	for i := range d.Services {
		s := &d.Services[i]
		if s.Platform.Known() && outdated(s.Platform.V) && !(windows && s.Platform.V == "1.0.0") {
			in(s.Resource, nil)(hit{at: s.Platform.At, evidence: "platformVersion " + s.Platform.V})
		}
	}
}

// outdated says that a platform version is before 1.4, the current one of Linux.
func outdated(version string) bool {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major < 1 || major == 1 && minor < 4)
}

func clusterChecks() []Check {
	return []Check{
		{ID: "CAST-CLUSTER-001", Title: "Container Insights is off", Severity: finding.Low,
			Why:    "Without it there is no record of what each task used and when it restarted: a miner, a leak or a loop of crashes goes unseen.",
			Remedy: "Set the cluster setting containerInsights to enabled or enhanced.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.12"}, Prowler: []string{"ecs_cluster_container_insights_enabled"},
				Checkov: []string{"CKV_AWS_65"}},
			find: clusters(func(c *blueprint.Cluster, hits report) {
				switch {
				case c.Insights.Absent():
					hits(hit{at: c.At.Head(), evidence: "containerInsights is not set"})
				case blueprint.Is(c.Insights, "disabled"):
					hits(hit{at: c.Insights.At, evidence: "containerInsights is disabled"})
				}
			})},
		{ID: "CAST-CLUSTER-002", Title: "Sessions of ECS Exec are not logged", Severity: finding.Medium,
			Why:       "Who opened a shell is in CloudTrail; what they did there is nowhere.",
			Remedy:    "Set executeCommandConfiguration.logging to OVERRIDE with a log group or a bucket, or to DEFAULT.",
			Elsewhere: finding.Elsewhere{Checkov: []string{"CKV_AWS_223"}},
			find: clusters(func(c *blueprint.Cluster, hits report) {
				if blueprint.Is(c.ExecLogging, "NONE") {
					hits(hit{at: c.ExecLogging.At, evidence: "the logging of ECS Exec is NONE"})
				}
			})},
		{ID: "CAST-CLUSTER-003", Title: "Log of ECS Exec is not encrypted", Severity: finding.Low,
			Why:    "Sessions show what people type and see, secrets among it; the log must be closed to those who may read logs in general.",
			Remedy: "Set cloudWatchEncryptionEnabled or s3EncryptionEnabled.",
			find: clusters(func(c *blueprint.Cluster, hits report) {
				if blueprint.Is(c.ExecLogging, "OVERRIDE") && blueprint.IsFalse(c.ExecEncryption) {
					hits(hit{at: c.ExecEncryption.At, evidence: "the log is written without encryption"})
				}
			})},
		{ID: "CAST-CLUSTER-004", Title: "Sessions of ECS Exec have no key of their own", Severity: finding.Negligible,
			Why:       "With a key of KMS the session is encrypted end to end, and who may open one is also decided by who may use the key.",
			Remedy:    "Set executeCommandConfiguration.kmsKeyId.",
			Elsewhere: finding.Elsewhere{Checkov: []string{"CKV_AWS_224"}},
			find: clusters(func(c *blueprint.Cluster, hits report) {
				if blueprint.Is(c.ExecLogging, "DEFAULT", "OVERRIDE") && c.ExecKey.Absent() {
					hits(hit{at: c.ExecLogging.At, evidence: "kmsKeyId is not set"})
				}
			})},
	}
}
