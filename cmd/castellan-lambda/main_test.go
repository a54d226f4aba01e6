package main_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
)

// program is the built function, as it is packed for Lambda.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "castellan-lambda-test-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-o", name, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// payload is one of the door's testdata, which say where they are from.
func payload(t *testing.T, name string) string {
	t.Helper()
	archive, file, _ := strings.Cut(name, "/")
	a, err := txtar.ParseFile("../../internal/adapter/lambda/testdata/" + archive + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == file+".json" {
			return string(f.Data)
		}
	}
	t.Fatalf("there is no %s", name)
	return ""
}

// object is JSON.
type object = map[string]any

// cloud stands in for AWS: ECS, ECR, Secrets Manager and Systems Manager by their
// JSON protocols, IAM in XML, S3 by its addresses. It keeps what it was asked for.
type cloud struct {
	*httptest.Server
	privileged bool              // what the task definition says
	image      string            // of its container
	ill        bool              // ECS does not answer
	objects    map[string][]byte // of S3, by path
	token      string            // in the secret

	mu    sync.Mutex
	asked map[string]int // service:Operation
	stops []object
}

const (
	region = "us-west-2"
	digest = "sha256:74b2c688c700ec95a93e478cdb959737c148df3fbf5ea706abe0318726e885e6"
)

func newCloud(t *testing.T) *cloud {
	c := &cloud{token: "cst_token", asked: map[string]int{}, objects: map[string][]byte{}, image: "123456789012.dkr.ecr.us-west-2.amazonaws.com/shop/web:1"}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// ServeHTTP answers as the service that a request is signed for.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Query().Has("X-Amz-Signature") { // signed beforehand
		c.object(w, r)
		return
	}
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	part := strings.Split(scope, "/")
	if len(part) < 5 {
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	service := part[3]
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch service {
	case "iam":
		form, _ := url.ParseQuery(string(body))
		operation = form.Get("Action")
	case "s3":
		operation = "GetObject"
	}
	c.mu.Lock()
	c.asked[service+":"+operation]++
	c.mu.Unlock()
	switch service {
	case "iam":
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, operation, role(operation))
	case "s3":
		c.object(w, r)
	default:
		var in object
		_ = json.Unmarshal(body, &in)
		status, out := c.answer(operation, in)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out)
	}
}

func (c *cloud) object(w http.ResponseWriter, r *http.Request) {
	b, ok := c.objects[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(len(b))))
	_, _ = w.Write(b)
}

// role is what IAM says of the role web.
func role(operation string) string {
	document := url.PathEscape(`{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shop/*"}]}`)
	switch operation {
	case "GetRole":
		return `<Role><Arn>arn:aws:iam::123456789012:role/web</Arn><RoleName>web</RoleName><Path>/</Path><RoleId>A</RoleId><CreateDate>2020-01-01T00:00:00Z</CreateDate></Role>`
	case "ListRolePolicies":
		return `<IsTruncated>false</IsTruncated><PolicyNames><member>inline</member></PolicyNames>`
	case "GetRolePolicy":
		return `<RoleName>web</RoleName><PolicyName>inline</PolicyName><PolicyDocument>` + document + `</PolicyDocument>`
	case "ListAttachedRolePolicies":
		return `<IsTruncated>false</IsTruncated><AttachedPolicies><member><PolicyName>m</PolicyName><PolicyArn>arn:aws:iam::aws:policy/m</PolicyArn></member></AttachedPolicies>`
	case "GetPolicy":
		return `<Policy><Arn>arn:aws:iam::aws:policy/m</Arn><DefaultVersionId>v1</DefaultVersionId></Policy>`
	}
	return `<PolicyVersion><Document>` + document + `</Document><VersionId>v1</VersionId></PolicyVersion>`
}

