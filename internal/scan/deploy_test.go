package scan_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

func deployments(t *testing.T, name, text string) []admission.Request {
	t.Helper()
	got, _, err := scan.Deployments(context.Background(), fstest.MapFS{name: {Data: []byte(text)}}, name, scan.DocumentOptions{Prefix: "infra"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// noFaults compares requests but for what the scanner says beside.
var noFaults = cmpopts.IgnoreFields(admission.Request{}, "Faults")

func TestATaskDefinitionBecomesARequest(t *testing.T) {
	got := deployments(t, "task.json", `{"family": "shop", "networkMode": "awsvpc", "pidMode": "task", "requiresCompatibilities": ["FARGATE"], "memory": "512",
 "taskRoleArn": "arn:aws:iam::1:role/shop",
 "volumes": [{"name": "data", "host": {"sourcePath": "/srv"}}, {"name": "disk", "dockerVolumeConfiguration": {"driver": "local", "driverOpts": {"device": "/dev/sda"}}}],
 "containerDefinitions": [
  {"name": "web", "image": "shop:1", "cpu": 256, "user": "1000", "readonlyRootFilesystem": true, "essential": false, "command": ["serve", "--password=hunter2hunter2X9"],
   "linuxParameters": {"capabilities": {"add": ["CAP_sys_admin"], "drop": ["ALL"]}, "devices": [{"hostPath": "/dev/fuse"}], "tmpfs": [{"containerPath": "/tmp", "size": 1}]},
   "environment": [{"name": "HOME", "value": "/"}, {"name": "DB_PASSWORD", "value": "hunter2hunter2X9"}],
   "secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:x"}],
   "portMappings": [{"containerPort": 80, "hostPort": 8080}],
   "mountPoints": [{"sourceVolume": "data", "containerPath": "/data", "readOnly": true}, {"sourceVolume": "disk", "containerPath": "/disk"}],
   "dockerSecurityOptions": ["no-new-privileges"], "systemControls": [{"namespace": "net.core.somaxconn", "value": "1"}],
   "volumesFrom": [{"sourceContainer": "log"}], "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}]},
  {"name": "log", "image": "registry.example.com:5000/log@sha256:aa", "memory": 64}]}`)
	want := []admission.Request{{ID: "ci-1", Door: admission.CI, Action: admission.Register, Place: admission.Place{File: "infra/task.json"}, FaultsKnown: true, Task: admission.Task{
		Family: "shop", ARN: "shop", Launch: "FARGATE", Network: "awsvpc", PID: "task",
		Roles:   []admission.Role{{Use: "task", ARN: "arn:aws:iam::1:role/shop"}},
		Volumes: []admission.Volume{{Name: "data", Host: "/srv"}, {Name: "disk", Driver: "local", Options: map[string]string{"device": "/dev/sda"}}},
		Containers: []admission.Container{
			{Name: "web", Image: admission.Image{Reference: "shop:1", Registry: "docker.io", Repository: "library/shop", Tag: "1"}, CPUUnits: 256, MemoryBytes: 512 << 20, User: "1000", ReadOnlyRoot: true,
				CapAdd: []string{"SYS_ADMIN"}, CapDrop: []string{"ALL"}, Devices: []string{"/dev/fuse"}, SecurityOpt: []string{"no-new-privileges"},
				Command: []string{"serve", "…"},
				Env:     []admission.Variable{{Name: "HOME", Value: "/"}, {Name: "DB_PASSWORD"}}, Secrets: []admission.Variable{{Name: "KEY", Value: "arn:aws:ssm:x"}},
				Ports:   []admission.Port{{Container: 80, Host: 8080}},
				Mounts:  []admission.Mount{{Kind: "bind", Source: "/srv", Target: "/data", ReadOnly: true}, {Kind: "volume", Source: "disk", Target: "/disk"}, {Kind: "tmpfs", Target: "/tmp"}},
				Sysctls: map[string]string{"net.core.somaxconn": "1"}, Ulimits: map[string]int64{"nofile": 2}, From: []string{"log"}},
			{Name: "log", Image: admission.Image{Reference: "registry.example.com:5000/log@sha256:aa", Registry: "registry.example.com:5000", Repository: "log", Digest: "sha256:aa", Pinned: true}, MemoryBytes: 64 << 20, Essential: true},
		}}}}
	if diff := cmp.Diff(want, got, noFaults); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(got[0].Faults) == 0 {
		t.Error("what the scanner finds wrong is not told")
	}
}

// A template's service decides where its task runs; what the template leaves open
// is unknown, and so is a policy that stands elsewhere.
func TestATemplateBecomesARequestForEachService(t *testing.T) {
	got := deployments(t, "stack.yaml", `
Parameters: {Image: {Type: String}, Cluster: {Type: String}, Path: {Type: String}}
Resources:
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      Family: shop
      TaskRoleArn: !GetAtt Role.Arn
      ExecutionRoleArn: !GetAtt Other.Arn
      Volumes: [{Name: v, Host: {SourcePath: !Ref Path}}]
      ContainerDefinitions: [{Name: web, Image: !Ref Image, Memory: 64, MountPoints: [{SourceVolume: v, ContainerPath: /v}]}]
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: ecs-tasks.amazonaws.com}, Action: 'sts:AssumeRole'}]}
      Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: 's3:*', Resource: '*'}]}}]
  Other:
    Type: AWS::IAM::Role
    Properties: {ManagedPolicyArns: ['arn:aws:iam::aws:policy/AdministratorAccess'], AssumeRolePolicyDocument: {}}
  Web:
    Type: AWS::ECS::Service
    Properties: {ServiceName: web, Cluster: !Ref Cluster, TaskDefinition: !Ref Task, EnableExecuteCommand: true, LaunchType: FARGATE, NetworkConfiguration: {AwsvpcConfiguration: {AssignPublicIp: ENABLED}}}
  Batch:
    Type: AWS::ECS::Service
    Properties: {ServiceName: batch, Cluster: jobs, TaskDefinition: !Ref Task}
  Strange:
    Type: AWS::ECS::Service
    Properties: {ServiceName: strange, TaskDefinition: 'arn:aws:ecs:eu-central-1:1:task-definition/elsewhere:1'}
`)
	type brief struct {
		Service, Cluster string
		Exec, Public     bool
		Launch           string
		Unknown          []string
	}
	var all []brief
	for i := range got {
		r := &got[i]
		all = append(all, brief{r.Place.Service, r.Place.Cluster, r.Task.Exec, r.Task.PublicIP, r.Task.Launch, r.Unknown})
	}
	open := []string{"task.containers[0].image", "task.containers[0].mounts[0].source", "task.volumes[0].host"}
	want := []brief{
		{"web", "", true, true, "FARGATE", append([]string{"place.cluster"}, open...)},
		{"batch", "jobs", false, false, "", open},
		{"strange", "", false, false, "", []string{"task.containers", "task.family", "task.ipc", "task.network", "task.pid", "task.roles", "task.volumes"}},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	roles := []admission.Role{
		{Use: "task", ARN: "Resources.Role", Known: true, Policies: []json.RawMessage{json.RawMessage(`{"Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]}]}`)}},
		{Use: "execution", ARN: "Resources.Other"},
	}
	if got[2].Task.Roles != nil {
		t.Errorf("roles of a task that nobody knows: %+v", got[2].Task.Roles)
	}
	if diff := cmp.Diff(roles, got[0].Task.Roles); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A policy that the document doesn't tell all of is not known: no role passes for
// what can't be read.
func TestPoliciesThatADocumentLeavesOpen(t *testing.T) {
	const trust = `AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: ecs-tasks.amazonaws.com}, Action: 'sts:AssumeRole'}]}`
	const policy = `PolicyDocument: {Statement: [{Effect: Allow, Action: 's3:*', NotResource: 'arn:a', Condition: {StringLike: {'aws:RequestTag/a': b}}}]}`
	for _, tc := range []struct {
		name, role string
		known      bool
	}{
		{"all of it", "Properties: {" + trust + ", Policies: [{PolicyName: p, " + policy + "}]}", true},
		{"none", "Properties: {" + trust + "}", true},
		{"a document that is a parameter", "Properties: {" + trust + ", Policies: [{PolicyName: p, PolicyDocument: !Ref Any}]}", false},
		{"statements that are", "Properties: {" + trust + ", Policies: [{PolicyName: p, PolicyDocument: {Statement: !Ref Any}}]}", false},
		{"actions that are", "Properties: {" + trust + ", Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: !Ref Any, Resource: '*'}]}}]}", false},
		{"an effect that is", "Properties: {" + trust + ", Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: !Ref Any, Action: '*', Resource: '*'}]}}]}", false},
		{"policies that are", "Properties: {" + trust + ", Policies: !Ref Any}", false},
		{"one of AWS", "Properties: {" + trust + ", ManagedPolicyArns: ['arn:aws:iam::aws:policy/x']}", false},
		{"one that is a parameter", "Properties: {" + trust + ", ManagedPolicyArns: [!Ref Any]}", false},
		{"one of the document", "Properties: {" + trust + ", ManagedPolicyArns: [!Ref Mine]}", true},
		{"one of the document that is open", "Properties: {" + trust + ", ManagedPolicyArns: [!Ref Theirs]}", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := deployments(t, "stack.yaml", "Parameters: {Any: {Type: String}}\nResources:\n  Task: {Type: 'AWS::ECS::TaskDefinition', Properties: {TaskRoleArn: !GetAtt Role.Arn, ContainerDefinitions: [{Name: a, Image: b}]}}\n"+
				"  Mine: {Type: 'AWS::IAM::ManagedPolicy', Properties: {"+policy+"}}\n  Theirs: {Type: 'AWS::IAM::ManagedPolicy', Properties: {PolicyDocument: !Ref Any}}\n  Role: {Type: 'AWS::IAM::Role', "+tc.role+"}\n")
			if len(got) != 1 || len(got[0].Task.Roles) != 1 || got[0].Task.Roles[0].Known != tc.known {
				t.Errorf("%+v", got)
			}
		})
	}
	got := deployments(t, "main.tf", `
resource "aws_ecs_task_definition" "web" {
  family = "shop"
  task_role_arn = aws_iam_role.web.arn
  container_definitions = jsonencode([{ name = "web", image = "shop:1" }])
}
resource "aws_iam_role" "web" { assume_role_policy = jsonencode({}) }
resource "aws_iam_role_policy" "web" {
  role = aws_iam_role.web.id
  policy = data.aws_iam_policy_document.web.json
}
data "aws_iam_policy_document" "web" {
  statement {
    actions   = ["iam:PassRole"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}`)
	want := []admission.Role{{Use: "task", ARN: "aws_iam_role.web", Known: true, Policies: []json.RawMessage{json.RawMessage(
		`{"Statement":[{"Effect":"Allow","Action":["iam:PassRole"],"Resource":["*"],"Condition":{"StringLike":{"castellan:unknown":"*","iam:PassedToService":"*"}}}]}`)}}}
	if diff := cmp.Diff(want, got[0].Task.Roles); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What is denied, and what a boundary leaves, is told of a role as it is written; a
// boundary that stands elsewhere is not known, and so is the role.
func TestRolesWithDenialsAndBoundaries(t *testing.T) {
	const template = `
Parameters: {Any: {Type: String}}
Resources:
  Task: {Type: 'AWS::ECS::TaskDefinition', Properties: {TaskRoleArn: !GetAtt Role.Arn, ContainerDefinitions: [{Name: a, Image: b}]}}
  Limit: {Type: 'AWS::IAM::ManagedPolicy', Properties: {PolicyDocument: {Statement: [{Effect: Allow, Action: 's3:*', Resource: '*'}, {Effect: Deny, NotAction: 's3:*', Resource: '*'}]}}}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {}
      PermissionsBoundary: BOUNDARY
      Policies:
        - PolicyName: p
          PolicyDocument:
            Statement:
              - {Effect: Allow, Action: '*', Resource: !Sub 'arn:aws:s3:::${Any}/*'}
              - {Effect: Deny, Action: 'iam:*', NotResource: '*x', Condition: {Bool: {'aws:SecureTransport': 'false'}}}
`
	const own = `{"Statement":[{"Effect":"Allow","Action":["*"],"Resource":["arn:aws:s3:::${Any}/*"]},{"Effect":"Deny","Action":["iam:*"],"NotResource":["*x"],"Condition":{"StringLike":{"aws:SecureTransport":"*","castellan:unknown":"*"}}}]}`
	const limit = `{"Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]},{"Effect":"Deny","NotAction":["s3:*"],"Resource":["*"]}]}`
	const terraform = `
resource "aws_ecs_task_definition" "web" {
  family                = "shop"
  task_role_arn         = aws_iam_role.web.arn
  container_definitions = jsonencode([{ name = "web", image = "shop:1" }])
}
resource "aws_iam_role" "web" {
  assume_role_policy   = jsonencode({})
  permissions_boundary = aws_iam_policy.limit.arn
}
resource "aws_iam_policy" "limit" { policy = data.aws_iam_policy_document.limit.json }
resource "aws_iam_role_policy_attachment" "web" {
  role       = aws_iam_role.web.name
  policy_arn = aws_iam_policy.own.arn
}
resource "aws_iam_policy" "own" { policy = jsonencode({ Statement = [{ Effect = "Deny", Action = "iam:*", NotResource = "arn:a" }] }) }
data "aws_iam_policy_document" "limit" {
  MORE
  statement {
    actions   = ["s3:*"]
    resources = ["*"]
  }
  statement {
    effect      = "Deny"
    not_actions = ["s3:*"]
    resources   = ["*"]
  }
}`
	for _, tc := range []struct {
		name, file, text string
		want             admission.Role
	}{
		{"boundary of the template", "stack.yaml", strings.ReplaceAll(template, "BOUNDARY", "!Ref Limit"), admission.Role{ARN: "Resources.Role", Known: true, Policies: []json.RawMessage{json.RawMessage(own)}, Bounded: true, Boundary: json.RawMessage(limit)}},
		{"boundary elsewhere", "stack.yaml", strings.ReplaceAll(template, "BOUNDARY", "'arn:aws:iam::1:policy/limit'"), admission.Role{ARN: "Resources.Role", Policies: []json.RawMessage{json.RawMessage(own)}, Bounded: true}},
		{"no boundary", "stack.yaml", strings.ReplaceAll(template, "BOUNDARY", "!Ref AWS::NoValue"), admission.Role{ARN: "Resources.Role", Known: true, Policies: []json.RawMessage{json.RawMessage(own)}}},
		{"in Terraform", "main.tf", strings.ReplaceAll(terraform, "MORE", ""), admission.Role{ARN: "aws_iam_role.web", Known: true, Bounded: true, Boundary: json.RawMessage(limit),
			Policies: []json.RawMessage{json.RawMessage(`{"Statement":[{"Effect":"Deny","Action":["iam:*"],"NotResource":["arn:a"]}]}`)}}},
		{"with more than is told", "main.tf", strings.ReplaceAll(terraform, "MORE", "source_policy_documents = [var.more]"), admission.Role{ARN: "aws_iam_role.web", Bounded: true,
			Policies: []json.RawMessage{json.RawMessage(`{"Statement":[{"Effect":"Deny","Action":["iam:*"],"NotResource":["arn:a"]}]}`)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Use = "task"
			got := deployments(t, tc.file, tc.text)
			if diff := cmp.Diff([]admission.Role{tc.want}, got[0].Task.Roles); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRepositoriesBecomeRequests(t *testing.T) {
	const policy = `{"Statement":[{"Action":["ecr:BatchGetImage"],"Condition":{"StringEquals":{"aws:PrincipalOrgID":["o-1"]}},"Effect":"Allow","Principal":{"AWS":["*"],"Service":["ecs.amazonaws.com"]}}]}`
	for _, tc := range []struct {
		name, file, text string
		want             admission.Repository
		unknown          []string
	}{
		{"in Terraform", "main.tf", `
variable "account" {}
resource "aws_ecr_repository" "web" {
  name                 = "shop/web"
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration { scan_on_push = true }
  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.ours.arn
  }
}
resource "aws_ecr_repository_policy" "web" {
  repository = aws_ecr_repository.web.name
  policy     = data.aws_iam_policy_document.web.json
}
data "aws_iam_policy_document" "web" {
  statement {
    actions = ["ecr:BatchGetImage"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    principals {
      type        = "Service"
      identifiers = ["ecs.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalOrgID"
      values   = ["o-1"]
    }
  }
}`, admission.Repository{Name: "shop/web", Immutable: true, ScanOnPush: true, Policy: json.RawMessage(policy)}, []string{"repositories[0].key"}},
		{"a policy of which the account is open", "main.tf", `
variable "account" {}
resource "aws_ecr_repository" "web" { name = "shop/web" }
resource "aws_ecr_repository_policy" "web" {
  repository = aws_ecr_repository.web.name
  policy     = jsonencode({ Statement = [{ Effect = "Allow", Action = "ecr:*", Principal = { AWS = "arn:aws:iam::${var.account}:root" } }] })
}`, admission.Repository{Name: "shop/web", Policy: json.RawMessage(`{"Statement":[{"Action":"ecr:*","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::${…}:root"}}]}`)}, nil},
		{"a policy of which all is open", "stack.yaml", `
Parameters: {Who: {Type: String}}
Resources:
  Web:
    Type: AWS::ECR::Repository
    Properties: {RepositoryName: shop/web, ImageTagMutability: IMMUTABLE, RepositoryPolicyText: {Statement: [{Effect: Allow, Action: 'ecr:*', Principal: !Sub '${Who}'}]}}
`, admission.Repository{Name: "shop/web", Immutable: true}, []string{"repositories[0].policy"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := deployments(t, tc.file, tc.text)
			if len(got) != 1 || len(got[0].Repositories) != 1 {
				t.Fatalf("%+v", got)
			}
			if diff := cmp.Diff(tc.want, got[0].Repositories[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tc.unknown, got[0].Unknown); diff != "" {
				t.Errorf("unknown, -want +got:\n%s", diff)
			}
		})
	}
}

func TestTerraformAndComposeBecomeRequests(t *testing.T) {
	got := deployments(t, "main.tf", `
variable "privileged" {}
resource "aws_ecs_task_definition" "web" {
  family = "shop"
  container_definitions = jsonencode([{ name = "web", image = "shop:1", privileged = var.privileged, memory = 64 }])
}
resource "aws_ecs_service" "web" {
  name            = "web"
  cluster         = "arn:aws:ecs:eu-central-1:1:cluster/prod"
  task_definition = aws_ecs_task_definition.web.arn
}`)
	if len(got) != 1 || got[0].Place.Service != "web" || got[0].Place.Cluster != "prod" || !cmp.Equal(got[0].Unknown, []string{"task.containers[0].privileged"}) {
		t.Errorf("%+v", got)
	}
	got = deployments(t, "compose.yaml", `
services:
  db:
    image: ${IMAGE}
    mem_limit: 1.5g
    cpus: 0.5
    pid: host
    userns_mode: host
    cgroup_parent: /x
    runtime: mine
    pids_limit: 7
    sysctls: {net.core.somaxconn: 1}
    volumes: ["/etc:/etc:ro,rshared", "./data:/data", "cache:/cache"]
  built: {build: .}
`)
	want := []admission.Request{
		{ID: "ci-1", Door: admission.CI, Action: admission.Register, FaultsKnown: true, Place: admission.Place{File: "infra/compose.yaml"}, Unknown: []string{"task.containers[0].image"},
			Task: admission.Task{ARN: "services.db", PID: "host", Containers: []admission.Container{{Name: "db", Essential: true, Image: admission.Image{Reference: "${…}"}, MemoryBytes: 3 << 29, CPUUnits: 512,
				UserNS: "host", Parent: "/x", Runtime: "mine", PidsLimit: 7, Sysctls: map[string]string{"net.core.somaxconn": "1"},
				Mounts: []admission.Mount{{Kind: "bind", Source: "/etc", Target: "/etc", ReadOnly: true, Propagation: "rshared"}, {Kind: "bind", Source: "./data", Target: "/data"}, {Kind: "volume", Source: "cache", Target: "/cache"}}}}}},
		{ID: "ci-2", Door: admission.CI, Action: admission.Register, FaultsKnown: true, Place: admission.Place{File: "infra/compose.yaml"}, Unknown: []string{"task.containers[0].image"},
			Task: admission.Task{ARN: "services.built", Containers: []admission.Container{{Name: "built", Essential: true, Image: admission.Image{Reference: "built here"}}}}},
	}
	if diff := cmp.Diff(want, got, noFaults); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAReportBecomesFacts(t *testing.T) {
	made := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	r := scan.Report{Made: made, Secrets: []finding.Secret{}, Malware: []finding.Malware{}, Database: scan.ReportDatabase{Built: made},
		Inventory:       inventory.Inventory{Made: made, OS: inventory.OS{ID: "debian", Name: "Debian 12"}, Image: &inventory.Image{Digest: "sha256:aa", Config: inventory.Config{User: "app"}}, Problems: []inventory.Problem{{Lost: true}}},
		Vulnerabilities: []finding.Vulnerability{{ID: "CVE-1", Package: inventory.Package{Name: "zlib", Version: "1"}, Severity: finding.High, Scores: []finding.Score{{Base: 7}, {Base: 8}}}},
		Unmaintained:    &scan.ReportUnmaintained{Since: made}}
	end := made.AddDate(0, 0, 1)
	want := admission.Facts{Digest: "sha256:aa", At: made, User: "app", Scan: admission.Scan{State: admission.Known, At: made, Database: made, Lost: true, Distribution: "Debian 12", EndOfLife: &end,
		Vulnerabilities: []admission.Vulnerability{{ID: "CVE-1", Package: "zlib", Version: "1", Severity: finding.High, Score: 8}}}}
	if diff := cmp.Diff(want, scan.Facts(&r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, change := range map[string]func(*scan.Report){
		"no advisories": func(r *scan.Report) { r.Database = scan.ReportDatabase{} },
		"no secrets":    func(r *scan.Report) { r.Secrets = nil },
		"no malware":    func(r *scan.Report) { r.Malware = nil },
	} {
		half := r
		change(&half)
		if got := scan.Facts(&half); got.Scan.State != admission.Failed || got.Scan.Why == "" {
			t.Errorf("%s: half a scan counts as one: %+v", name, got.Scan)
		}
	}
}
