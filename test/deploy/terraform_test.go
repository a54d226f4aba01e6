package deploy_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyfunction "github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/test/deploy/template"
)

// module works the module of Terraform out: the language's own parser and evaluator
// with the few functions that it uses, and placeholders for what AWS would tell.
type module struct {
	t         *testing.T
	of        *pieces
	variables map[string]*hclsyntax.Block
	locals    map[string]hclsyntax.Expression
	resources map[string]*hclsyntax.Block // by address
	outputs   map[string]*hclsyntax.Block
	ctx       *hcl.EvalContext
}

func readModule(t *testing.T, of *pieces) *module {
	t.Helper()
	m := &module{t: t, of: of, variables: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{},
		resources: map[string]*hclsyntax.Block{}, outputs: map[string]*hclsyntax.Block{}}
	names, err := filepath.Glob("../../deploy/" + of.dir + "/terraform/*.tf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no module: %v", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(b, name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for _, block := range f.Body.(*hclsyntax.Body).Blocks {
			switch block.Type {
			case "variable":
				m.variables[block.Labels[0]] = block
			case "locals":
				for _, a := range block.Body.Attributes {
					m.locals[a.Name] = a.Expr
				}
			case "resource":
				m.resources[strings.Join(block.Labels, ".")] = block
			case "output":
				m.outputs[block.Labels[0]] = block
			case "data", "terraform":
			default:
				t.Errorf("%s: a %s is not known here", name, block.Type)
			}
		}
	}
	return m
}

// spelt is a name of the template as Terraform spells it.
func spelt(name string) string {
	var b strings.Builder
	for i, r := range strings.ReplaceAll(name, "CloudFormation", "Cloudformation") {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// with gives the module its settings.
func (m *module) with(s settings) {
	variables := map[string]cty.Value{}
	for name, block := range m.variables {
		if a := block.Body.Attributes["default"]; a != nil {
			variables[name] = m.value(a.Expr)
		}
	}
	for name, v := range s {
		block, ok := m.variables[spelt(name)]
		if !ok {
			m.t.Fatalf("the module has no %s", spelt(name))
		}
		given := cty.StringVal(v)
		var err error
		switch kind := hcl.ExprAsKeyword(block.Body.Attributes["type"].Expr); kind {
		case "string":
		case "bool":
			given, err = convert.Convert(given, cty.Bool)
		case "number":
			given, err = convert.Convert(given, cty.Number)
		default:
			var all []cty.Value
			for one := range strings.SplitSeq(v, ",") {
				all = append(all, cty.StringVal(one))
			}
			given = cty.ListVal(all)
		}
		if err != nil {
			m.t.Fatal(err)
		}
		variables[spelt(name)] = given
	}
	text := func(pairs ...string) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{pairs[0]: cty.StringVal(pairs[1])})})
	}
	m.ctx = &hcl.EvalContext{
		Variables: map[string]cty.Value{"var": cty.ObjectVal(variables), "data": cty.ObjectVal(map[string]cty.Value{
			"aws_partition": text("partition", inPartition), "aws_region": text("region", inRegion), "aws_caller_identity": text("account_id", inAccount)})},
		Functions: map[string]ctyfunction.Function{"jsonencode": stdlib.JSONEncodeFunc, "tostring": stdlib.MakeToFunc(cty.String),
			"length": stdlib.LengthFunc, "merge": stdlib.MergeFunc, "concat": stdlib.ConcatFunc, "upper": stdlib.UpperFunc},
	}
	m.settle()
}

// settle works locals out, and which resources there are: either may need the other.
func (m *module) settle() {
	locals := map[string]cty.Value{}
	work := func() {
		for range len(m.locals) + 1 {
			m.ctx.Variables["local"] = cty.ObjectVal(locals)
			for name, e := range m.locals {
				if v, diags := e.Value(m.ctx); !diags.HasErrors() {
					locals[name] = v
				}
			}
		}
	}
	work()
	kinds := map[string]map[string]cty.Value{}
	for address, block := range m.resources {
		kind, name, _ := strings.Cut(address, ".")
		if kinds[kind] == nil {
			kinds[kind] = map[string]cty.Value{}
		}
		v := cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal(address + ".arn"), "name": cty.StringVal(address + ".name"),
			"function_name": cty.StringVal(address + ".name"), "url": cty.StringVal(address + ".url")})
		if a := block.Body.Attributes["count"]; a != nil {
			if m.value(a.Expr).RawEquals(cty.Zero) {
				v = cty.EmptyTupleVal
			} else {
				v = cty.TupleVal([]cty.Value{v})
			}
		}
		kinds[kind][name] = v
	}
	for kind, all := range kinds {
		m.ctx.Variables[kind] = cty.ObjectVal(all)
	}
	work() // those that name resources
	if len(locals) != len(m.locals) {
		m.t.Fatalf("of the locals only %v could be worked out", cty.ObjectVal(locals).GoString())
	}
}

