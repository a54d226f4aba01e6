package iac_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/iac"
)

// lines returns "file:line check container subject" of what is found by some
// checks.
func lines(r iac.Result, checks ...string) []string {
	var out []string
	for _, f := range r.Faults {
		if slices.Contains(checks, f.Check) {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s %s", f.File, f.Start.Line, f.Check, f.Resource, f.Subject)))
		}
	}
	return out
}

// Each format tells the same faults, each at its own line.
func TestFormats(t *testing.T) {
	for _, tc := range []struct {
		name, file, text string
		want             []string
	}{
		{"what register-task-definition takes", "task.json", `{
  "family": "shop",
  "networkMode": "host",
  "containerDefinitions": [
    {
      "name": "web",
      "image": "shop/web",
      "privileged": true,
      "environment": [
        {"name": "LOG", "value": "debug"},
        {"name": "DB_PASSWORD", "value": "hunter2hunter2"}
      ]
    }
  ]
}`, []string{"task.json:3 CAST-TASK-002 shop", "task.json:7 CAST-TASK-019 shop shop/web", "task.json:8 CAST-TASK-001 shop", "task.json:11 CAST-TASK-016 shop environment DB_PASSWORD"}},
		{"what describe-task-definition returns, after a mark of byte order", "d.json", "\ufeff{\"taskDefinition\": {\"family\": \"shop\", \"revision\": 3,\n\"networkMode\": \"host\",\n\"containerDefinitions\": [{\"name\": \"web\", \"image\": \"a:1\"}]}}",
			[]string{"d.json:2 CAST-TASK-002 shop:3"}},
		{"CloudFormation in YAML", "stack.yaml", `AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Mode: {Type: String, Default: host}
  Secret: {Type: String, NoEcho: true, Default: hunter2hunter2}
Conditions:
  Never: !Equals [!Ref Mode, none]
Resources:
  Web:
    Type: AWS::ECS::TaskDefinition
    Properties:
      Family: shop
      NetworkMode: !Ref Mode
      ContainerDefinitions:
        - Name: web
          Image: !Sub "${AWS::AccountId}.dkr.ecr.${AWS::Region}.amazonaws.com/web:latest"
          Privileged: !If [Never, false, true]
          Environment:
            - Name: API_TOKEN
              Value: !Ref Secret
            - Name: DB_PASSWORD
              Value: !Join ["", [hunter2, hunter2]]
  Gone:
    Type: AWS::ECS::TaskDefinition
    Condition: Never
    Properties:
      NetworkMode: host
`, []string{"stack.yaml:12 CAST-TASK-002 Resources.Web", "stack.yaml:15 CAST-TASK-019 Resources.Web ${AWS::AccountId}.dkr.ecr.${AWS::Region}.amazonaws.com/web:latest",
			"stack.yaml:16 CAST-TASK-001 Resources.Web", "stack.yaml:21 CAST-TASK-016 Resources.Web environment DB_PASSWORD"}},
		{"CloudFormation in JSON, as the CDK writes it", "Shop.template.json", `{
 "Mappings": {"M": {"prod": {"mode": "host"}}},
 "Resources": {
  "Web": {
   "Type": "AWS::ECS::TaskDefinition",
   "Properties": {
    "NetworkMode": {"Fn::FindInMap": ["M", "prod", "mode"]},
    "PidMode": {"Fn::ImportValue": "mode"},
    "IpcMode": {"Ref": "AWS::NoValue"},
    "ContainerDefinitions": [{"Name": "web", "Image": "a:1",
     "Privileged": true}]
   }
  }
 }
}`, []string{"Shop.template.json:7 CAST-TASK-002 Resources.Web", "Shop.template.json:11 CAST-TASK-001 Resources.Web"}},
		{"Terraform with jsonencode, locals and variables", "main.tf", `variable "mode" {
  default = "host"
}
variable "given" {}
locals {
  web = {
    name       = "web"
    image      = "shop/web:${var.given}"
    privileged = true
    environment = [
      { name = "DB_PASSWORD", value = "hunter2hunter2" },
      { name = "API_TOKEN", value = var.given },
    ]
  }
}
resource "aws_ecs_task_definition" "web" {
  network_mode          = var.mode
  pid_mode              = var.given
  container_definitions = jsonencode([merge(local.web, { memory = 128 })])
}
`, []string{"main.tf:9 CAST-TASK-001 aws_ecs_task_definition.web", "main.tf:11 CAST-TASK-016 aws_ecs_task_definition.web environment DB_PASSWORD", "main.tf:17 CAST-TASK-002 aws_ecs_task_definition.web"}},
		{"Terraform with a heredoc", "main.tf", `resource "aws_ecs_task_definition" "web" {
  container_definitions = <<EOF
[
  {
    "name": "web",
    "image": "shop/web:latest",
    "privileged": true
  }
]
EOF
}
`, []string{"main.tf:6 CAST-TASK-019 aws_ecs_task_definition.web shop/web:latest", "main.tf:7 CAST-TASK-001 aws_ecs_task_definition.web"}},
		{"Terraform with a heredoc of which some is unknown", "main.tf", `variable "v" {}
resource "aws_ecs_task_definition" "web" {
  container_definitions = <<-EOF
    [{
      "name": "web", "cpu": ${var.v},
      "image": "${var.v}/web:latest",
      "privileged": ${var.v},
      "environment": [
        {"name": "DB_PASSWORD", "value": "${var.v}"},
        {"name": "API_TOKEN", "value": "hunter2hunter2"}
      ]
    }]
  EOF
}
`, []string{"main.tf:6 CAST-TASK-019 aws_ecs_task_definition.web ${…}/web:latest", "main.tf:10 CAST-TASK-016 aws_ecs_task_definition.web environment API_TOKEN"}},
		{"Terraform in JSON", "main.tf.json", `{
  "variable": {"mode": {"default": "host"}},
  "resource": {"aws_ecs_task_definition": {"web": {
    "network_mode": "${var.mode}",
    "container_definitions": "${jsonencode([{name = \"web\", image = \"a:1\", privileged = true}])}"
  }}}
}`, []string{"main.tf.json:4 CAST-TASK-002 aws_ecs_task_definition.web", "main.tf.json:5 CAST-TASK-001 aws_ecs_task_definition.web"}},
		{"plan", "plan.json", `{"format_version": "1.2",
 "planned_values": {"root_module": {"child_modules": [{"address": "module.shop", "resources": [
  {"address": "module.shop.aws_ecs_task_definition.web[0]", "mode": "managed", "type": "aws_ecs_task_definition", "name": "web", "values": {
   "network_mode": "host",
   "pid_mode": "host",
   "container_definitions": "[{\"name\":\"web\",\"image\":\"a:1\",\"privileged\":true}]"}}
 ]}]}},
 "resource_changes": [{"address": "module.shop.aws_ecs_task_definition.web[0]", "change": {"after_unknown": {"pid_mode": true, "task_role_arn": true}}}]
}`, []string{"plan.json:4 CAST-TASK-002 module.shop.aws_ecs_task_definition.web[0]", "plan.json:6 CAST-TASK-001 module.shop.aws_ecs_task_definition.web[0]"}},
		{"compose", "compose.yml", `x-base: &base
  privileged: true
services:
  web:
    <<: *base
    image: shop/web:latest
    network_mode: ${MODE:-host}
    pid: ${PID}
    environment:
      DB_PASSWORD: hunter2hunter2
      API_TOKEN: ${API_TOKEN}
    volumes:
      - ./data:/data
      - /var/run/docker.sock:/var/run/docker.sock:ro
`, []string{"compose.yml:2 CAST-TASK-001 services.web", "compose.yml:6 CAST-TASK-019 services.web shop/web:latest", "compose.yml:7 CAST-TASK-002 services.web",
			"compose.yml:10 CAST-TASK-016 services.web environment DB_PASSWORD", "compose.yml:14 CAST-TASK-010 services.web /var/run/docker.sock"}},
		{"Dockerfile with stages", "Dockerfile", `ARG TAG=latest
FROM golang:${TAG} AS build
RUN set -eu; \
  # a comment within
  curl -fsSL https://example.org/install.sh | sh
FROM build AS test
FROM scratch
COPY --from=build /app /app
USER 0:0
`, []string{"Dockerfile:2 CAST-IMAGE-002 Dockerfile golang:latest", "Dockerfile:3 CAST-IMAGE-012 Dockerfile set -eu; curl -fsSL https://example.org/install.sh | sh", "Dockerfile:9 CAST-IMAGE-001 Dockerfile"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scan(t, map[string]string{tc.file: tc.text})
			if len(r.Problems) > 0 || r.Files != 1 {
				t.Errorf("%d files, problems %v", r.Files, r.Problems)
			}
			got := lines(r, "CAST-TASK-001", "CAST-TASK-002", "CAST-TASK-003", "CAST-TASK-004", "CAST-TASK-010", "CAST-TASK-016", "CAST-TASK-019", "CAST-IMAGE-001", "CAST-IMAGE-002", "CAST-IMAGE-012")
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

// A module is read as it is called, with what stands in files beside it, and not
// once more by itself.
func TestModules(t *testing.T) {
	r := scan(t, map[string]string{
		"main.tf": `module "web" {
  source = "./modules/task"
  mode   = "host"
  role   = "arn:aws:iam::1:role/a"
}
module "api" {
  source = "./modules/task"
  mode   = "awsvpc"
}
module "far" {
  source = "terraform-aws-modules/ecs/aws"
}`,
		"terraform.tfvars": `unused = 1`,
		"modules/task/main.tf": `variable "mode" {}
variable "role" { default = "" }
resource "aws_ecs_task_definition" "this" {
  network_mode          = var.mode
  container_definitions = file("${path.module}/containers.json")
}
resource "aws_ecs_task_definition" "outside" {
  container_definitions = file("../../../../etc/passwd")
}`,
		"modules/task/containers.json": "[{\"name\": \"web\", \"image\": \"a:1\",\n\"privileged\": true}]",
		".terraform/modules/x/main.tf": `resource "aws_ecs_task_definition" "x" { network_mode = "host" }`,
		"node_modules/a/Dockerfile":    "FROM a\n",
	})
	want := []string{"modules/task/containers.json:2 CAST-TASK-001 module.web.aws_ecs_task_definition.this",
		"modules/task/containers.json:2 CAST-TASK-001 module.api.aws_ecs_task_definition.this",
		"modules/task/main.tf:4 CAST-TASK-002 module.web.aws_ecs_task_definition.this"}
	got := lines(r, "CAST-TASK-001", "CAST-TASK-002", "CAST-IMAGE-002")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
	if len(r.Problems) > 0 {
		t.Errorf("problems: %v", r.Problems)
	}
}

// Of a module that is not here only what is handed to it is known: its own
// defaults may be better than those of ECS.
func TestModulesOfRegistries(t *testing.T) {
	r := scan(t, map[string]string{"main.tf": `module "ecs" {
  source = "terraform-aws-modules/ecs/aws"
  services = {
    web = {
      container_definitions = {
        app = {
          image                    = "shop/web:latest"
          readonly_root_filesystem = false
          environment              = [{ name = "DB_PASSWORD", value = "hunter2hunter2" }]
        }
      }
    }
  }
}
module "task" {
  source                    = "cloudposse/ecs-alb-service-task/aws"
  container_definition_json = jsonencode([{ name = "a", privileged = true }])
}
module "other" {
  source = "git::https://example.org/x"
  name   = "x"
}
`})
	var got []string
	for _, f := range r.Faults {
		got = append(got, fmt.Sprintf("%d %s %s/%s", f.Start.Line, f.Check, f.Resource, f.Container))
	}
	if diff := cmp.Diff(got, []string{
		"7 CAST-TASK-019 module.ecs.services.web/app", "8 CAST-TASK-013 module.ecs.services.web/app", "9 CAST-TASK-016 module.ecs.services.web/app", "17 CAST-TASK-001 module.task/a",
	}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// What is unknown is never a fault.
func TestUnknownIsNoFault(t *testing.T) {
	for file, text := range map[string]string{
		"main.tf": `variable "v" {}
resource "aws_ecs_task_definition" "web" {
  network_mode             = var.v
  pid_mode                 = data.x.y.z
  task_role_arn            = module.roles.a
  execution_role_arn       = module.roles.b
  requires_compatibilities = var.v
  memory                   = var.v
  cpu                      = var.v
  container_definitions    = templatefile("x.tpl", {})
}
resource "aws_ecs_task_definition" "api" {
  task_role_arn            = var.v
  execution_role_arn       = var.v
  memory                   = var.v
  cpu                      = var.v
  requires_compatibilities = var.v
  container_definitions    = jsonencode([merge(var.v, { name = "a" })])
}
resource "aws_ecs_service" "web" {
  network_configuration { assign_public_ip = var.v }
  enable_execute_command = var.v
  platform_version       = var.v
  deployment_circuit_breaker {
    enable = var.v
    rollback = var.v
  }
}
resource "aws_ecs_cluster" "c" {
  setting {
    name = "containerInsights"
    value = var.v
  }
}
resource "aws_ecs_cluster" "d" {
  setting {
    name = var.v
    value = "enabled"
  }
}
resource "aws_ecs_task_definition" "somewhere" {
  cpu                      = var.v
  memory                   = var.v
  requires_compatibilities = [var.v]
}
resource "aws_ecs_task_definition" "anywhere" {
  cpu                      = var.v
  memory                   = var.v
  requires_compatibilities = var.v
}
`,
		"t.yaml": `Parameters: {V: {Type: String}}
Resources:
  T:
    Type: AWS::ECS::TaskDefinition
    Properties:
      NetworkMode: !Ref V
      Memory: !Ref V
      Cpu: !Ref V
      TaskRoleArn: !Ref V
      ExecutionRoleArn: !ImportValue x
      RequiresCompatibilities: [!Ref V]
      ContainerDefinitions: !Ref V
  S:
    Type: AWS::ECS::Service
    Properties:
      DeploymentConfiguration: !Ref V
      NetworkConfiguration: !Ref V
`,
	} {
		r := scan(t, map[string]string{file: text})
		if len(r.Faults) > 0 || len(r.Problems) > 0 || r.Files != 1 {
			t.Errorf("%s: %d files, %v, problems %v", file, r.Files, r.Faults, r.Problems)
		}
	}
}

// Comments accept with a reason, for their line, their container or their
// resource; what they lack is told.
func TestComments(t *testing.T) {
	r := scan(t, map[string]string{
		"main.tf": `# castellan:ignore=CAST-TASK-002 the agent listens on loopback
resource "aws_ecs_task_definition" "web" {
  network_mode = "host"
  pid_mode     = "host" # castellan:ignore=CKV_AWS_335 until=2027-01-31 it watches processes
  ipc_mode     = "host" // castellan:ignore=CAST-TASK-004
  container_definitions = jsonencode([{
    name = "web"
    # castellan:ignore=CAST-TASK-001 until=2026-01-31 was so once
    privileged = true
  }])
}`,
		"compose.yaml": `services:
  # castellan:ignore=CAST-TASK-001,CAST-TASK-010 a runner of builds
  runner:
    image: a:1
    privileged: true
    volumes: ["/var/run/docker.sock:/s"]
  other:
    image: a:1
    privileged: true
`,
	})
	accepted := map[string]string{}
	for _, f := range r.Faults {
		if slices.Contains([]string{"CAST-TASK-001", "CAST-TASK-002", "CAST-TASK-003", "CAST-TASK-004", "CAST-TASK-010"}, f.Check) {
			said := "-"
			if f.Accepted != nil {
				said = f.Accepted.Reason
				if !f.Accepted.Expires.IsZero() {
					said += f.Accepted.Expires.Format(" 2006-01-02")
				}
			}
			accepted[f.File+" "+f.Resource+" "+f.Check] = said
		}
	}
	if diff := cmp.Diff(accepted, map[string]string{
		"main.tf aws_ecs_task_definition.web CAST-TASK-001": "-",
		"main.tf aws_ecs_task_definition.web CAST-TASK-002": "the agent listens on loopback",
		"main.tf aws_ecs_task_definition.web CAST-TASK-003": "it watches processes 2027-02-01",
		"main.tf aws_ecs_task_definition.web CAST-TASK-004": "-",
		"compose.yaml services.runner CAST-TASK-001":        "a runner of builds",
		"compose.yaml services.runner CAST-TASK-010":        "a runner of builds",
		"compose.yaml services.other CAST-TASK-001":         "-",
	}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
	var problems []string
	for _, p := range r.Problems {
		problems = append(problems, p.String())
	}
	if diff := cmp.Diff(problems, []string{
		"main.tf: line 5: castellan:ignore=CAST-TASK-004 gives no reason, and accepts nothing",
		"main.tf: line 8: castellan:ignore=CAST-TASK-001 held until 2026-01-31, and accepts nothing any more",
	}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// Fingerprints stay when lines move, and are of one fault each.
func TestFingerprints(t *testing.T) {
	text := `[{"family": "a", "containerDefinitions": [{"name": "web", "image": "a", "extraHosts": [{"hostname": "x", "ipAddress": "1"}, {"hostname": "x", "ipAddress": "2"}]}]}]`
	prints := func(text string) []string {
		var out []string
		for _, f := range scan(t, map[string]string{"task.json": text}).Faults {
			out = append(out, f.Fingerprint)
		}
		slices.Sort(out)
		return out
	}
	first := prints(text)
	if diff := cmp.Diff(first, prints("\n\n"+strings.ReplaceAll(text, ", ", ",\n"))); diff != "" {
		t.Errorf("other lines, other fingerprints: %s", diff)
	}
	if n := len(slices.Compact(slices.Clone(first))); n != len(first) || n == 0 {
		t.Errorf("%d fingerprints of %d faults", n, len(first))
	}
}

// A file that somebody names is read whatever it is called; one that is nothing
// that is known, or damaged, is told.
func TestSingleFiles(t *testing.T) {
	files := fstest.MapFS{
		"build/image.docker":    {Data: []byte("# syntax=x\nFROM a\n")},
		"td":                    {Data: []byte(`{"containerDefinitions": [{"name": "a", "image": "a"}]}`)},
		"notes.txt":             {Data: []byte("hello\n")},
		"queue.yaml":            {Data: []byte("AWSTemplateFormatVersion: \"2010-09-09\"\nResources:\n  Q: {Type: AWS::SQS::Queue}\n")},
		"bad.json":              {Data: []byte("{\"containerDefinitions\": [\n}")},
		"broken/broken.tf":      {Data: []byte("resource \"aws_ecs_service\" \"a\" {\n  enable_execute_command = true\n}\nresource {{\n")},
		"main.tf":               {Data: []byte("variable \"x\" { default = true }\n")},
		"service.tf":            {Data: []byte("resource \"aws_ecs_service\" \"b\" {\n  enable_execute_command = var.x\n}\n")},
		"Dockerfile.bad":        {Data: []byte("hello\n")},
		"values.yaml":           {Data: []byte("services: [\n")},
		"long/Dockerfile.empty": {Data: []byte("\n")},
	}
	for _, tc := range []struct {
		name    string
		files   int
		problem string
		finds   string
	}{
		{"build/image.docker", 1, "", "CAST-IMAGE-002"},
		{"td", 1, "", "CAST-TASK-019"},
		{"notes.txt", 0, "neither a task definition", ""},
		{"queue.yaml", 0, "it is a template of CloudFormation in which nothing says how containers are run", ""},
		{"bad.json", 0, "line 2: invalid character '}'", ""},
		{"broken/broken.tf", 1, "line 4: ", "CAST-SERVICE-003"},
		{"service.tf", 1, "", "CAST-SERVICE-003"},
		{"Dockerfile.bad", 0, `line 1: "HELLO" is no instruction`, ""},
		{"values.yaml", 0, "yaml: line", ""},
		{"long/Dockerfile.empty", 0, "no FROM", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := iac.Scan(t.Context(), files, tc.name, iac.Options{Now: now, Prefix: "there"})
			if err != nil {
				t.Fatal(err)
			}
			if r.Files != tc.files || (len(r.Problems) > 0) != (tc.problem != "") {
				t.Errorf("%d files, want %d; problems %v", r.Files, tc.files, r.Problems)
			}
			if tc.problem != "" && len(r.Problems) > 0 && !strings.Contains(r.Problems[0].String(), tc.problem) {
				t.Errorf("problem %q, want %q", r.Problems[0], tc.problem)
			}
			found := false
			for _, f := range r.Faults {
				found = found || f.Check == tc.finds
				if f.File != "there/"+tc.name {
					t.Errorf("file %q, want that which was named", f.File)
				}
			}
			if tc.finds != "" && !found {
				t.Errorf("%s is not found: %v", tc.finds, r.Faults)
			}
		})
	}
}

// A fault has the same name wherever the scan began.
func TestFingerprintsFromElsewhere(t *testing.T) {
	files := fstest.MapFS{
		"infra/Dockerfile":   {Data: []byte("FROM a\n")},
		"infra/main.tf":      {Data: []byte("module \"m\" {\n  source = \"./m\"\n}\n")},
		"infra/m/main.tf":    {Data: []byte("resource \"aws_ecs_service\" \"s\" {\n  enable_execute_command = true\n}\n")},
		"infra/compose.yaml": {Data: []byte("services: {web: {image: a}}\n")},
	}
	prints := func(fsys fs.FS, name, prefix string) []string {
		r, err := iac.Scan(t.Context(), fsys, name, iac.Options{Now: now, Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range r.Faults {
			out = append(out, f.File+" "+f.Check+" "+f.Fingerprint)
		}
		slices.Sort(out)
		return out
	}
	whole := prints(files, ".", ".")
	sub, err := fs.Sub(files, "infra")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prints(sub, ".", "infra"), whole); diff != "" || len(whole) == 0 {
		t.Errorf("got, want: %s", diff)
	}
	one := prints(sub, "Dockerfile", "infra")
	for _, p := range one {
		if !slices.Contains(whole, p) {
			t.Errorf("%s is not among %q", p, whole)
		}
	}
}

// Two roles are the same only where the same property of the same instance is
// named.
func TestSameRole(t *testing.T) {
	terraform := func(task, execution string) map[string]string {
		return map[string]string{"main.tf": fmt.Sprintf("resource \"aws_ecs_task_definition\" \"t\" {\n  task_role_arn = %s\n  execution_role_arn = %s\n}\n", task, execution)}
	}
	template := func(task, execution string) map[string]string {
		return map[string]string{"t.yaml": fmt.Sprintf("Resources:\n  R: {Type: AWS::CloudFormation::Stack}\n  T:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      TaskRoleArn: %s\n      ExecutionRoleArn: %s\n", task, execution)}
	}
	plan := func(task, execution string) map[string]string {
		return map[string]string{"plan.json": fmt.Sprintf(`{"format_version": "1.2", "planned_values": {"root_module": {"resources": [
 {"address": "aws_ecs_task_definition.t", "mode": "managed", "type": "aws_ecs_task_definition", "name": "t", "values": {}}]}},
 "resource_changes": [{"address": "aws_ecs_task_definition.t", "change": {"after_unknown": {"task_role_arn": true, "execution_role_arn": true}}}],
 "configuration": {"root_module": {"resources": [{"address": "aws_ecs_task_definition.t", "expressions": {"task_role_arn": {"references": %s}, "execution_role_arn": {"references": %s}}}]}}}`, task, execution)}
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		same  bool
	}{
		{"the same", terraform("aws_iam_role.r.arn", "aws_iam_role.r.arn"), true},
		{"the same, in other words", terraform(`aws_iam_role.r["a"].arn`, `"${aws_iam_role.r["a"]["arn"]}"`), true},
		{"keys", terraform(`aws_iam_role.this["task"].arn`, `aws_iam_role.this["exec"].arn`), false},
		{"numbers", terraform(`aws_iam_role.this[0].arn`, `aws_iam_role.this[1].arn`), false},
		{"unknown keys", terraform(`aws_iam_role.this[var.a].arn`, `aws_iam_role.this[var.b].arn`), false},
		{"all of them", terraform(`aws_iam_role.this[*].arn`, `aws_iam_role.this[*].arn`), false},
		{"outputs of another state", terraform("data.terraform_remote_state.iam.outputs.task_arn", "data.terraform_remote_state.iam.outputs.exec_arn"), false},
		{"one output of another state", terraform("data.terraform_remote_state.iam.outputs.arn", "data.terraform_remote_state.iam.outputs.arn"), true},
		{"outputs of a module", terraform("module.iam.task_arn", "module.iam.exec_arn"), false},
		{"one output of a module", terraform("module.iam.arn", "module.iam.arn"), true},
		{"through a local value", map[string]string{"main.tf": "locals {\n  role = aws_iam_role.r[\"a\"]\n}\nresource \"aws_ecs_task_definition\" \"t\" {\n  task_role_arn = local.role.arn\n  execution_role_arn = aws_iam_role.r[\"a\"].arn\n}\n"}, true},
		{"GetAtt", template("!GetAtt R.Arn", "!GetAtt R.Arn"), true},
		{"GetAtt as a list", template("!GetAtt R.Outputs.Arn", "{'Fn::GetAtt': [R, Outputs.Arn]}"), true},
		{"outputs of a stack", template("!GetAtt R.Outputs.TaskArn", "!GetAtt R.Outputs.ExecArn"), false},
		{"attributes that are worked out", template("!GetAtt [R, !Ref A]", "!GetAtt [R, !Ref B]"), false},
		{"Ref", template("!Ref R", "!Ref R"), true},
		{"plan", plan(`["aws_iam_role.r.arn", "aws_iam_role.r"]`, `["aws_iam_role.r.arn", "aws_iam_role.r"]`), true},
		{"plan with keys", plan(`["aws_iam_role.r[\"a.b\"].arn", "aws_iam_role.r[\"a.b\"]", "aws_iam_role.r"]`, `["aws_iam_role.r[\"b.b\"].arn", "aws_iam_role.r[\"b.b\"]", "aws_iam_role.r"]`), false},
		{"plan with unknown keys", plan(`["aws_iam_role.r", "each.key"]`, `["aws_iam_role.r", "each.key"]`), false},
		{"plan with what is given to each", plan(`["each.value.a", "each.value"]`, `["each.value.b", "each.value"]`), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := len(lines(scan(t, tc.files), "CAST-TASK-025")) > 0; got != tc.same {
				t.Errorf("the same: %v, want %v", got, tc.same)
			}
		})
	}
}

// What is left out is told, and no gate holds then.
func TestLost(t *testing.T) {
	task := func(ports int) string {
		return `{"family": "a", "pidMode": "host", "containerDefinitions": [` + strings.TrimSuffix(strings.Repeat(`{"name": "web", "image": "a:1", "extraHosts": [`+
			strings.TrimSuffix(strings.Repeat(`{"hostname": "x"},`, ports), ",")+`]},`, 60), ",") + "]}"
	}
	services := "services:\n"
	for i := range 1001 {
		services += fmt.Sprintf("  s%d: {image: a, privileged: true}\n", i)
	}
	template := "Parameters: {P: {Type: String, Default: " + strings.Repeat("x", 40_000) + "}}\nResources:\n  T:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      PidMode: host\n      Tags:\n" +
		strings.Repeat("        - !Ref P\n", 300)
	locals := "locals {\n  l0 = [\"x\"]\n"
	for i := 1; i < 50; i++ {
		locals += fmt.Sprintf("  l%d = concat(local.l%d, local.l%d)\n", i, i-1, i-1)
	}
	locals += "}\nresource \"aws_ecs_task_definition\" \"t\" {\n  pid_mode = \"host\"\n  tags = local.l49\n}\n"
	for _, tc := range []struct {
		name   string
		files  map[string]string
		faults int // at least
		lost   string
	}{
		{"faults", map[string]string{"a.json": task(900), "b.json": task(10)}, 50_000, "a.json: there are more than 50000 faults"},
		{"services", map[string]string{"compose.yaml": services}, 1000, "compose.yaml: more than 1000 services"},
		{"definitions", map[string]string{"t.json": "[" + strings.Repeat(task(0)+",", 1000) + task(0) + "]"}, 1000, "t.json: more than 1000 entries"},
		{"template", map[string]string{"t.yaml": template}, 1, "t.yaml: it comes to more than is worked out"},
		{"configuration", map[string]string{"infra/main.tf": locals}, 0, "infra: it comes to more than is worked out"},
		{"nothing", map[string]string{"a.json": task(1)}, 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scan(t, tc.files)
			var lost string
			for _, p := range r.Problems {
				if p.Lost && lost == "" {
					lost = p.String()
				}
			}
			if !strings.HasPrefix(lost, tc.lost) || (lost == "") != (tc.lost == "") || len(r.Faults) < tc.faults || len(r.Faults) > 50_000 {
				t.Errorf("%d faults, lost %q of %d problems; want at least %d, %q", len(r.Faults), lost, len(r.Problems), tc.faults, tc.lost)
			}
		})
	}
}

// A template of roles alone is read.
func TestRolesAlone(t *testing.T) {
	r := scan(t, map[string]string{"iam.yaml": `Resources:
  TaskRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{Effect: Allow, Principal: {Service: ecs-tasks.amazonaws.com}, Action: "sts:AssumeRole"}]
      ManagedPolicyArns: ["arn:aws:iam::aws:policy/AdministratorAccess"]
`})
	if r.Files != 1 || len(r.Faults) == 0 {
		t.Errorf("%d files, %d faults", r.Files, len(r.Faults))
	}
}

// Faults that depend on where a task runs and on what decides.
func TestWhatDecides(t *testing.T) {
	capability := `{"family": "a", "requiresCompatibilities": [%s], "containerDefinitions": [{"name": "web", "image": "a:1", "linuxParameters": {"capabilities": {"add": ["%s"]}}}]}`
	service := "resource \"aws_ecs_service\" \"s\" {\n  platform_version = \"%s\"\n  network_configuration {\n    subnets = [aws_subnet.a.id]\n%s  }\n}\nresource \"aws_subnet\" \"a\" {\n  map_public_ip_on_launch = true\n}\nresource \"aws_ecs_task_definition\" \"t\" {\n  runtime_platform {\n    operating_system_family = \"%s\"\n  }\n}\n"
	for _, tc := range []struct {
		name, file, text string
		want             []string
	}{
		{"the capability that Fargate permits", "t.json", fmt.Sprintf(capability, `"FARGATE"`, "SYS_PTRACE"), []string{"CAST-TASK-006 low"}},
		{"on EC2", "t.json", fmt.Sprintf(capability, `"EC2"`, "SYS_PTRACE"), []string{"CAST-TASK-005 high"}},
		{"on both", "t.json", fmt.Sprintf(capability, `"EC2", "FARGATE"`, "CAP_SYS_PTRACE"), []string{"CAST-TASK-005 high"}},
		{"another capability", "t.json", fmt.Sprintf(capability, `"FARGATE"`, "SYS_ADMIN"), []string{"CAST-TASK-005 high"}},
		{"public addresses", "main.tf", fmt.Sprintf(service, "LATEST", "    assign_public_ip = true\n", "LINUX"), []string{"CAST-SERVICE-002 low", "CAST-SERVICE-001 high"}},
		{"no public addresses", "main.tf", fmt.Sprintf(service, "LATEST", "    assign_public_ip = false\n", "LINUX"), nil},
		{"nothing said of addresses", "main.tf", fmt.Sprintf(service, "LATEST", "", "LINUX"), nil},
		{"Windows' platform", "main.tf", fmt.Sprintf(service, "1.0.0", "", "WINDOWS_SERVER_2022_CORE"), nil},
		{"Linux' first platform", "main.tf", fmt.Sprintf(service, "1.0.0", "", "LINUX"), []string{"CAST-SERVICE-004 medium"}},
		{"an old platform beside Windows", "main.tf", fmt.Sprintf(service, "1.3.0", "", "WINDOWS_SERVER_2022_CORE"), []string{"CAST-SERVICE-004 medium"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, f := range scan(t, map[string]string{tc.file: tc.text}).Faults {
				if slices.Contains([]string{"CAST-TASK-005", "CAST-TASK-006", "CAST-SERVICE-001", "CAST-SERVICE-002", "CAST-SERVICE-004"}, f.Check) {
					got = append(got, f.Check+" "+f.Severity.String())
				}
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

// A port of a remote shell is open by either of its numbers.
func TestPorts(t *testing.T) {
	r := scan(t, map[string]string{"t.json": `{"family": "a", "networkMode": "bridge", "requiresCompatibilities": ["EC2"], "containerDefinitions": [{"name": "web", "image": "a:1", "portMappings": [
{"containerPort": 22}, {"containerPort": 2222, "hostPort": 22}, {"containerPort": 80, "hostPort": 80}, {"containerPort": 8080, "hostPort": 2375}, {"containerPort": 8443}]}]}`})
	if diff := cmp.Diff(lines(r, "CAST-TASK-034", "CAST-TASK-035"), []string{"t.json:2 CAST-TASK-034 a port 22", "t.json:2 CAST-TASK-034 a host port 22", "t.json:2 CAST-TASK-035 a host port 80", "t.json:2 CAST-TASK-034 a host port 2375"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// Where something is left out it is said: what is not there is no sign that all is
// well.
func TestWhatIsLeftOutIsTold(t *testing.T) {
	containers := func(n int) string {
		return `{"family": "shop", "containerDefinitions": [` + strings.TrimSuffix(strings.Repeat(`{"name": "a", "image": "a:1"},`, n), ",") + `]}`
	}
	variables := `{"family": "shop", "containerDefinitions": [{"name": "a", "image": "a:1", "environment": [` + strings.TrimSuffix(strings.Repeat(`{"name": "A", "value": "b"},`, 1001), ",") + `]}]}`
	large := "family: shop\ncontainerDefinitions:\n- name: a\n  image: a:1\n  environment:\n  - {name: A, value: &v \"" + strings.Repeat("x=1 ", 16<<10) + "\"}\n" + strings.Repeat("  - {name: A, value: *v}\n", 300)
	for _, tc := range []struct{ name, file, text, want string }{
		{"a hundred containers", "task.json", containers(100), ""},
		{"more containers", "task.json", containers(101), "shop has 101 containers, and the first 100 are looked at"},
		{"more variables", "task.json", variables, "shop has 1001 environment entries of a container, and the first 1000 are looked at"},
		{"one large text many times", "task.yaml", large, "that aliases repeat"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scan(t, map[string]string{tc.file: tc.text})
			var got string
			for _, p := range r.Problems {
				got += p.What
				if tc.name != "one large text many times" && !p.Lost {
					t.Errorf("a gate would hold: %s", p.What)
				}
			}
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problems %q, want %q", got, tc.want)
			}
		})
	}
}

// A large text that many containers name costs no more than is looked at of one
// document.
func TestLargeTextsAreBounded(t *testing.T) {
	r := scan(t, map[string]string{"main.tf.json": `{"locals": {"big": "` + strings.Repeat("x=1 ", 15<<10) + `"}, "resource": {"aws_ecs_task_definition": {"a": {"container_definitions": [{"name": "a", "environment": [` +
		strings.TrimSuffix(strings.Repeat(`{"name": "A", "value": "${local.big}"},`, 900), ",") + `]}]}}}}`})
	if len(r.Problems) != 1 || !r.Problems[0].Lost || !strings.Contains(r.Problems[0].What, "texts of ") {
		t.Errorf("problems %v", r.Problems)
	}
}

// A weak password is grave where ECS runs the container, and less in a compose file;
// a drawn one is grave in both.
func TestWeakPasswords(t *testing.T) {
	for _, tc := range []struct {
		name, file, text string
		want             finding.Severity
	}{
		{"ECS", "task.json", `{"containerDefinitions": [{"name": "db", "environment": [{"name": "POSTGRES_PASSWORD", "value": "postgres"}]}]}`, finding.High},
		{"compose", "compose.yml", "services:\n  db:\n    image: postgres:17\n    environment:\n      POSTGRES_PASSWORD: postgres\n", finding.Low},
		{"compose, drawn", "compose.yml", "services:\n  db:\n    image: postgres:17\n    environment:\n      POSTGRES_PASSWORD: q8Zr4Lw2Vn7Xc1Bm5Ty9\n", finding.High},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, f := range scan(t, map[string]string{tc.file: tc.text}).Faults {
				if f.Check == "CAST-TASK-016" && f.Severity == tc.want {
					return
				}
			}
			t.Errorf("there is no CAST-TASK-016 of severity %v", tc.want)
		})
	}
}
