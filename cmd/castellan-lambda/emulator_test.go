package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/store"
)

// emulator is AWS as moto emulates it: another reading of its interfaces than the
// stand-in of these tests.
type emulator struct {
	url string
	t   *testing.T
}

// newEmulator starts one.
func newEmulator(t *testing.T) *emulator {
	t.Helper()
	name := need.Program(t, "moto_server", "pip install 'moto[server,all]'")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	p := exec.CommandContext(ctx, name, "-H", "127.0.0.1", "-p", "0")
	said, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = p.Wait() })
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "Running on "); ok {
			go func() { _, _ = io.Copy(io.Discard, said) }() // ends with the program
			return &emulator{strings.TrimSpace(at), t}
		}
	}
	t.Fatalf("%s does not say where it is: %v", name, lines.Err())
	return nil
}

// send asks a service for something, as somebody of the account.
func (e *emulator) send(method, service, path string, header map[string]string, body []byte) []byte {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, bytes.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261128/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		e.t.Fatalf("%s %s: %s %v\n%s", service, path, resp.Status, err, b)
	}
	return b
}

// call calls an operation of a service whose interface is JSON.
func (e *emulator) call(service, target string, in object) object {
	e.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		e.t.Fatal(err)
	}
	var out object
	b := e.send(http.MethodPost, service, "/", map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}, body)
	if err := json.Unmarshal(b, &out); err != nil && len(b) > 0 {
		e.t.Fatalf("%s: %v\n%s", target, err, b)
	}
	return out
}

func (e *emulator) ecs(operation string, in object) object {
	e.t.Helper()
	return e.call("ecs", "AmazonEC2ContainerServiceV20141113."+operation, in)
}

// query calls an operation of a service whose interface is of forms and XML.
func (e *emulator) query(service, version, operation string, in map[string]string, out any) {
	e.t.Helper()
	form := url.Values{"Action": {operation}, "Version": {version}}
	for k, v := range in {
		form.Set(k, v)
	}
	b := e.send(http.MethodPost, service, "/", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, []byte(form.Encode()))
	if out == nil {
		return
	}
	if err := xml.Unmarshal(b, out); err != nil {
		e.t.Fatalf("%s: %v\n%s", operation, err, b)
	}
}

// stack makes a stack of a template, and returns its outputs and the ids of its
// resources.
func (e *emulator) stack(name, file string, parameters map[string]string) (outputs, resources map[string]string) {
	e.t.Helper()
	template, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}
	const version = "2010-05-15"
	form := map[string]string{"StackName": name, "TemplateBody": string(template), "Capabilities.member.1": "CAPABILITY_IAM"}
	n := 1
	for k, v := range parameters {
		form[fmt.Sprintf("Parameters.member.%d.ParameterKey", n)] = k
		form[fmt.Sprintf("Parameters.member.%d.ParameterValue", n)] = v
		n++
	}
	e.query("cloudformation", version, "CreateStack", form, nil)
	var described struct {
		Status  string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
		Outputs []struct {
			Key   string `xml:"OutputKey"`
			Value string `xml:"OutputValue"`
		} `xml:"DescribeStacksResult>Stacks>member>Outputs>member"`
	}
	if e.query("cloudformation", version, "DescribeStacks", map[string]string{"StackName": name}, &described); described.Status != "CREATE_COMPLETE" {
		e.t.Fatalf("the stack is %s", described.Status)
	}
	var listed struct {
		All []struct {
			Logical  string `xml:"LogicalResourceId"`
			Physical string `xml:"PhysicalResourceId"`
		} `xml:"ListStackResourcesResult>StackResourceSummaries>member"`
	}
	e.query("cloudformation", version, "ListStackResources", map[string]string{"StackName": name}, &listed)
	outputs, resources = map[string]string{}, map[string]string{}
	for _, o := range described.Outputs {
		outputs[o.Key] = o.Value
	}
	for _, r := range listed.All {
		resources[r.Logical] = r.Physical
	}
	return outputs, resources
}

// environment is what a function of a stack has been given.
func (e *emulator) environment(function string) []string {
	e.t.Helper()
	var c struct {
		Runtime, Handler string
		Environment      struct{ Variables map[string]any }
		VpcConfig        struct{ SubnetIds, SecurityGroupIds []string }
	}
	b := e.send(http.MethodGet, "lambda", "/2015-03-31/functions/"+function+"/configuration", nil, nil)
	if err := json.Unmarshal(b, &c); err != nil {
		e.t.Fatal(err)
	}
	if c.Runtime != "provided.al2023" || c.Handler != "bootstrap" {
		e.t.Errorf("%s has runtime %s and handler %s", function, c.Runtime, c.Handler)
	}
	var env []string
	for k, v := range c.Environment.Variables {
		env = append(env, k+"="+fmt.Sprint(v))
	}
	return env
}