func (m *module) value(e hclsyntax.Expression) cty.Value {
	m.t.Helper()
	v, diags := e.Value(m.ctx)
	if diags.HasErrors() {
		m.t.Fatal(diags)
	}
	return v
}

// plain is a value as JSON has it.
func (m *module) plain(e hclsyntax.Expression) any {
	v := m.value(e)
	b, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		m.t.Fatal(err)
	}
	return m.decoded(string(b))
}

func (m *module) decoded(text string) (v any) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		m.t.Fatalf("%s: %v", text, err)
	}
	return v
}

// there says that a resource is made with these settings.
func (m *module) there(address string) bool {
	a := m.resources[address].Body.Attributes["count"]
	return a == nil || !m.value(a.Expr).RawEquals(cty.Zero)
}

// arg is an argument of a resource, or of a block in it; nil if it is not given.
func (m *module) arg(address string, path ...string) any {
	m.t.Helper()
	body := m.resources[address].Body
	for _, name := range path[:len(path)-1] {
		var inner *hclsyntax.Body
		for _, b := range body.Blocks {
			if b.Type == name {
				inner = b.Body
			}
		}
		if inner == nil {
			return nil
		}
		body = inner
	}
	if a := body.Attributes[path[len(path)-1]]; a != nil {
		return m.plain(a.Expr)
	}
	return nil
}

// accepts says that the preconditions let the settings pass.
func (m *module) accepts() bool {
	n := 0
	for address := range m.resources {
		for _, b := range m.resources[address].Body.Blocks {
			if b.Type != "lifecycle" {
				continue
			}
			for _, condition := range b.Body.Blocks {
				n++
				if m.value(condition.Body.Attributes["condition"].Expr).False() {
					return false
				}
			}
		}
	}
	return n > 0
}

// deployed is what the module comes to.
func (m *module) deployed() deployment {
	d := deployment{}
	for address := range m.resources {
		if m.there(address) {
			m.describe(d, address)
		}
	}
	return d
}

// policies are those that a role has, its own and attached ones.
func (m *module) policies(role string) (all []any) {
	for address := range m.resources {
		if !m.there(address) {
			continue
		}
		kind, _, _ := strings.Cut(address, ".")
		switch {
		case kind == "aws_iam_role_policy" && m.arg(address, "role") == role+".name":
			all = append(all, m.decoded(m.arg(address, "policy").(string)))
		case kind == "aws_iam_role_policy_attachment" && !m.of.given && m.arg(address, "role") == role+".name":
			policy := strings.TrimSuffix(m.arg(address, "policy_arn").(string), ".arn")
			all = append(all, m.decoded(m.arg(policy, "policy").(string)))
		}
	}
	return all
}

// givenTo are the names of the roles that have a policy, in order.
func (m *module) givenTo(policy string) []string {
	all := []string{}
	for address := range m.resources {
		if strings.HasPrefix(address, "aws_iam_role_policy_attachment.") && m.there(address) && m.arg(address, "policy_arn") == policy+".arn" {
			all = append(all, m.arg(address, "role").(string))
		}
	}
	slices.Sort(all)
	return all
}

