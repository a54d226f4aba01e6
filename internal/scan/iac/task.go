package iac

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// Limits on one task definition; ECS permits ten containers.
const (
	maxContainers = 100
	maxEntries    = 1000 // of one list of a container
)

// taskOf reads a task definition, in the words of the interface, CloudFormation
// or Terraform.
func taskOf(name string, n *tree.Node) blueprint.Task {
	t := blueprint.Task{
		Resource:      blueprint.Resource{Name: name, At: n.At},
		Family:        n.Get("family").AsText(),
		Network:       n.Get("networkMode").AsText(),
		PID:           n.Get("pidMode").AsText(),
		IPC:           n.Get("ipcMode").AsText(),
		Compatible:    n.Get("requiresCompatibilities").AsTexts(),
		OS:            n.Path("runtimePlatform", "operatingSystemFamily").AsText(),
		CPU:           n.Get("cpu").AsText(),
		Memory:        n.Get("memory").AsText(),
		TaskRole:      n.Get("taskRoleArn").AsText(),
		ExecutionRole: n.Get("executionRoleArn").AsText(),
	}
	var cut cut
	containers := within(&cut, "containers", n.Get("containerDefinitions").Each(), maxContainers)
	t.Containers = make([]blueprint.Container, 0, len(containers))
	for _, c := range containers {
		if c.Kind == tree.Map {
			t.Containers = append(t.Containers, containerOf(c, &cut))
		}
	}
	for _, v := range within(&cut, "volumes", n.Get("volumes", "volume").Each(), maxEntries) {
		t.Volumes = append(t.Volumes, volumeOf(v))
	}
	t.Cut = string(cut)
	return t
}

func atMost[T any](list []T, n int) []T { return list[:min(len(list), n)] }

// cut says what was left out first of something.
type cut string

// within is atMost, and says so where something is left out.
func within[T any](c *cut, what string, list []T, n int) []T {
	if len(list) > n && *c == "" {
		*c = cut(fmt.Sprintf("%d %s, and the first %d are looked at", len(list), what, n))
	}
	return atMost(list, n)
}

func containerOf(n *tree.Node, cut *cut) blueprint.Container {
	linux := n.Get("linuxParameters").First()
	c := blueprint.Container{
		Name:             n.Get("name").AsText(),
		At:               n.At,
		Image:            n.Get("image").AsText(),
		Essential:        n.Get("essential").AsBool(),
		Privileged:       n.Get("privileged").AsBool(),
		User:             n.Get("user").AsText(),
		ReadOnlyRoot:     n.Get("readonlyRootFilesystem").AsBool(),
		CPU:              n.Get("cpu").AsText(),
		Memory:           n.Get("memory").AsText(),
		SoftMemory:       n.Get("memoryReservation").AsText(),
		AddCapabilities:  linux.Path("capabilities", "add").AsTexts(),
		DropCapabilities: linux.Path("capabilities", "drop").AsTexts(),
		Init:             linux.Get("initProcessEnabled").AsBool(),
		Command:          n.Get("command").AsTexts(),
		Entrypoint:       n.Get("entryPoint").AsTexts(),
		SecurityOptions:  n.Get("dockerSecurityOptions").AsTexts(),
		Log:              logOf(n.Get("logConfiguration").First()),
		Health:           stateOf(n.Get("healthCheck")),
	}
	if d := linux.Get("devices"); d.There() {
		c.Devices = blueprint.Texts{Is: blueprint.Known, At: d.At}
		for _, one := range within(cut, "devices", d.Each(), maxEntries) {
			c.Devices.V = append(c.Devices.V, one.Get("hostPath").AsText())
		}
	}
	for _, v := range within(cut, "tmpfs", linux.Get("tmpfs").Each(), maxEntries) {
		c.Tmpfs = append(c.Tmpfs, blueprint.Tmpfs{Path: v.Get("containerPath").AsText(), Options: v.Get("mountOptions").AsTexts(), At: v.At})
	}
	for _, v := range within(cut, "ulimits", n.Get("ulimits").Each(), maxEntries) {
		c.Ulimits = append(c.Ulimits, blueprint.Ulimit{Name: v.Get("name").AsText(), Hard: v.Get("hardLimit").AsNumber(), At: v.At})
	}
	for _, v := range within(cut, "environment entries of a container", n.Get("environment").Each(), maxEntries) {
		c.Environment = append(c.Environment, blueprint.Variable{Name: v.Get("name").AsText(), Value: v.Get("value").AsText(), At: v.At})
	}
	for _, v := range within(cut, "secrets of a container", n.Get("secrets").Each(), maxEntries) {
		c.Secrets = append(c.Secrets, blueprint.Variable{Name: v.Get("name").AsText(), Value: v.Get("valueFrom").AsText(), At: v.At})
	}
	for _, v := range within(cut, "port mappings of a container", n.Get("portMappings").Each(), maxEntries) {
		c.Ports = append(c.Ports, blueprint.Port{Container: v.Get("containerPort").AsNumber(), Host: v.Get("hostPort").AsNumber(), At: v.At})
	}
	for _, v := range within(cut, "mount points of a container", n.Get("mountPoints").Each(), maxEntries) {
		c.Mounts = append(c.Mounts, blueprint.Mount{Volume: v.Get("sourceVolume").AsText(), Path: v.Get("containerPath").AsText(),
			ReadOnly: v.Get("readOnly").AsBool(), At: v.At})
	}
	for _, v := range within(cut, "extra hosts of a container", n.Get("extraHosts").Each(), maxEntries) {
		host := v.Get("hostname").AsText()
		host.At = v.At
		c.ExtraHosts = append(c.ExtraHosts, host)
	}
	for _, v := range within(cut, "system controls of a container", n.Get("systemControls").Each(), maxEntries) {
		c.Sysctls = append(c.Sysctls, blueprint.Variable{Name: v.Get("namespace").AsText(), Value: v.Get("value").AsText(), At: v.At})
	}
	for _, v := range within(cut, "volumes of other containers", n.Get("volumesFrom").Each(), maxEntries) {
		c.From.Is = blueprint.Known
		c.From.V = append(c.From.V, v.Get("sourceContainer").AsText())
	}
	return c
}