// bucketed puts an object into a bucket of its own.
func (e *emulator) bucketed(bucket, key string, b []byte) {
	e.t.Helper()
	e.send(http.MethodPut, "s3", "/"+bucket, map[string]string{"Content-Type": "application/xml"},
		[]byte("<CreateBucketConfiguration><LocationConstraint>"+region+"</LocationConstraint></CreateBucketConfiguration>"))
	e.send(http.MethodPut, "s3", "/"+bucket+"/"+key, nil, b)
}

// installed is the template in an emulator, whose functions decide by a server.
func installed(t *testing.T, parameters map[string]string) (e *emulator, outputs, resources map[string]string) {
	t.Helper()
	e = newEmulator(t)
	e.bucketed("arts", "f.zip", []byte("PK\x05\x06"+strings.Repeat("\x00", 18)))
	all := map[string]string{"CodeBucket": "arts", "CodeKey": "f.zip"}
	maps.Copy(all, parameters)
	if token := parameters["Token"]; token != "" {
		secret := e.call("secretsmanager", "secretsmanager.CreateSecret", object{"Name": "castellan", "SecretString": token, "ClientRequestToken": strings.Repeat("t", 32)})
		all["TokenSecret"], _ = secret["ARN"].(string)
		delete(all, "Token")
	}
	outputs, resources = e.stack("castellan", "../../deploy/admission/cloudformation.yaml", all)
	return e, outputs, resources
}

// TestTemplateInAnEmulator deploys the template in its ways.
func TestTemplateInAnEmulator(t *testing.T) {
	const server = "https://castellan.internal:8600"
	for _, tt := range []struct {
		name       string
		parameters map[string]string
		has, lacks []string
		env        string
	}{
		{"the least", map[string]string{"Server": server, "TokenParameter": "arn:aws:ssm:us-west-2:123456789012:parameter/castellan"},
			[]string{"Gate", "GateRole", "DeploymentHookRole", "RolesPolicy"}, []string{"TemplateHookRole", "ReactionRole", "NetworkPolicy"}, "CASTELLAN_TOKEN_SECRET=arn:aws:ssm:us-west-2:123456789012:parameter/castellan"},
		{"all, in a network", map[string]string{"Server": server, "Token": "cst_token", "CloudFormationHook": "fail", "StackHook": "warn", "Reaction": "stop", "Subnets": "subnet-1,subnet-2", "SecurityGroups": "sg-1"},
			[]string{"TemplateHookRole", "ReactionRole", "ReactionFunction", "TaskStarts", "Failed", "NetworkPolicy"}, nil, "CASTELLAN_SERVER=" + server},
		{"alone", map[string]string{"BundleBucket": "policies", "BundlePublicKey": "-----BEGIN", "ReadRoles": "false", "StackHook": "fail", "Reaction": "report"},
			[]string{"TemplateHookRole", "ReactionRole"}, []string{"RolesPolicy"}, "CASTELLAN_BUNDLE=s3://policies/castellan.bundle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, outputs, resources := installed(t, tt.parameters)
			if !strings.HasSuffix(outputs["HookTargetArn"], ":function:castellan-gate") || !strings.Contains(outputs["HookRoleArn"], ":role/castellan-DeploymentHookRole") {
				t.Errorf("outputs %v", outputs)
			}
			for _, r := range tt.has {
				if resources[r] == "" {
					t.Errorf("there is no %s in %v", r, resources)
				}
			}
			for _, r := range tt.lacks {
				if resources[r] != "" {
					t.Errorf("there is %s in %v", r, resources)
				}
			}
			if env := e.environment("castellan-gate"); !slices.Contains(env, tt.env) {
				t.Errorf("environment %q lacks %s", env, tt.env)
			}
		})
	}
}

