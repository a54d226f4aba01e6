package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

func TestRepositories(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       admission.Repository
		unknown    []string
	}{
		{"whole", `{"Resources":{"R":{"Type":"AWS::ECR::Repository","Properties":{"RepositoryName":"shop/web","ImageTagMutability":"IMMUTABLE","ImageScanningConfiguration":{"ScanOnPush":true},
			"EncryptionConfiguration":{"EncryptionType":"KMS","KmsKey":"k"},"RepositoryPolicyText":{"Statement":[{"Effect":"Allow"}]}}}}}`,
			admission.Repository{Name: "shop/web", Immutable: true, ScanOnPush: true, Key: "k", Policy: json.RawMessage(`{"Statement":[{"Effect":"Allow"}]}`)}, nil},
		{"of a change set", `{"Resources":{"R":{"Type":"AWS::ECR::Repository","Properties":{"ImageScanningConfiguration":{"ScanOnPush":"true"},"EncryptionConfiguration":{"EncryptionType":"KMS"},
			"RepositoryPolicyText":"{\"Statement\":[]}"}}}}`,
			admission.Repository{Name: "Resources.R", ScanOnPush: true, Key: "alias/aws/ecr", Policy: json.RawMessage(`{"Statement":[]}`)}, nil},
		{"nothing said", "Resources:\n  R:\n    Type: AWS::ECR::Repository\n", admission.Repository{Name: "Resources.R"}, nil},
		{"some tags move", `{"Resources":{"R":{"Type":"AWS::ECR::Repository","Properties":{"ImageTagMutability":"IMMUTABLE_WITH_EXCLUSION"}}}}`, admission.Repository{Name: "Resources.R"}, nil},
		{"left to the deployment", "Resources:\n  R:\n    Type: AWS::ECR::Repository\n    Properties:\n      RepositoryName: !Sub '${A}/web'\n      ImageTagMutability: {Ref: M}\n" +
			"      ImageScanningConfiguration: !If [C, {ScanOnPush: true}, {ScanOnPush: false}]\n      EncryptionConfiguration: {KmsKey: !GetAtt Key.Arn}\n      RepositoryPolicyText: {Statement: [{Principal: !Ref P}]}\n",
			admission.Repository{Name: "Resources.R"}, []string{"repositories[0].immutable", "repositories[0].key", "repositories[0].name", "repositories[0].policy", "repositories[0].scan_on_push"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readDocument(t.Context(), admission.Document{Name: "stack", Body: []byte(tt.body)})
			if err != nil || len(got) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			if diff := cmp.Diff(tt.want, got[0].Repositories[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tt.unknown, got[0].Unknown); diff != "" || !got[0].FaultsKnown {
				t.Errorf("unknown, -want +got:\n%s", diff)
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		requests   int
		says       string // of the error
	}{
		{"nothing of containers", `{"Resources":{"B":{"Type":"AWS::S3::Bucket"}}}`, 0, ""},
		{"no resources", `{}`, 0, ""},
		{"task in YAML", "Resources:\n  T:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      Family: web\n      ContainerDefinitions: [{Name: web, Image: !Ref Image}]\n", 1, ""},
		{"task whose type is written oddly", `{"Resources":{"T":{"Type":"AWS::ECS::Task\u0044efinition","Properties":{"Family":"web","ContainerDefinitions":[{"Name":"web","Image":"x"}]}}}}`, 1, ""},
		{"task and repository", `{"Resources":{"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"Family":"web","ContainerDefinitions":[{"Name":"web","Image":"x"}]}},"R":{"Type":"AWS::ECR::Repository"}}}`, 2, ""},
		{"service alone", `{"Resources":{"S":{"Type":"AWS::ECS::Service","Properties":{"TaskDefinition":{"Ref":"Elsewhere"}}}}}`, 1, ""},
		{"no template", `just words`, 0, "no template that is understood"},
		{"broken off", `{"Resources":{"T":{"Type":"AWS::ECS::TaskDefinition"`, 0, "no template that is understood"},
		{"a resource twice", `{"Resources":{"T":{"Type":"AWS::S3::Bucket"},"T":{"Type":"AWS::ECS::TaskDefinition"}}}`, 0, "no template that is understood"},
		{"too large", `{"Resources":{}}` + strings.Repeat(" ", 5<<20), 0, "more than 4194304 bytes"},
		{"aliases without end", "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n" +
			"Resources:\n  T:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      Family: x\n      ContainerDefinitions: *g\n", 0, "not read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readDocument(t.Context(), admission.Document{Name: "stack", Body: []byte(tt.body)})
			if tt.says == "" && err != nil || len(got) != tt.requests {
				t.Errorf("%d requests, %v", len(got), err)
			}
			if tt.says != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want an error with %q", err, tt.says)
			}
		})
	}
}

// FuzzDocument: whatever a template has, it becomes requests or is an error that
// doors deny.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"Resources":{"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"Family":"web","ContainerDefinitions":[{"Name":"web","Image":"x"}]}},"R":{"Type":"AWS::ECR::Repository","Properties":{"RepositoryName":"a","RepositoryPolicyText":{"Statement":[]}}}}}`))
	f.Add([]byte("Resources:\n  R: &r\n    Type: AWS::ECR::Repository\n    Properties: {ImageTagMutability: !Ref M, EncryptionConfiguration: *r}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := readDocument(t.Context(), admission.Document{Name: "stack", Body: b}); err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%v is of the kind %v", err, fault.Of(err))
		}
	})
}
