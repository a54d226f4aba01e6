package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/test/deploy/template"
)

// The account, region and name by which deployments are worked out.
const (
	inPartition = "aws"
	inRegion    = "eu-central-1"
	inAccount   = "123456789012"
)

// settings are parameters of the template, by their names there. Those that are
// missing have their defaults.
type settings map[string]string

// deployment is what a template or a module comes to with some settings: each line
// says one thing of one resource, by its address in the module.
type deployment map[string]string

// say notes something in one form, whatever the order of its members.
func (d deployment) say(t *testing.T, address, what string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d[address+" "+what] = string(b)
}

// grants are the statements of policies, one line for each action and resource, so
// that it makes no difference how they are gathered.
func grants(t *testing.T, documents ...any) []string {
	t.Helper()
	var out []string
	for _, d := range documents {
		document, ok := d.(map[string]any)
		if !ok {
			t.Fatalf("%v is no policy", d)
		}
		for _, one := range list(document["Statement"]) {
			s := one.(map[string]any)
			for key := range s {
				if !slices.Contains([]string{"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}, key) {
					t.Errorf("the statement %v says %s, which is not compared", s, key)
				}
			}
			rest, err := json.Marshal([]any{s["Principal"], s["Condition"]})
			if err != nil {
				t.Fatal(err)
			}
			resources := list(s["Resource"])
			if len(resources) == 0 {
				resources = []any{"itself"} // of a role's trust
			}
			for _, action := range list(s["Action"]) {
				for _, resource := range resources {
					out = append(out, fmt.Sprint(s["Effect"], " ", action, " on ", resource, " ", string(rest)))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// list is a value that may stand for a list of one.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// absent is the value of AWS::NoValue.
type absent struct{}

// stack works the template out.
type stack struct {
	t  *testing.T
	of *pieces
	tm template.Template
	s  settings
}

// pieces are a template and a module that make the same, below deploy/.
type pieces struct {
	dir  string
	name string // of the stack, and what the module's names begin with
	// given says that policies may be given to roles that are not made here: it is said
	// of them to whom.
	given bool
	// addresses are the resources of the module that stand for those of the template.
	addresses map[string]string
}

var admissionPieces = pieces{dir: "admission", name: "castellan-admission", addresses: map[string]string{
	"ReadPolicy": "aws_iam_policy.read", "RolesPolicy": "aws_iam_policy.roles", "NetworkPolicy": "aws_iam_policy.network",
	"GateLog": "aws_cloudwatch_log_group.gate", "GateRole": "aws_iam_role.gate", "Gate": "aws_lambda_function.gate",
	"DeploymentHookRole": "aws_iam_role.deployment_hook", "TemplateHookRole": "aws_iam_role.template_hook",
	"ResourceHook": "ResourceHook", "WholeStackHook": "WholeStackHook",
	"ReactionLog": "aws_cloudwatch_log_group.reaction", "ReactionRole": "aws_iam_role.reaction", "ReactionFunction": "aws_lambda_function.reaction",
	"ReactionRetries": "aws_lambda_function_event_invoke_config.reaction", "TaskStarts": "aws_cloudwatch_event_rule.task_starts",
	"RuleCalls": "aws_lambda_permission.rule_calls", "Failed": "aws_sqs_queue.failed", "FailedPolicy": "aws_sqs_queue_policy.failed",
	"FailedAlarm": "aws_cloudwatch_metric_alarm.failed",
}}

// template reads the template.
func (p *pieces) template(t *testing.T) template.Template {
	t.Helper()
	tm, err := template.Read("../../deploy/" + p.dir + "/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

// ref is what Ref and Sub put for a name.
func (k *stack) ref(name string) any {
	switch name {
	case "AWS::Partition":
		return inPartition
	case "AWS::Region":
		return inRegion
	case "AWS::AccountId":
		return inAccount
	case "AWS::StackName":
		return k.of.name
	case "AWS::NoValue":
		return absent{}
	}
	if p, ok := k.tm.Parameters[name]; ok {
		v, given := k.s[name]
		if n := template.Field(&p, "Default"); n != nil && !given {
			v = n.Value
		}
		if template.Field(&p, "Type").Value != "CommaDelimitedList" {
			return v
		}
		all := []any{}
		for one := range strings.SplitSeq(v, ",") {
			if one != "" || strings.Contains(v, ",") {
				all = append(all, one)
			}
		}
		return all
	}
	switch address := k.of.addresses[name]; k.tm.Resources[name].Type {
	case "AWS::IAM::ManagedPolicy":
		return address + ".arn"
	case "AWS::IAM::Role":
		return address + ".name"
	case "AWS::SQS::Queue":
		return address + ".url"
	case "AWS::Lambda::Function":
		return address + ".name"
	}
	k.t.Fatalf("%s can't be referred to", name)
	return nil
}

// value works a value of the template out.
func (k *stack) value(n *yaml.Node) any {
	switch n.Tag {
	case "!Ref":
		return k.ref(n.Value)
	case "!GetAtt":
		name, attribute, _ := strings.Cut(n.Value, ".")
		switch {
		case attribute == "QueueName":
			return k.of.addresses[name] + ".name"
		case k.tm.Resources[name].Type == "AWS::Logs::LogGroup":
			return k.of.addresses[name] + ".arn:*"
		}
		return k.of.addresses[name] + ".arn"
	case "!Sub":
		var b strings.Builder
		for rest := n.Value; ; {
			before, after, ok := strings.Cut(rest, "${")
			b.WriteString(before)
			if !ok {
				return b.String()
			}
			name, more, _ := strings.Cut(after, "}")
			fmt.Fprint(&b, k.ref(name))
			rest = more
		}
	case "!If":
		if k.holds(n.Content[0].Value) {
			return k.value(n.Content[1])
		}
		return k.value(n.Content[2])
	case "!Join":
		var words []string
		for _, v := range list(k.value(n.Content[1])) {
			words = append(words, fmt.Sprint(v))
		}
		return strings.Join(words, n.Content[0].Value)
	case "!Equals", "!Not", "!And", "!Or":
		return k.truth(n)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		all := []any{}
		for _, c := range n.Content {
			if v := k.value(c); v != any(absent{}) {
				all = append(all, v)
			}
		}
		return all
	case yaml.MappingNode:
		all := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			if v := k.value(n.Content[i+1]); v != (absent{}) {
				all[n.Content[i].Value] = v
			}
		}
		return all
	}
	var v any
	if err := n.Decode(&v); err != nil {
		k.t.Fatal(err)
	}
	return v
}

// truth works a condition out.
func (k *stack) truth(n *yaml.Node) bool {
	switch n.Tag {
	case "!Equals":
		return fmt.Sprint(k.value(n.Content[0])) == fmt.Sprint(k.value(n.Content[1]))
	case "!Not":
		return !k.truth(n.Content[0])
	case "!And":
		return !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return !k.truth(c) })
	case "!Or":
		return slices.ContainsFunc(n.Content, k.truth)
	}
	k.t.Fatalf("line %d: %s is no condition", n.Line, n.Tag)
	return false
}

func (k *stack) holds(condition string) bool {
	n, ok := k.tm.Conditions[condition]
	return condition == "" || ok && k.truth(&n)
}

// accepts says that the rules of the template let the settings pass.
func (k *stack) accepts() bool {
	for _, r := range k.tm.Rules {
		if r.RuleCondition.Kind != 0 && !k.truth(&r.RuleCondition) {
			continue
		}
		for _, a := range r.Assertions {
			if !k.truth(&a.Assert) {
				return false
			}
		}
	}
	return true
}

// deployed is what the template comes to.
func (k *stack) deployed() deployment {
	d := deployment{}
	for name, r := range k.tm.Resources {
		address, ok := k.of.addresses[name]
		if !ok {
			k.t.Errorf("%s of the template is not compared", name)
		}
		if k.holds(r.Condition) {
			k.describe(d, address, r.Type, k.value(&r.Properties).(map[string]any))
		}
	}
	return d
}

// describe notes what is compared of a resource.
func (k *stack) describe(d deployment, address, kind string, p map[string]any) {
	say := func(what string, v any) { d.say(k.t, address, what, v) }
	switch kind {
	case "AWS::IAM::RolePolicy": // said of its role
	case "AWS::IAM::ManagedPolicy": // what it allows is said of the roles that have it
		if k.of.given {
			say("allows", grants(k.t, p["PolicyDocument"]))
			roles := []string{}
			for _, role := range list(p["Roles"]) {
				roles = append(roles, role.(string))
			}
			slices.Sort(roles)
			say("is given to", roles)
		}
	case "AWS::IAM::Role":
		say("is assumed by", grants(k.t, p["AssumeRolePolicyDocument"]))
		var all []any
		for _, inline := range list(p["Policies"]) {
			all = append(all, inline.(map[string]any)["PolicyDocument"])
		}
		for _, arn := range list(p["ManagedPolicyArns"]) {
			for name, r := range k.tm.Resources {
				if k.of.addresses[name]+".arn" == arn {
					all = append(all, k.value(template.Field(&r.Properties, "PolicyDocument")))
				}
			}
		}
		for _, r := range k.tm.Resources {
			if r.Type == "AWS::IAM::RolePolicy" && k.holds(r.Condition) && k.value(template.Field(&r.Properties, "RoleName")) == address+".name" {
				all = append(all, k.value(template.Field(&r.Properties, "PolicyDocument")))
			}
		}
		say("may", grants(k.t, all...))
		say("is had for", p["MaxSessionDuration"])
	case "AWS::Logs::LogGroup":
		say("is", []any{p["LogGroupName"], fmt.Sprint(p["RetentionInDays"])})
	case "AWS::Lambda::Function":
		code := p["Code"].(map[string]any)
		say("is", []any{p["FunctionName"], p["Description"], p["Runtime"], p["Handler"], p["Architectures"], p["MemorySize"], p["Timeout"],
			p["ReservedConcurrentExecutions"], p["Role"], code["S3Bucket"], code["S3Key"]})
		say("has", p["Environment"].(map[string]any)["Variables"])
		if v, ok := p["VpcConfig"].(map[string]any); ok {
			say("is in", []any{v["SubnetIds"], v["SecurityGroupIds"]})
		}
	case "AWS::CloudFormation::LambdaHook":
		say("is", p)
	case "AWS::Lambda::EventInvokeConfig":
		say("is", []any{p["FunctionName"], p["Qualifier"], p["MaximumEventAgeInSeconds"], p["MaximumRetryAttempts"],
			p["DestinationConfig"].(map[string]any)["OnFailure"].(map[string]any)["Destination"]})
	case "AWS::Events::Rule":
		say("is", []any{p["Description"], p["State"], p["EventPattern"]})
		for _, one := range list(p["Targets"]) {
			target := one.(map[string]any)
			retry, _ := target["RetryPolicy"].(map[string]any)
			aside, _ := target["DeadLetterConfig"].(map[string]any)
			say("calls", []any{target["Id"], target["Arn"], aside["Arn"], retry["MaximumEventAgeInSeconds"], retry["MaximumRetryAttempts"]})
		}
	case "AWS::Lambda::Permission":
		say("is", []any{p["FunctionName"], p["Action"], p["Principal"], p["SourceArn"]})
	case "AWS::SQS::Queue":
		say("is", []any{p["QueueName"], p["SqsManagedSseEnabled"], p["MessageRetentionPeriod"], p["VisibilityTimeout"], p["ReceiveMessageWaitTimeSeconds"]})
		if aside := p["RedrivePolicy"]; aside != nil {
			say("puts aside", aside)
		}
	case "AWS::SQS::QueuePolicy":
		for _, queue := range p["Queues"].([]any) {
			d.say(k.t, queue.(string), "says", grants(k.t, p["PolicyDocument"]))
		}
	case "AWS::CloudWatch::Alarm":
		of := map[string]any{}
		for _, one := range list(p["Dimensions"]) {
			of[one.(map[string]any)["Name"].(string)] = one.(map[string]any)["Value"]
		}
		say("is", []any{p["AlarmDescription"], p["Namespace"], p["MetricName"], of, p["Statistic"], p["Period"], p["EvaluationPeriods"],
			p["Threshold"], p["ComparisonOperator"], p["TreatMissingData"]})
	default:
		k.t.Errorf("%s: nothing of a %s is compared", address, kind)
	}
}

// with are settings with some more.
func (s settings) with(pairs ...string) settings {
	out := maps.Clone(s)
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}