func stateOf(n *tree.Node) blueprint.State {
	switch {
	case !n.There():
		return blueprint.Absent
	case n.IsUnknown():
		return blueprint.Unknown
	}
	return blueprint.Known
}

func logOf(n *tree.Node) blueprint.Log {
	l := blueprint.Log{Is: stateOf(n), Driver: n.Get("logDriver").AsText(), Mode: n.Get("options").Exact("mode").AsText()}
	if n != nil {
		l.At = n.At
	}
	return l
}

func volumeOf(n *tree.Node) blueprint.Volume {
	v := blueprint.Volume{Name: n.Get("name").AsText(), At: n.At, HostPath: n.Get("hostPath").AsText()}
	if v.HostPath.Absent() {
		v.HostPath = n.Path("host", "sourcePath").AsText()
	}
	if d := n.Get("dockerVolumeConfiguration").First(); d.There() && !d.IsUnknown() {
		v.Driver = d.Get("driver").AsText()
		if opts := d.Get("driverOpts"); opts != nil {
			for _, f := range atMost(opts.Fields, maxEntries) {
				v.Options = append(v.Options, blueprint.Variable{Name: blueprint.KnownText(f.Key, f.KeyAt), Value: f.Value.AsText(), At: f.KeyAt})
			}
		}
	}
	if e := n.Get("efsVolumeConfiguration").First(); e.There() && !e.IsUnknown() {
		auth := e.Get("authorizationConfig").First()
		v.EFS = &blueprint.EFS{TransitEncryption: e.Get("transitEncryption").AsText(), AccessPoint: auth.Get("accessPointId").AsText(),
			IAM: auth.Get("iam").AsText(), At: e.At}
	}
	return v
}

// serviceOf reads a service or a task set.
func serviceOf(name string, n *tree.Node, subnets map[string]bool) blueprint.Service {
	network := n.Get("networkConfiguration").First()
	if inner := network.Get("awsvpcConfiguration").First(); inner.There() {
		network = inner
	}
	breaker := n.Get("deploymentCircuitBreaker").First()
	if !breaker.There() {
		breaker = n.Path("deploymentConfiguration", "deploymentCircuitBreaker").First()
	}
	s := blueprint.Service{
		Resource:        blueprint.Resource{Name: name, At: n.At},
		Called:          n.Get("serviceName", "name").AsText(),
		Cluster:         n.Get("cluster").AsText(),
		TaskDefinition:  n.Get("taskDefinition").AsText(),
		LaunchType:      n.Get("launchType").AsText(),
		PublicIP:        publicOf(network.Get("assignPublicIp")),
		Exec:            n.Get("enableExecuteCommand").AsBool(),
		Platform:        n.Get("platformVersion").AsText(),
		Controller:      n.Path("deploymentController", "type").AsText(),
		CircuitBreaker:  breaker.Get("enable").AsBool(),
		CircuitRollback: breaker.Get("rollback").AsBool(),
		Scheduling:      n.Get("schedulingStrategy").AsText(),
	}
	for _, p := range atMost(n.Get("capacityProviderStrategy").Each(), maxEntries) {
		s.Providers.Is = blueprint.Known
		s.Providers.V = append(s.Providers.V, p.Get("capacityProvider").AsText())
	}
	for _, sub := range atMost(network.Get("subnets").Each(), maxEntries) {
		if t := sub.AsText(); t.Ref != "" && subnets[t.Ref] {
			s.PublicSubnets = append(s.PublicSubnets, blueprint.KnownText(t.Ref, t.At))
		}
	}
	return s
}

// publicOf reads ENABLED and DISABLED of the interface, and Terraform's truth.
func publicOf(n *tree.Node) blueprint.Bool {
	t := n.AsText()
	b := blueprint.Bool{Is: t.Is, At: t.At}
	switch {
	case blueprint.Is(t, "ENABLED", "true"):
		b.V = true
	case t.Known() && !blueprint.Is(t, "DISABLED", "false"):
		b.Is = blueprint.Unknown
	}
	return b
}