// TestFunctionsInAnEmulator runs the functions of a stack, each with the environment
// that it has there, on what is deployed beside it: they read the secret, task
// definitions, roles, images, templates and tasks, and stop one.
func TestFunctionsInAnEmulator(t *testing.T) {
	s, root, token := house(t, privilegedRefused)
	e, _, resources := installed(t, map[string]string{"Server": "https://" + s.Addr(), "ServerFingerprint": s.CAFingerprint(), "Token": token,
		"CloudFormationHook": "fail", "StackHook": "warn", "Reaction": "stop"})
	const registry = "123456789012.dkr.ecr." + region + ".amazonaws.com"
	e.call("ecr", "AmazonEC2ContainerRegistry_V20150921.CreateRepository", object{"repositoryName": "shop/web"})
	put := e.call("ecr", "AmazonEC2ContainerRegistry_V20150921.PutImage", object{"repositoryName": "shop/web", "imageTag": "1.4",
		"imageManifest": `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`})
	digest, _ := put["image"].(object)["imageId"].(object)["imageDigest"].(string)
	const iam = "2010-05-08"
	e.query("iam", iam, "CreateRole", map[string]string{"RoleName": "web", "AssumeRolePolicyDocument": `{"Version":"2012-10-17","Statement":[]}`}, nil)
	e.query("iam", iam, "PutRolePolicy", map[string]string{"RoleName": "web", "PolicyName": "own", "PolicyDocument": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"}]}`}, nil)
	e.query("iam", iam, "AttachRolePolicy", map[string]string{"RoleName": "web", "PolicyArn": resources["ReadPolicy"]}, nil)
	e.ecs("CreateCluster", object{"clusterName": "shop"})
	for family, privileged := range map[string]bool{"web": false, "tool": true} {
		e.ecs("RegisterTaskDefinition", object{"family": family, "networkMode": "awsvpc", "taskRoleArn": "arn:aws:iam::123456789012:role/web",
			"requiresCompatibilities": []string{"FARGATE"}, "cpu": "256", "memory": "512",
			"containerDefinitions": []object{{"name": family, "image": registry + "/shop/web:1.4", "memory": 128, "privileged": privileged}}})
	}
	e.bucketed("hooks", "payload", []byte(payload(t, "template/stack-payload")))
	service := strings.ReplaceAll(payload(t, "template/service"), "task-definition/web:7", "task-definition/%s")
	run := func(function, body, want string) {
		t.Helper()
		f := functionAt(e.url, e.environment(function)...)
		f.run(t, body)
		if all := strings.Join(f.answers, "\n"); !strings.Contains(all, want) {
			t.Errorf("answer %s lacks %s\nlog: %s", all, want, f.log)
		}
	}
	run("castellan-gate", payload(t, "template/repository"), `"hookStatus":"SUCCESS"`)
	run("castellan-gate", fmt.Sprintf(service, "tool:1"), "tool runs privileged")
	run("castellan-gate", fmt.Sprintf(service, "web:1"), `"hookStatus":"SUCCESS"`)
	run("castellan-gate", strings.ReplaceAll(payload(t, "template/stack"), "https://s3.us-west-2.amazonaws.com/", e.url+"/"), "web runs privileged")
	// What the emulator has no operation for is asked again, and never a pass.
	run("castellan-gate", payload(t, "service/pre-scale-up"), `"hookStatus":"IN_PROGRESS"`)

	kept, err := s.Gate().Verdicts(t.Context(), root, store.AdmissionQuery{Outcome: admission.Allow})
	if err != nil || len(kept) != 2 {
		t.Fatalf("the server keeps %+v, %v", kept, err)
	}
	asked, err := s.Gate().Verdict(t.Context(), root, fmt.Sprint(kept[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	task := asked.Request.Task
	if len(task.Roles) != 1 || !task.Roles[0].Known || len(task.Roles[0].Policies) != 2 || task.Containers[0].Image.Digest != digest || digest == "" {
		t.Errorf("the server was asked about %+v with the digest %s", task, digest)
	}

	var subnets, groups struct {
		Subnet []string `xml:"subnetSet>item>subnetId"`
		Group  []string `xml:"securityGroupInfo>item>groupId"`
	}
	e.query("ec2", "2016-11-15", "DescribeSubnets", nil, &subnets)
	e.query("ec2", "2016-11-15", "DescribeSecurityGroups", nil, &groups)
	network := object{"awsvpcConfiguration": object{"subnets": subnets.Subnet[:1], "securityGroups": groups.Group[:1]}}
	for family, want := range map[string]string{"web": `"action":"allowed"`, "tool": `"action":"stopped"`} {
		started := e.ecs("RunTask", object{"cluster": "shop", "taskDefinition": family, "launchType": "FARGATE", "count": 1, "networkConfiguration": network})
		arn, _ := started["tasks"].([]any)[0].(object)["taskArn"].(string)
		body := strings.ReplaceAll(payload(t, "task/running"), "arn:aws:ecs:us-west-2:111122223333:task/FargateCluster/c13b4cb40f1f4fe4a2971f76ae5a47ad", arn)
		body = strings.ReplaceAll(strings.ReplaceAll(body, "111122223333", "123456789012"), "cluster/FargateCluster", "cluster/shop")
		run("castellan-reaction", body, want)
		now := e.ecs("DescribeTasks", object{"cluster": "shop", "tasks": []string{arn}})["tasks"].([]any)[0].(object)
		if reason, _ := now["stoppedReason"].(string); (family == "tool") != strings.HasPrefix(reason, "Castellan: privileged: ") {
			t.Errorf("%s is %v, stopped with %q", family, now["lastStatus"], reason)
		}
	}
}
