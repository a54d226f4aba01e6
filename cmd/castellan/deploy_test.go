package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan"
)

// task is a task of ECS that has what a template makes as its only rights: by
// itself the template runs nothing, and would not be looked at.
const task = `
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      TaskRoleArn: !GetAtt TaskRole.Arn
  TaskRole:
    Type: AWS::IAM::Role
    Properties:
      ManagedPolicyArns: [!Ref ServerPolicy]
      AssumeRolePolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: ecs-tasks.amazonaws.com}, Action: "sts:AssumeRole"}
`

// TestOwnTemplates: what we have people deploy has none of the faults that we find
// in theirs.
func TestOwnTemplates(t *testing.T) {
	b, err := os.ReadFile("../../deploy/registry/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	template := strings.Replace(string(b), "\nOutputs:\n", task+"\nOutputs:\n", 1)
	roles := func(template string) (found []string, documents *scan.ReportDocuments) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "stack.yaml")
		if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		if code := execute(context.Background(), []string{"scan", "iac", file, "-o", "json"}, streams{strings.NewReader(""), &out, &said}); code != exitDone {
			t.Fatalf("exit code %d: %s", code, said.String())
		}
		var r struct{ Reports []scan.Report }
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Reports) != 1 || len(r.Reports[0].Inventory.Problems) > 0 {
			t.Fatalf("it is not read: %s", out.String())
		}
		for _, m := range r.Reports[0].Misconfigurations {
			if strings.HasPrefix(m.Check, "CAST-ROLE-") {
				found = append(found, m.Check+" "+m.Resource+": "+m.Evidence)
			}
		}
		return found, r.Reports[0].Documents
	}
	found, documents := roles(template)
	if len(found) > 0 || documents.Files != 1 || documents.Resources < 2 {
		t.Errorf("%d files, %d resources, faults %q", documents.Files, documents.Resources, found)
	}
	for from, to := range map[string]string{"ecr:GetAuthorizationToken": `"*"`, "ecr:DescribeRepositories": "ecr:*"} {
		worse := strings.Replace(template, from, to, 1)
		if to == "ecr:*" { // it is a fault on all resources
			worse = strings.Replace(worse, `!Sub "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/${Repositories}"`, `"*"`, 1)
		}
		if found, _ := roles(worse); len(found) == 0 {
			t.Errorf("%s in place of %s is no fault: the policy is not looked at", to, from)
		}
	}
	// A policy that another account's server reads by is as narrow.
	b, err = os.ReadFile("../../deploy/trail/cloudformation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ofTrail := strings.NewReplacer("ManagedPolicyArns: [!Ref ServerPolicy]", "ManagedPolicyArns: [!Ref ReaderPolicy]").Replace(task)
	trail := strings.Replace(string(b), "\nOutputs:\n", ofTrail+"\nOutputs:\n", 1)
	if found, documents := roles(trail); len(found) > 0 || documents.Files != 1 || documents.Resources < 2 {
		t.Errorf("deploy/trail: %d files, %d resources, faults %q", documents.Files, documents.Resources, found)
	}
	if found, _ := roles(strings.Replace(trail, "- sqs:DeleteMessage\n            Resource: !GetAtt Calls.Arn", "- iam:*\n            Resource: \"*\"", 1)); len(found) == 0 {
		t.Error("iam:* is no fault: the policy of deploy/trail is not looked at")
	}
	// Nor has the folder a fault or a secret as it is, and all of it is read.
	for _, words := range [][]string{{"scan", "iac", "../../deploy", "--fail-on", "low", "-o", "json"}, {"scan", "dir:../../deploy", "--no-match", "--fail-on", "low", "--no-cache"}} {
		t.Setenv("CASTELLAN_SECRET_SALT", strings.Repeat("s", 32))
		var out, said bytes.Buffer
		if code := execute(context.Background(), words, streams{strings.NewReader(""), &out, &said}); code != exitDone {
			t.Errorf("%v: exit code %d\n%s%s", words, code, out.String(), said.String())
		}
		var r struct{ Reports []scan.Report }
		if words[1] != "iac" {
			continue
		}
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Reports) != 1 {
			t.Fatalf("%d reports, %v", len(r.Reports), err)
		}
		if n := r.Reports[0]; len(n.Inventory.Problems) > 0 || n.Documents == nil || n.Documents.Files < 7 {
			t.Errorf("read were %+v, problems %+v", n.Documents, n.Inventory.Problems)
		}
	}
}