func clusterOf(name string, n *tree.Node) blueprint.Cluster {
	c := blueprint.Cluster{Resource: blueprint.Resource{Name: name, At: n.At}}
	settings := n.Get("clusterSettings", "setting", "settings")
	if settings.IsUnknown() {
		c.Insights.Is = blueprint.Unknown
	}
	for _, s := range atMost(settings.Each(), maxEntries) {
		switch name := s.Get("name").AsText(); {
		case blueprint.Is(name, "containerInsights"):
			c.Insights = s.Get("value").AsText()
			if c.Insights.Absent() {
				c.Insights.Is = blueprint.Unknown
			}
		case name.Is == blueprint.Unknown && c.Insights.Absent():
			c.Insights.Is = blueprint.Unknown // it may be that
		}
	}
	exec := n.Path("configuration", "executeCommandConfiguration").First()
	c.ExecLogging = exec.Get("logging").AsText()
	c.ExecKey = exec.Get("kmsKeyId").AsText()
	if log := exec.Get("logConfiguration").First(); log.There() {
		encrypted := log.Get("cloudWatchEncryptionEnabled", "cloudWatchLogEncryptionEnabled").AsBool()
		if s3 := log.Get("s3EncryptionEnabled", "s3BucketEncryptionEnabled").AsBool(); encrypted.Absent() || s3.Is != blueprint.Absent && !blueprint.IsTrue(encrypted) {
			encrypted = s3
		}
		if encrypted.Absent() { // it is off unless it is asked for
			encrypted = blueprint.Bool{Is: blueprint.Known, At: log.At}
		}
		c.ExecEncryption = encrypted
	}
	return c
}

// grantsOf reads the statements of a policy that allow something.
func grantsOf(policy *tree.Node) []blueprint.Grant { return statementsOf(policy, "Allow") }

// statementsOf reads the statements of a policy of an effect.
func statementsOf(policy *tree.Node, effect string) []blueprint.Grant {
	var out []blueprint.Grant
	for _, s := range atMost(policy.Get("Statement").Each(), maxEntries) {
		if s.Kind != tree.Map || !blueprint.Is(s.Get("Effect").AsText(), effect) {
			continue
		}
		g := blueprint.Grant{Actions: s.Get("Action", "actions").AsTexts(), NotActions: s.Get("NotAction", "not_actions").AsTexts(),
			Resources: s.Get("Resource", "resources").AsTexts(), NotResources: s.Get("NotResource", "not_resources").AsTexts(),
			Conditions: s.Get("Condition").There(), At: s.At}
		g.Principals = principalsOf(s.Get("Principal", "principals"))
		g.Keys = conditionKeys(s.Get("Condition"))
		out = append(out, g)
	}
	return out
}

// policy is what a document tells of a policy.
type policy struct {
	allows, denials []blueprint.Grant
	open            bool // it doesn't tell all
}

func policyOf(n *tree.Node) policy {
	return policy{grantsOf(n), statementsOf(n, "Deny"), openPolicy(n)}
}

// and is both.
func (p policy) and(o policy) policy {
	return policy{append(p.allows, o.allows...), append(p.denials, o.denials...), p.open || o.open}
}

// openPolicy says whether there is a policy of which the document doesn't tell all.
func openPolicy(policy *tree.Node) bool {
	if !policy.There() {
		return false
	}
	statements := policy.Get("Statement")
	if policy.Kind != tree.Map || policy.Open || !statements.There() || statements.IsUnknown() || len(statements.Each()) > maxEntries {
		return true
	}
	for _, s := range statements.Each() {
		if s.Kind != tree.Map || s.Open || !s.Get("Effect").AsText().Known() {
			return true
		}
	}
	return false
}

// conditionKeys are the keys of a statement's conditions: below their operators, or
// the variables of Terraform's blocks.
func conditionKeys(n *tree.Node) []string {
	var out []string
	for _, one := range atMost(n.Each(), maxEntries) {
		if v := one.Get("variable").AsText(); v.Known() {
			out = append(out, v.V)
			continue
		}
		for _, operator := range atMost(one.Fields, maxEntries) {
			for _, f := range atMost(operator.Value.Fields, maxEntries) {
				out = append(out, f.Key)
			}
		}
	}
	return out
}

// principalsOf flattens who is meant: "*", or lists by kind.
func principalsOf(n *tree.Node) blueprint.Texts {
	if n == nil || n.Kind != tree.Map {
		return n.AsTexts()
	}
	all := blueprint.Texts{Is: blueprint.Known, At: n.At}
	for _, f := range n.Fields {
		all.V = append(all.V, f.Value.AsTexts().V...)
	}
	return all
}

// forTasks says whether a trust policy lets tasks assume a role.
func forTasks(trust []blueprint.Grant) bool {
	for _, g := range trust {
		for _, p := range g.Principals.V {
			if p.Known() && strings.HasPrefix(p.V, "ecs-tasks.amazonaws.com") {
				return true
			}
		}
	}
	return false
}