func (c *cloud) answer(operation string, in object) (int, object) {
	if c.ill && strings.HasPrefix(operation, "Describe") {
		return 400, object{"__type": "ThrottlingException", "message": "slowly"}
	}
	const at = "arn:aws:ecs:us-west-2:123456789012:"
	switch operation {
	case "DescribeServiceRevisions":
		return 200, object{"serviceRevisions": []object{{"serviceRevisionArn": in["serviceRevisionArns"].([]any)[0], "serviceArn": at + "service/my-cluster/my-service",
			"clusterArn": at + "cluster/my-cluster", "taskDefinition": at + "task-definition/web:7", "launchType": "FARGATE",
			"containerImages": []object{{"containerName": "web", "image": c.image, "imageDigest": digest}}}}}
	case "DescribeServices":
		return 200, object{"services": []object{{"serviceName": "my-service", "clusterArn": at + "cluster/my-cluster", "desiredCount": 2}}}
	case "DescribeClusters":
		return 200, object{"clusters": []object{{"clusterName": "my-cluster"}}}
	case "DescribeTaskDefinition":
		return 200, object{"taskDefinition": object{"family": "web", "revision": 7, "networkMode": "awsvpc", "taskRoleArn": "arn:aws:iam::123456789012:role/web",
			"requiresCompatibilities": []string{"EC2"}, "containerDefinitions": []object{{"name": "web", "image": c.image, "essential": true, "privileged": c.privileged}}}}
	case "DescribeTasks":
		return 200, object{"tasks": []object{{"taskArn": in["tasks"].([]any)[0], "clusterArn": in["cluster"], "taskDefinitionArn": at + "task-definition/web:7",
			"group": "service:web", "desiredStatus": "RUNNING"}}}
	case "DescribeImages":
		return 200, object{"imageDetails": []object{{"imageDigest": digest}}}
	case "StopTask":
		c.mu.Lock()
		c.stops = append(c.stops, in)
		c.mu.Unlock()
		return 200, object{}
	case "GetSecretValue":
		return 200, object{"SecretString": c.token}
	case "GetParameter":
		return 200, object{"Parameter": object{"Value": c.token}}
	}
	return 400, object{"__type": "UnknownOperationException", "message": operation}
}

// function is the program, run by a stand-in of Lambda's runtime interface.
type function struct {
	env     []string
	account string // of the function
	limit   time.Duration

	answers []string // "response BODY" or "error BODY"
	init    string   // what it said at a start that failed
	log     string
}

// newFunction returns a function whose AWS is the cloud.
func newFunction(c *cloud, env ...string) *function { return functionAt(c.URL, env...) }

// functionAt returns a function whose AWS is at an address.
func functionAt(endpoint string, env ...string) *function {
	return &function{account: "123456789012", limit: 10 * time.Second, env: append([]string{
		"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=" + region, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=a-secret-key", "AWS_MAX_ATTEMPTS=1",
		"AWS_EC2_METADATA_DISABLED=true",
	}, env...)}
}

// run starts the program, gives it payloads one after another, and ends it as
// Lambda does.
func (f *function) run(t *testing.T, payloads ...string) {
	t.Helper()
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	all := make(chan struct{})
	n := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		if n == len(payloads) {
			close(all)
			<-r.Context().Done()
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprint("8476a536-e9f4-11e8-9739-2dfe598c3fc", n))
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(f.limit).UnixMilli()))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-west-2:"+f.account+":function:castellan")
		n++
		_, _ = io.WriteString(w, payloads[n-1])
	})
	keep := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			f.answers = append(f.answers, kind+" "+string(b))
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", keep("response"))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", keep("error"))
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		f.init = string(b)
		w.WriteHeader(http.StatusAccepted)
	})
	api := httptest.NewServer(mux)
	defer api.Close()
	p := exec.CommandContext(ctx, name)
	p.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(api.URL, "http://"), "PATH=/nowhere"}, f.env...)
	var out bytes.Buffer
	p.Stdout, p.Stderr = &out, &out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case <-all:
		_ = p.Process.Signal(os.Interrupt)
		err = <-ended
	case err = <-ended:
	}
	f.log = out.String()
	if (err != nil) != (f.init != "") {
		t.Fatalf("it ended with %v, having said %q at its start\n%s", err, f.init, f.log)
	}
	if strings.Contains(f.log, "a-secret-key") || strings.Contains(f.log, "cst_token") {
		t.Errorf("a secret is in the log:\n%s", f.log)
	}
	for line := range strings.Lines(f.log) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %s", line)
		}
	}
}

// policy refuses containers that run privileged, and images whose signatures are
// not known to be good.
const policy = `version: 1
mode: enforce
askAgain: 45s
rules:
  - id: no-privileged
    title: No privileged containers
    why: They can do what root can do on the host.
    severity: critical
    for: container
    deny: container.privileged
    message: "{container.name} runs privileged"
    remedy: Leave privileged away
  - id: trusted
    title: Only images that somebody has vouched for
    why: Nobody knows what is in others.
    severity: high
    for: image
    deny: "!image.trust.allowed"
    message: "nobody has vouched for {image.reference}"
    remedy: Sign it
    actions: [run]
`

