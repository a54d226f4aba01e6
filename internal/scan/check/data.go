package check

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// dataChecks are checks about secrets and stored data.
func dataChecks() []Check {
	return []Check{
		{ID: SecretInEnvironment, Title: "Secret stands in the environment", Severity: finding.High,
			Why:    "Whoever may read the definition, the template or its history has the secret: it is shown in consoles, kept in every revision and in the logs of what deploys it.",
			Remedy: "Take it from Secrets Manager or the Parameter Store with secrets and valueFrom, and change it: it is known.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.8"},
				Prowler: []string{"ecs_task_definitions_no_environment_secrets"}},
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				for _, v := range c.Environment {
					if kind := secretIn(v.Name, v.Value); kind != "" {
						at := v.Value.At
						if at.Start.Line == 0 {
							at = v.At
						}
						hits(hit{at: at, severity: graveness(t, v.Value.V), subject: "environment " + v.Name.V, evidence: fmt.Sprintf("variable %s holds %s of %d characters", v.Name.V, kind, len(v.Value.V))})
					}
				}
			})},
		{ID: SecretInCommand, Title: "Secret stands in the command", Severity: finding.High,
			Why:    "Arguments are seen by every process that may list processes, are in every revision of the definition, and in the traces of whatever watches the task.",
			Remedy: "Hand it over with secrets and valueFrom, and change it: it is known.",
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				for _, list := range []blueprint.Texts{c.Entrypoint, c.Command} {
					words := make([]string, len(list.V))
					for i, w := range list.V {
						if w.Known() {
							words[i] = w.V
						}
					}
					for _, found := range judge.Words(words) {
						hits(hit{at: list.V[found.At].At, severity: graveness(t, found.Value), subject: "command " + found.Name, evidence: fmt.Sprintf("argument %s holds %s", found.Name, found.Kind)})
					}
				}
			})},
		{ID: "CAST-TASK-036", Title: "Secret comes from nowhere", Severity: finding.Medium,
			Why:    "valueFrom must name a secret of Secrets Manager or a parameter; anything else keeps the task from starting, or is the secret itself.",
			Remedy: "Give the ARN of the secret or of the parameter.",
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				for _, v := range c.Secrets {
					if t.Origin == blueprint.ECS && v.Value.Known() && !namesSecret(v.Value.V) {
						hits(hit{at: v.Value.At, subject: "secret " + v.Name.V, evidence: fmt.Sprintf("valueFrom of %s names no secret and no parameter", v.Name.V)})
					}
				}
			})},
		{ID: "CAST-TASK-021", Title: "EFS is mounted without encryption in transit", Severity: finding.Medium,
			Why:       "Files cross the network in the clear, and IAM authorization of the mount is not possible.",
			Remedy:    "Set transitEncryption to ENABLED.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.18"}, Checkov: []string{"CKV_AWS_97"}},
			find: tasks(func(t *blueprint.Task, hits report) {
				for _, v := range t.Volumes {
					if v.EFS == nil {
						continue
					}
					switch e := v.EFS.TransitEncryption; {
					case e.Absent():
						hits(hit{at: v.EFS.At.Head(), subject: v.Name.V, evidence: "transitEncryption is not set, and off by default"})
					case blueprint.Is(e, "DISABLED"):
						hits(hit{at: e.At, subject: v.Name.V, evidence: "transitEncryption is DISABLED"})
					}
				}
			})},
		{ID: "CAST-TASK-022", Title: "EFS is mounted without authorization", Severity: finding.Low,
			Why:    "Without an access point or IAM whatever reaches the mount target has the whole file system, as any user that it claims to be.",
			Remedy: "Name an access point in authorizationConfig, and set iam to ENABLED.",
			find: tasks(func(t *blueprint.Task, hits report) {
				for _, v := range t.Volumes {
					if e := v.EFS; e != nil && e.AccessPoint.Absent() && (e.IAM.Absent() || blueprint.Is(e.IAM, "DISABLED")) {
						hits(hit{at: e.At.Head(), subject: v.Name.V, evidence: "neither an access point nor IAM authorization"})
					}
				}
			})},
	}
}

// graveness is that of a secret in a service of a compose file, where a weak one is
// mostly that of a database that people start for themselves; 0: the check's.
func graveness(t *blueprint.Task, value string) finding.Severity {
	if t.Origin == blueprint.Compose && judge.Form(value) == "" && judge.Weak(value) {
		return finding.Low
	}
	return 0
}

// parameterName is how a parameter is named without its ARN.
var parameterName = lazily(`^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// secretARN is how a secret, or a parameter, is named in full.
var secretARN = lazily(`^arn:[a-z-]+:(secretsmanager:[a-z0-9-]*:\d*:secret:|ssm:[a-z0-9-]*:\d*:parameter/)`)

// namesSecret says that a valueFrom is one. The name of a parameter is a word,
// which a secret may look like: with the marks of one it is none.
func namesSecret(v string) bool {
	if strings.HasPrefix(v, "arn:") {
		return secretARN().MatchString(v)
	}
	return parameterName().MatchString(v) && judge.Form(v) == ""
}