// describe notes what is compared of a resource, as stack.describe does.
func (m *module) describe(d deployment, address string) {
	say := func(what string, v any) { d.say(m.t, address, what, v) }
	arg := func(path ...string) any { return m.arg(address, path...) }
	args := func(names ...string) (all []any) {
		for _, name := range names {
			all = append(all, arg(strings.Split(name, ".")...))
		}
		return all
	}
	switch kind, name, _ := strings.Cut(address, "."); kind {
	case "aws_iam_role_policy", "aws_iam_role_policy_attachment": // said of the roles
	case "aws_iam_policy": // said of the roles, unless it is given to one that is not made here
		if m.of.given {
			say("allows", grants(m.t, m.decoded(arg("policy").(string))))
			say("is given to", m.givenTo(address))
		}
	case "aws_iam_role":
		say("is assumed by", grants(m.t, m.decoded(arg("assume_role_policy").(string))))
		say("may", grants(m.t, m.policies(address)...))
		say("is had for", arg("max_session_duration"))
	case "aws_cloudwatch_log_group":
		b, err := json.Marshal(arg("retention_in_days"))
		if err != nil || arg("skip_destroy") != true {
			m.t.Errorf("%s: %v, or it is not kept", address, err)
		}
		say("is", []any{arg("name"), string(b)})
	case "aws_lambda_function":
		say("is", args("function_name", "description", "runtime", "handler", "architectures", "memory_size", "timeout",
			"reserved_concurrent_executions", "role", "s3_bucket", "s3_key"))
		say("has", arg("environment", "variables"))
		if in := args("vpc_config.subnet_ids", "vpc_config.security_group_ids"); len(list(in[0])) > 0 {
			say("is in", in)
		}
	case "aws_cloudformation_stack":
		for hook, r := range m.decoded(arg("template_body").(string)).(map[string]any)["Resources"].(map[string]any) {
			if kind := r.(map[string]any)["Type"]; kind != "AWS::CloudFormation::LambdaHook" {
				m.t.Errorf("the stack of hooks makes a %v", kind)
			}
			d.say(m.t, hook, "is", r.(map[string]any)["Properties"])
		}
	case "aws_lambda_function_event_invoke_config":
		say("is", args("function_name", "qualifier", "maximum_event_age_in_seconds", "maximum_retry_attempts", "destination_config.on_failure.destination"))
	case "aws_cloudwatch_event_rule":
		say("is", append(args("description", "state"), m.decoded(arg("event_pattern").(string))))
	case "aws_cloudwatch_event_target":
		rule := strings.TrimSuffix(arg("rule").(string), ".name")
		d.say(m.t, rule, "calls", args("target_id", "arn", "dead_letter_config.arn", "retry_policy.maximum_event_age_in_seconds", "retry_policy.maximum_retry_attempts"))
	case "aws_lambda_permission":
		say("is", args("function_name", "action", "principal", "source_arn"))
	case "aws_sqs_queue":
		say("is", args("name", "sqs_managed_sse_enabled", "message_retention_seconds", "visibility_timeout_seconds", "receive_wait_time_seconds"))
		if aside, ok := arg("redrive_policy").(string); ok {
			say("puts aside", m.decoded(aside))
		}
	case "aws_sqs_queue_policy":
		d.say(m.t, arg("queue_url").(string), "says", grants(m.t, m.decoded(arg("policy").(string))))
	case "aws_cloudwatch_metric_alarm":
		say("is", args("alarm_description", "namespace", "metric_name", "dimensions", "statistic", "period", "evaluation_periods",
			"threshold", "comparison_operator", "treat_missing_data"))
	default:
		m.t.Errorf("nothing of %s.%s is compared", kind, name)
	}
}