// bundled puts a bundle into the cloud's S3, and returns the environment of a
// function that decides by it.
func bundled(t *testing.T, c *cloud, trust admission.Trust) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var b bytes.Buffer
	facts := []admission.Facts{{Digest: digest, At: now, Trust: trust}}
	if _, err := admit.WriteBundle(&b, admit.BundleContent{Policy: []byte(policy), Facts: facts}, admit.BundleTerms{Version: 3, Expires: now.Add(time.Hour)}, key, now); err != nil {
		t.Fatal(err)
	}
	c.objects["/policies/castellan.bundle"] = b.Bytes()
	public := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "\n", `\n`)
	return []string{"CASTELLAN_BUNDLE=s3://policies/castellan.bundle", "CASTELLAN_BUNDLE_KEY=" + public, "CASTELLAN_BUNDLE_MIN_VERSION=3"}
}

func good() admission.Trust { return admission.Trust{State: admission.Known, Allowed: true} }

func TestFunctionDecidesAlone(t *testing.T) {
	for _, tt := range []struct {
		name, payload string
		change        func(*cloud)
		trust         admission.Trust
		env           []string
		want          []string // that the answer has
		says          []string // that the log has
		stops         int
	}{
		{name: "deployment of what is signed", payload: "service/pre-scale-up", trust: good(), want: []string{`response {"hookStatus":"SUCCEEDED"}`}, says: []string{`"bundle in force"`, `"version":3`}},
		{name: "deployment of what is privileged", payload: "service/pre-scale-up", trust: good(), change: func(c *cloud) { c.privileged = true },
			want: []string{`response {"hookStatus":"FAILED"}`}, says: []string{`"rule":"no-privileged"`, `"remedy":"Leave privileged away"`, `"cluster":"my-cluster"`}},
		{name: "deployment of what is not signed", payload: "service/pre-scale-up", trust: admission.Trust{State: admission.Known}, want: []string{`response {"hookStatus":"FAILED"}`}, says: []string{`"rule":"trusted"`, digest}},
		{name: "deployment of what nobody knows", payload: "service/pre-scale-up", want: []string{`"hookStatus":"FAILED"`}},
		{name: "deployment while AWS throttles", payload: "service/pre-scale-up", trust: good(), change: func(c *cloud) { c.ill = true },
			want: []string{`response {"hookStatus":"IN_PROGRESS","callBackDelay":30,"hookDetails":{"castellanAsked":1}}`}},
		{name: "rollback", payload: "service/rollback", change: func(c *cloud) { c.privileged = true }, want: []string{`response {"hookStatus":"SUCCEEDED"}`}},
		{name: "task definition in a stack", payload: "template/definition", want: []string{`"hookStatus":"SUCCESS"`, `"clientRequestToken":"f8da6d11-b23f-48f4-814c-0fb6a667f50e"`}},
		{name: "service in a stack", payload: "template/service", trust: good(), change: func(c *cloud) { c.privileged = true },
			want: []string{`"hookStatus":"FAILED"`, `"errorCode":"NonCompliant"`, "no-privileged: web: web runs privileged – Leave privileged away", `"severityLevel":"CRITICAL"`}},
		{name: "whole stack", payload: "template/stack", want: []string{`"hookStatus":"FAILED"`, "web runs privileged"}},
		{name: "change set", payload: "template/change-set", want: []string{`"hookStatus":"FAILED"`, "web runs privileged"}},
		{name: "repository", payload: "template/repository", want: []string{`"hookStatus":"SUCCESS"`}},
		{name: "task that runs", payload: "task/running", trust: good(), env: []string{"CASTELLAN_STOP_TASKS=true"}, want: []string{`"action":"allowed"`}},
		{name: "task that is refused", payload: "task/running", trust: good(), change: func(c *cloud) { c.privileged = true }, env: []string{"CASTELLAN_STOP_TASKS=true"},
			want: []string{`"action":"stopped"`, "Castellan: no-privileged: web runs privileged"}, stops: 1},
		{name: "task that is refused, and only told", payload: "task/running", trust: good(), change: func(c *cloud) { c.privileged = true }, want: []string{`"action":"refused"`}},
		{name: "task that is spared", payload: "task/running", trust: good(), change: func(c *cloud) { c.privileged = true },
			env: []string{"CASTELLAN_STOP_TASKS=true", "CASTELLAN_SPARE=other/*, FargateCluster/web"}, want: []string{`"action":"spared"`}},
		{name: "task while nobody can decide", payload: "task/running", change: func(c *cloud) { clear(c.objects) },
			env: []string{"CASTELLAN_STOP_TASKS=true", "CASTELLAN_ON_ERROR=allow"}, want: []string{`"action":"allowed"`}},
		{name: "no bundle", payload: "service/pre-scale-up", change: func(c *cloud) { clear(c.objects) }, want: []string{`"hookStatus":"FAILED"`}, says: []string{"is there such an object?"}},
		{name: "no bundle, and it passes", payload: "service/pre-scale-up", change: func(c *cloud) { clear(c.objects) }, env: []string{"CASTELLAN_ON_ERROR=allow"}, want: []string{`"hookStatus":"SUCCEEDED"`}},
		{name: "an old bundle", payload: "service/pre-scale-up", trust: good(), env: []string{"CASTELLAN_BUNDLE_MIN_VERSION=4"}, want: []string{`"hookStatus":"FAILED"`}, says: []string{"at least 4 is taken"}},
		{name: "nonsense", payload: "", want: []string{`error {"errorMessage":"read payload`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t)
			f := newFunction(c, append(bundled(t, c, tt.trust), tt.env...)...)
			if tt.change != nil {
				tt.change(c)
			}
			body := "{}"
			if tt.payload != "" {
				body = strings.ReplaceAll(payload(t, tt.payload), "https://s3.us-west-2.amazonaws.com/", c.URL+"/")
			}
			if strings.HasPrefix(tt.payload, "task/") {
				f.account = "111122223333"
			}
			if kind, ok := strings.CutPrefix(tt.payload, "template/"); ok && (kind == "stack" || kind == "change-set") {
				c.objects["/hooks/payload"] = []byte(payload(t, tt.payload+"-payload"))
			}
			f.run(t, body)
			answer := strings.Join(f.answers, "\n")
			for _, w := range tt.want {
				if !strings.Contains(answer, w) {
					t.Errorf("answer %s lacks %s\nlog: %s", answer, w, f.log)
				}
			}
			for _, w := range tt.says {
				if !strings.Contains(f.log, w) {
					t.Errorf("the log lacks %s: %s", w, f.log)
				}
			}
			if len(c.stops) != tt.stops {
				t.Errorf("stopped %v", c.stops)
			}
		})
	}
}