// byServer and byBundle are the two ways to decide.
func byServer() settings {
	return settings{"CodeBucket": "artifacts", "CodeKey": "castellan/lambda.zip", "Server": "https://castellan.internal:8600", "ServerFingerprint": "sha256:aa",
		"TokenSecret": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:castellan-x"}
}

func byBundle() settings {
	return settings{"CodeBucket": "artifacts", "CodeKey": "castellan/lambda.zip", "BundleBucket": "policies", "BundlePublicKey": "-----BEGIN PUBLIC KEY-----", "BundleMinVersion": "7"}
}

// TestModuleIsTheTemplate holds Terraform's module and CloudFormation's template
// against each other: with the same settings either gives the same rights to the
// same, and makes the same.
func TestModuleIsTheTemplate(t *testing.T) {
	tm, m := admissionPieces.template(t), readModule(t, &admissionPieces)
	for name, s := range map[string]settings{
		"by a server":             byServer(),
		"token in a parameter":    byServer().with("TokenSecret", "", "TokenParameter", "arn:aws:ssm:eu-central-1:123456789012:parameter/castellan"),
		"by a bundle":             byBundle(),
		"hooks that warn":         byServer().with("CloudFormationHook", "warn", "StackHook", "warn"),
		"one hook that fails":     byServer().with("CloudFormationHook", "fail"),
		"the other that fails":    byServer().with("StackHook", "fail"),
		"reaction that reports":   byServer().with("Reaction", "report", "Spared", "shop/db"),
		"reaction that stops":     byBundle().with("Reaction", "stop", "OnError", "allow"),
		"in a VPC":                byServer().with("Subnets", "subnet-1,subnet-2", "SecurityGroups", "sg-1", "Reaction", "stop"),
		"IAM is not asked":        byServer().with("ReadRoles", "false", "Reaction", "report", "Repositories", "shop/*"),
		"in a VPC, without roles": byBundle().with("ReadRoles", "false", "Subnets", "subnet-1", "SecurityGroups", "sg-1,sg-2", "Reaction", "stop", "Architecture", "x86_64", "LogDays", "30"),
	} {
		t.Run(name, func(t *testing.T) {
			k := stack{t, &admissionPieces, tm, s}
			m.t = t
			m.with(s)
			if !k.accepts() || !m.accepts() {
				t.Fatalf("the settings pass in the template: %v, and in the module: %v", k.accepts(), m.accepts())
			}
			want, got := k.deployed(), m.deployed()
			if len(want) < 6 {
				t.Fatalf("the template comes to %v", want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-template +module:\n%s", diff)
			}
		})
	}
}

// TestModuleRefusesWhatTheTemplateRefuses: settings by which nothing, or not clear
// what, would decide.
func TestModuleRefusesWhatTheTemplateRefuses(t *testing.T) {
	tm, m := admissionPieces.template(t), readModule(t, &admissionPieces)
	for name, s := range map[string]settings{
		"nothing decides":           byServer().with("Server", "", "TokenSecret", ""),
		"both decide":               byServer().with("BundleBucket", "policies", "BundlePublicKey", "key"),
		"a bundle without a key":    byBundle().with("BundlePublicKey", ""),
		"a server without a token":  byServer().with("TokenSecret", ""),
		"a server with two of them": byServer().with("TokenParameter", "arn:aws:ssm:eu-central-1:123456789012:parameter/castellan"),
	} {
		t.Run(name, func(t *testing.T) {
			k := stack{t, &admissionPieces, tm, s}
			m.t = t
			m.with(s)
			if k.accepts() || m.accepts() {
				t.Errorf("the settings pass in the template: %v, and in the module: %v", k.accepts(), m.accepts())
			}
		})
	}
}

// TestModuleHasTheTemplatesSettings: none is missing on either side, defaults are the
// same, and so are outputs.
func TestModuleHasTheTemplatesSettings(t *testing.T) {
	sameSettings(t, admissionPieces.template(t), readModule(t, &admissionPieces))
}

func sameSettings(t *testing.T, tm template.Template, m *module) {
	t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for name, p := range tm.Parameters {
		want[spelt(name)] = "required"
		if n := template.Field(&p, "Default"); n != nil {
			want[spelt(name)] = n.Value
		}
	}
	for name, block := range m.variables {
		a := block.Body.Attributes["default"]
		switch {
		case name == "name": // CloudFormation has the stack's
		case a == nil:
			got[name] = "required"
		case m.value(a.Expr).Type().IsTupleType():
			got[name] = ""
		default:
			v, err := convert.Convert(m.value(a.Expr), cty.String)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = v.AsString()
		}
	}
	for name := range tm.Outputs {
		want["output "+spelt(name)] = ""
	}
	for name := range m.outputs {
		got["output "+name] = ""
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-template +module:\n%s", diff)
	}
}

// TestRulesForRolesPassTheModule: the rules for roles of tasks have nothing against what
// the functions' roles may do. What the scanner says of all of deploy/ is in cmd/castellan.
func TestRulesForRolesPassTheModule(t *testing.T) {
	all, err := admit.Builtins()
	if err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nmode: enforce\nrules:\n"
	for _, b := range all {
		if strings.HasPrefix(b.ID, "role-") && b.ID != "role-actions" {
			text += "  - use: " + b.ID + "\n"
		}
	}
	p, err := admit.Read([]byte(text), "roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := readModule(t, &admissionPieces)
	m.with(byServer().with("Subnets", "subnet-1", "SecurityGroups", "sg-1", "Reaction", "stop", "StackHook", "fail"))
	for address := range m.resources {
		if kind, _, _ := strings.Cut(address, "."); kind != "aws_iam_role" {
			continue
		}
		role := admission.Role{Use: "task", ARN: address, Known: true}
		for _, document := range m.policies(address) {
			b, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			role.Policies = append(role.Policies, b)
		}
		r := admission.Request{ID: "1", Action: admission.Run, Door: admission.CI, Task: admission.Task{Roles: []admission.Role{role}}}
		if v := p.Decide(context.Background(), &r, admit.Given{Now: time.Now()}); !v.Allowed() || len(role.Policies) == 0 {
			t.Errorf("%s: %+v", address, v)
		}
	}
}