// TestFunctionAsksTheServer: it sends the request as it is, with the token of the
// secret, to the server whose authority is known, and answers by its verdict.
func TestFunctionAsksTheServer(t *testing.T) {
	var got admission.Request
	verdict := func(r admission.Request) (int, any) {
		return 200, admission.Verdict{Request: r.ID, Outcome: admission.Deny, Reasons: []admission.Reason{{Effect: admission.Denies, Rule: "signed", Message: "it is not signed"}}}
	}
	answer := verdict
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/admit/decide" || r.Header.Get("Authorization") != "Bearer cst_token" {
			http.Error(w, "wrong", http.StatusUnauthorized)
			return
		}
		got = admission.Request{}
		_ = json.NewDecoder(r.Body).Decode(&got)
		status, v := answer(got)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}))
	defer s.Close()
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		answer func(admission.Request) (int, any)
		env    []string
		want   string
	}{
		{"refused", verdict, nil, `response {"hookStatus":"FAILED"}`},
		{"by a parameter", verdict, []string{"CASTELLAN_TOKEN_SECRET=arn:aws:ssm:us-west-2:123456789012:parameter/castellan/token"}, `response {"hookStatus":"FAILED"}`},
		{"allowed", func(r admission.Request) (int, any) {
			return 200, admission.Verdict{Request: r.ID, Outcome: admission.Allow}
		}, nil, `response {"hookStatus":"SUCCEEDED"}`},
		{"another request's verdict", func(admission.Request) (int, any) {
			return 200, admission.Verdict{Request: "x", Outcome: admission.Allow}
		}, nil, `"hookStatus":"IN_PROGRESS"`},
		{"no verdict", func(admission.Request) (int, any) { return 200, object{} }, nil, `"hookStatus":"IN_PROGRESS"`},
		{"ill", func(admission.Request) (int, any) { return 503, object{"detail": "no"} }, []string{"CASTELLAN_ASKS=0"}, `"hookStatus":"FAILED"`},
		{"ill, and it passes", func(admission.Request) (int, any) { return 503, object{"detail": "no"} }, []string{"CASTELLAN_ASKS=0", "CASTELLAN_ON_ERROR=allow"}, `"hookStatus":"SUCCEEDED"`},
		{"a request that it does not take is denied in any case", func(admission.Request) (int, any) { return 422, object{"detail": "too many containers"} }, []string{"CASTELLAN_ON_ERROR=allow"}, `"hookStatus":"FAILED"`},
		{"no right", func(admission.Request) (int, any) { return 403, object{"detail": "no"} }, nil, `"hookStatus":"FAILED"`},
		{"another authority", verdict, []string{"SSL_CERT_FILE=", "CASTELLAN_CA_FINGERPRINT=sha256:" + strings.Repeat("0", 64)}, `"hookStatus":"IN_PROGRESS"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer = tt.answer
			c := newCloud(t)
			f := newFunction(c, append([]string{"CASTELLAN_SERVER=" + s.URL, "SSL_CERT_FILE=" + trusted,
				"CASTELLAN_TOKEN_SECRET=arn:aws:secretsmanager:us-west-2:123456789012:secret:castellan-x"}, tt.env...)...)
			f.run(t, payload(t, "service/pre-scale-up"))
			if all := strings.Join(f.answers, "\n"); !strings.Contains(all, tt.want) {
				t.Errorf("answer %s lacks %s\nlog: %s", all, tt.want, f.log)
			}
		})
	}
	if got.Door != admission.Service || got.Action != admission.Run || got.Place.Service != "my-service" || len(got.Task.Containers) != 1 ||
		got.Task.Containers[0].Image.Digest != digest || !got.FaultsKnown || len(got.Task.Roles) != 1 || !got.Task.Roles[0].Known {
		b, _ := json.MarshalIndent(got, "", " ")
		t.Errorf("the server was asked %s", b)
	}
}

func TestFunctionEndsBeforeLambdaEndsIt(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the other side went away
		<-r.Context().Done()
	}))
	defer s.Close()
	c := newCloud(t)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFunction(c, "CASTELLAN_SERVER="+s.URL, "SSL_CERT_FILE="+trusted, "CASTELLAN_TOKEN_SECRET=/castellan/token")
	f.limit = 2 * time.Second
	from := time.Now()
	f.run(t, payload(t, "service/pre-scale-up"))
	if took := time.Since(from); took > 6*time.Second || !strings.Contains(strings.Join(f.answers, ""), "IN_PROGRESS") {
		t.Errorf("took %v, answered %q\n%s", took, f.answers, f.log)
	}
}

func TestConfigurationsThatAreWrong(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  []string
		says string
	}{
		{"nothing decides", nil, "nothing decides"},
		{"two decide", []string{"CASTELLAN_SERVER=https://castellan:8600", "CASTELLAN_BUNDLE=s3://a-bucket/b"}, "one of them decides"},
		{"without TLS", []string{"CASTELLAN_SERVER=http://castellan:8600", "CASTELLAN_TOKEN_SECRET=/t"}, "no address as https"},
		{"no token", []string{"CASTELLAN_SERVER=https://castellan:8600"}, "name the secret"},
		{"no key", []string{"CASTELLAN_BUNDLE=s3://a-bucket/b"}, "give the public key"},
		{"a key that is none", []string{"CASTELLAN_BUNDLE=s3://a-bucket/b", "CASTELLAN_BUNDLE_KEY=-----BEGIN PUBLIC KEY-----"}, "CASTELLAN_BUNDLE_KEY"},
		{"neither deny nor allow", []string{"CASTELLAN_ON_ERROR=perhaps"}, "neither deny nor allow"},
		{"no time", []string{"CASTELLAN_TIME_LIMIT=1h"}, "no time between"},
		{"a spared pattern without a cluster", []string{"CASTELLAN_SPARE=web"}, "no pattern of cluster/service"},
		{"a switch", []string{"CASTELLAN_STOP_TASKS=yes"}, "neither true nor false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFunction(newCloud(t), tt.env...)
			f.run(t, payload(t, "service/pre-scale-up"))
			if !strings.Contains(f.init, tt.says) || len(f.answers) > 0 {
				t.Errorf("it said %q, want %q; answered %q", f.init, tt.says, f.answers)
			}
		})
	}
}

// askedFor is all that the doors ask AWS for, each in every way, by function.
func askedFor(t *testing.T) (gate, reaction []string) {
	t.Helper()
	collect := func(account string, stop bool, payloads ...string) []string {
		c := newCloud(t)
		c.privileged = true
		env := append(bundled(t, c, good()), "CASTELLAN_STOP_TASKS="+fmt.Sprint(stop))
		f := newFunction(c, env...)
		f.account = account
		var bodies []string
		for _, p := range payloads {
			bodies = append(bodies, payload(t, p))
		}
		f.run(t, bodies...)
		// What a server needs besides is its token, from either place.
		for _, secret := range []string{"arn:aws:secretsmanager:us-west-2:123456789012:secret:castellan-x", "/castellan/token"} {
			f := newFunction(c, "CASTELLAN_SERVER=https://127.0.0.1:1", "CASTELLAN_TOKEN_SECRET="+secret)
			f.run(t)
		}
		return slices.Sorted(maps.Keys(c.asked))
	}
	return collect("123456789012", false, "service/pre-scale-up", "template/definition", "template/service"), collect("111122223333", true, "task/running")
}
