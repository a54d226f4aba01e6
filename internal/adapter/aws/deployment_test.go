package aws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	serviceARN  = "arn:aws:ecs:eu-west-1:123456789012:service/shop/web"
	revisionARN = "arn:aws:ecs:eu-west-1:123456789012:service-revision/shop/web/9313423515462893900"
	clusterARN  = "arn:aws:ecs:eu-west-1:123456789012:cluster/shop"
	taskARN     = "arn:aws:ecs:eu-west-1:123456789012:task/shop/c13b4cb40f1f4fe4a2971f76ae5a47ad"
	defined     = "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7"
	webDigest   = "sha256:74b2c688c700ec95a93e478cdb959737c148df3fbf5ea706abe0318726e885e6"
)

// everything has the SDK ask one address, whatever the service.
func everything(t *testing.T, address string) {
	t.Helper()
	outside(t)
	for name, v := range map[string]string{"AWS_ENDPOINT_URL": address, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY": "secret-key", "AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(name, v)
	}
	t.Setenv("AWS_ENDPOINT_URL_SQS", "")
}

// shop answers as ECS does for a service with one task.
func shop(operation string, in object) (int, object) {
	switch operation {
	case "DescribeServiceRevisions":
		return 200, object{"serviceRevisions": []object{{"serviceRevisionArn": revisionARN, "serviceArn": serviceARN, "clusterArn": clusterARN,
			"taskDefinition": defined, "launchType": "FARGATE", "containerImages": []object{{"containerName": "web", "image": "shop/web:1", "imageDigest": webDigest}},
			"networkConfiguration": object{"awsvpcConfiguration": object{"subnets": []string{"subnet-1"}, "assignPublicIp": "ENABLED"}}}}}
	case "DescribeServices":
		return 200, object{"services": []object{{"serviceName": "web", "clusterArn": clusterARN, "desiredCount": 2, "enableExecuteCommand": true, "launchType": "EC2"}}}
	case "DescribeClusters":
		return 200, object{"clusters": []object{{"clusterName": "shop", "settings": []object{{"name": "containerInsights", "value": "disabled"}}}}}
	case "DescribeTaskDefinition":
		return 200, object{"taskDefinition": object{"family": "web", "revision": 7, "taskRoleArn": "arn:aws:iam::123456789012:role/web", "networkMode": "awsvpc",
			"containerDefinitions": []object{{"name": "web", "image": "shop/web:1", "privileged": true, "command": []string{"serve"},
				"environment": []object{{"name": "MODE", "value": "safe"}}, "linuxParameters": object{"capabilities": object{"add": []string{"SYS_ADMIN"}}}}}}}
	case "DescribeTasks":
		return 200, object{"tasks": []object{{"taskArn": taskARN, "clusterArn": clusterARN, "taskDefinitionArn": defined, "group": "service:web", "desiredStatus": "RUNNING", "enableExecuteCommand": true,
			"containers": []object{{"name": "web", "imageDigest": webDigest, "cpu": 0, "memory": "128"}}, // 0, not "0": as emulators write it
			"overrides": object{"taskRoleArn": "arn:aws:iam::123456789012:role/admin", "containerOverrides": []object{{"name": "web", "command": []string{"sh"},
				"environment": []object{{"name": "MODE", "value": "unsafe"}}}}}}}}
	case "StopTask":
		return 200, object{"task": object{"taskArn": taskARN, "containers": []object{{"name": "web", "cpu": 0, "memory": 128}}}}
	}
	return 400, object{"__type": "UnknownOperationException", "message": operation}
}

// template is what a document says, of which a test looks at parts.
type template struct {
	Resources map[string]struct {
		Type       string
		Properties object
	}
}

func read(t *testing.T, d admission.Document) template {
	t.Helper()
	var out template
	if err := json.Unmarshal(d.Body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRevision(t *testing.T) {
	c := newCloud(t, shop)
	everything(t, c.URL)
	d, err := aws.NewECS(slog.New(slog.DiscardHandler)).Revision(t.Context(), revisionARN)
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, d)
	container := got.Resources["Task"].Properties["ContainerDefinitions"].([]any)[0].(object)
	service := got.Resources["Service"].Properties
	for what, pair := range map[string][2]any{
		"name":         {d.Name, defined},
		"digest":       {d.Digests["web"], webDigest},
		"privileged":   {container["Privileged"], true},
		"capability":   {container["LinuxParameters"].(object)["Capabilities"].(object)["Add"].([]any)[0], "SYS_ADMIN"},
		"exec":         {service["EnableExecuteCommand"], true},
		"public":       {service["NetworkConfiguration"].(object)["AwsvpcConfiguration"].(object)["AssignPublicIp"], "ENABLED"},
		"launch":       {service["LaunchType"], "FARGATE"}, // the revision's, not what the service has now
		"reference":    {service["TaskDefinition"].(object)["Ref"], "Task"},
		"cluster type": {got.Resources["Cluster"].Type, "AWS::ECS::Cluster"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if a := c.asks("DescribeServices"); len(a) != 1 || a[0].scope != "eu-west-1 ecs" || a[0].in["cluster"] != clusterARN {
		t.Errorf("asked %+v", a)
	}
}

func TestTaskWithWhatIsOverridden(t *testing.T) {
	c := newCloud(t, shop)
	everything(t, c.URL)
	d, group, err := aws.NewECS(slog.New(slog.DiscardHandler)).Task(t.Context(), clusterARN, taskARN)
	if err != nil {
		t.Fatal(err)
	}
	task := read(t, d).Resources["Task"].Properties
	container := task["ContainerDefinitions"].([]any)[0].(object)
	want := []any{"service:web", webDigest, "arn:aws:iam::123456789012:role/admin", []any{"sh"}, []any{object{"Name": "MODE", "Value": "unsafe"}}}
	got := []any{group, d.Digests["web"], task["TaskRoleArn"], container["Command"], container["Environment"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatECSRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, operation string
		status          int
		answer          object
		kind            fault.Kind
		remedy          string
	}{
		{"may not", "DescribeServiceRevisions", 400, object{"__type": "AccessDeniedException", "message": "no"}, fault.Denied, "ecs:DescribeServiceRevisions"},
		{"throttled", "DescribeTaskDefinition", 400, object{"__type": "ThrottlingException", "message": "slowly"}, fault.Exhausted, "later"},
		{"no such definition", "DescribeTaskDefinition", 400, object{"__type": "ClientException", "message": "Unable to describe task definition."}, fault.NotFound, "account and region"},
		{"no such revision", "DescribeServiceRevisions", 200, object{"failures": []object{{"arn": revisionARN, "reason": "MISSING"}}}, fault.NotFound, "account and region"},
		{"no such cluster", "DescribeClusters", 200, object{"failures": []object{{"reason": "MISSING"}}}, fault.NotFound, "account and region"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t, func(operation string, in object) (int, object) {
				if operation == tt.operation {
					return tt.status, tt.answer
				}
				return shop(operation, in)
			})
			everything(t, c.URL)
			_, err := aws.NewECS(slog.New(slog.DiscardHandler)).Revision(t.Context(), revisionARN)
			if !fault.Is(err, tt.kind) || !strings.Contains(fault.Remedy(err), tt.remedy) {
				t.Errorf("got %v (%v, %q)", err, fault.Of(err), fault.Remedy(err))
			}
		})
	}
}

func TestTasksThatHaveEnded(t *testing.T) {
	for name, answer := range map[string]object{
		"gone":   {"failures": []object{{"reason": "MISSING"}}},
		"ending": {"tasks": []object{{"taskArn": taskARN, "taskDefinitionArn": defined, "desiredStatus": "STOPPED"}}},
	} {
		c := newCloud(t, func(string, object) (int, object) { return 200, answer })
		everything(t, c.URL)
		if _, _, err := aws.NewECS(slog.New(slog.DiscardHandler)).Task(t.Context(), clusterARN, taskARN); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStop(t *testing.T) {
	c := newCloud(t, shop)
	everything(t, c.URL)
	if err := aws.NewECS(slog.New(slog.DiscardHandler)).Stop(t.Context(), clusterARN, taskARN, "Castellan: why"); err != nil {
		t.Fatal(err)
	}
	if a := c.asks("StopTask"); len(a) != 1 || a[0].in["reason"] != "Castellan: why" || a[0].in["task"] != taskARN || a[0].in["cluster"] != clusterARN {
		t.Errorf("asked %+v", a)
	}
}

func TestRuns(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		answer object
		kind   fault.Kind
	}{
		{"goes on", 200, object{"tasks": []object{{"taskArn": taskARN, "desiredStatus": "RUNNING"}}}, fault.Unknown},
		{"is ending", 200, object{"tasks": []object{{"taskArn": taskARN, "desiredStatus": "STOPPED"}}}, fault.NotFound},
		{"has gone", 200, object{"tasks": []object{}, "failures": []object{{"arn": taskARN, "reason": "MISSING"}}}, fault.NotFound},
		{"may not look", 400, object{"__type": "AccessDeniedException", "message": "no"}, fault.Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t, func(string, object) (int, object) { return tt.status, tt.answer })
			everything(t, c.URL)
			err := aws.NewECS(slog.New(slog.DiscardHandler)).Runs(t.Context(), clusterARN, taskARN)
			if (err == nil) != (tt.kind == fault.Unknown) || fault.Of(err) != tt.kind {
				t.Errorf("got %v (%v), want %v", err, fault.Of(err), tt.kind)
			}
		})
	}
}

func TestDigestOfATag(t *testing.T) {
	image := admission.Image{Reference: "x", Registry: "123456789012.dkr.ecr.eu-west-1.amazonaws.com", Repository: "shop/web", Tag: "1"}
	for _, tt := range []struct {
		name   string
		image  admission.Image
		status int
		answer object
		want   string
		kind   fault.Kind
	}{
		{"known", image, 200, object{"imageDetails": []object{{"imageDigest": webDigest}}}, webDigest, fault.Unknown},
		{"not there", image, 400, object{"__type": "ImageNotFoundException", "message": "no"}, "", fault.Unknown},
		{"no repository", image, 400, object{"__type": "RepositoryNotFoundException", "message": "no"}, "", fault.Unknown},
		{"may not", image, 400, object{"__type": "AccessDeniedException", "message": "no"}, "", fault.Unknown},
		{"throttled", image, 400, object{"__type": "ThrottlingException", "message": "slowly"}, "", fault.Exhausted},
		{"no digest", image, 200, object{"imageDetails": []object{{"imageDigest": "sha256:x"}}}, "", fault.Unknown},
		{"another registry", admission.Image{Registry: "docker.io", Repository: "library/nginx"}, 500, object{}, "", fault.Unknown},
		{"a look-alike", admission.Image{Registry: "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", Repository: "x"}, 500, object{}, "", fault.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t, func(string, object) (int, object) { return tt.status, tt.answer })
			got, err := aws.NewECR(slog.New(slog.DiscardHandler)).Digest(t.Context(), tt.image)
			if got != tt.want || fault.Of(err) != tt.kind {
				t.Errorf("got %q, %v", got, err)
			}
			if a := c.asks("DescribeImages"); len(a) > 0 && (a[0].in["registryId"] != "123456789012" || a[0].in["repositoryName"] != "shop/web") {
				t.Errorf("asked %+v", a)
			}
		})
	}
}

// iam answers as IAM does, in XML, for a role with two policies.
func iam(t *testing.T, change func(action string, form url.Values) (int, string)) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(b))
		action := form.Get("Action")
		status, body := 200, ""
		document := url.PathEscape(`{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`)
		switch action {
		case "GetRole":
			body = `<Role><Arn>arn:aws:iam::123456789012:role/team/web</Arn><RoleName>web</RoleName><Path>/team/</Path><RoleId>A</RoleId><CreateDate>2020-01-01T00:00:00Z</CreateDate></Role>`
		case "ListRolePolicies":
			body = `<IsTruncated>false</IsTruncated><PolicyNames><member>inline</member></PolicyNames>`
		case "GetRolePolicy":
			body = `<RoleName>web</RoleName><PolicyName>inline</PolicyName><PolicyDocument>` + document + `</PolicyDocument>`
		case "ListAttachedRolePolicies":
			body = `<IsTruncated>false</IsTruncated><AttachedPolicies><member><PolicyName>m</PolicyName><PolicyArn>arn:aws:iam::aws:policy/m</PolicyArn></member></AttachedPolicies>`
		case "GetPolicy":
			body = `<Policy><Arn>arn:aws:iam::aws:policy/m</Arn><DefaultVersionId>v3</DefaultVersionId></Policy>`
		case "GetPolicyVersion":
			if form.Get("VersionId") == "v3" {
				body = `<PolicyVersion><Document>` + document + `</Document><VersionId>v3</VersionId></PolicyVersion>`
			}
		}
		if change != nil {
			if code, other := change(action, form); code != 0 {
				status, body = code, other
			}
		}
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		if status != 200 {
			fmt.Fprintf(w, `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, body)
			return
		}
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, action, body)
	}))
	t.Cleanup(s.Close)
	everything(t, s.URL)
}

func TestRoles(t *testing.T) {
	const arn = "arn:aws:iam::123456789012:role/team/web"
	for _, tt := range []struct {
		name, arn string
		change    func(string, url.Values) (int, string)
		known     bool
		kind      fault.Kind
	}{
		{"all read", arn, nil, true, fault.Unknown},
		{"of another account with the same name", "arn:aws:iam::999999999999:role/team/web", nil, false, fault.Unknown},
		{"not there", arn, func(string, url.Values) (int, string) { return 404, "NoSuchEntity" }, false, fault.Unknown},
		{"one policy may not be read", arn, func(a string, _ url.Values) (int, string) {
			if a == "GetPolicyVersion" {
				return 403, "AccessDenied"
			}
			return 0, ""
		}, false, fault.Unknown},
		{"throttled", arn, func(string, url.Values) (int, string) { return 400, "Throttling" }, false, fault.Exhausted},
		{"IAM is ill", arn, func(string, url.Values) (int, string) { return 500, "ServiceFailure" }, false, fault.Unavailable},
		{"more policies than are read", arn, func(a string, _ url.Values) (int, string) {
			if a == "ListRolePolicies" {
				return 200, `<IsTruncated>false</IsTruncated><PolicyNames>` + strings.Repeat(`<member>inline</member>`, 61) + `</PolicyNames>`
			}
			return 0, ""
		}, false, fault.Unknown},
		{"not known yet which", "${Role.Arn}", func(string, url.Values) (int, string) { return 500, "must not be asked" }, false, fault.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iam(t, tt.change)
			r := admission.Role{Use: "task", ARN: tt.arn}
			err := aws.NewIAM(slog.New(slog.DiscardHandler)).Complete(t.Context(), &r)
			if r.Known != tt.known || fault.Of(err) != tt.kind || tt.known != (len(r.Policies) == 2) {
				t.Errorf("known: %v with %d policies, %v (%v)", r.Known, len(r.Policies), err, fault.Of(err))
			}
		})
	}
}

func TestRoleWithABoundary(t *testing.T) {
	const arn = "arn:aws:iam::123456789012:role/team/web"
	bounded := func(readable bool) func(string, url.Values) (int, string) {
		return func(action string, form url.Values) (int, string) {
			of := form.Get("PolicyArn")
			switch {
			case action == "GetRole":
				return 200, `<Role><Arn>` + arn + `</Arn><RoleName>web</RoleName><Path>/team/</Path><RoleId>A</RoleId><CreateDate>2020-01-01T00:00:00Z</CreateDate>
					<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType><PermissionsBoundaryArn>arn:aws:iam::123456789012:policy/limit</PermissionsBoundaryArn></PermissionsBoundary></Role>`
			case strings.HasSuffix(of, "/limit") && !readable:
				return 403, "AccessDenied"
			case strings.HasSuffix(of, "/limit") && action == "GetPolicyVersion":
				return 200, `<PolicyVersion><Document>` + url.PathEscape(`{"Statement":[]}`) + `</Document><VersionId>v3</VersionId></PolicyVersion>`
			}
			return 0, ""
		}
	}
	for _, readable := range []bool{true, false} {
		iam(t, bounded(readable))
		r := admission.Role{Use: "task", ARN: arn}
		if err := aws.NewIAM(slog.New(slog.DiscardHandler)).Complete(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Known != readable || readable && (!r.Bounded || string(r.Boundary) != `{"Statement":[]}` || len(r.Policies) != 2) {
			t.Errorf("readable %v: %+v", readable, r)
		}
	}
}

func TestObjects(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.EscapedPath())
		switch {
		case !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/s3/aws4_request"):
			http.Error(w, "not signed", http.StatusForbidden)
		case r.Header.Get("If-None-Match") == `"v1"`:
			w.WriteHeader(http.StatusNotModified)
		case strings.HasSuffix(r.URL.Path, "none"):
			http.NotFound(w, r)
		default:
			w.Header().Set("ETag", `"v1"`)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100))
		}
	}))
	t.Cleanup(s.Close)
	everything(t, s.URL)
	door := aws.NewS3(slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		name, object, known string
		limit               int64
		bytes               int
		etag                string
		kind                fault.Kind
	}{
		{"new", "s3://policies/a b/c+d.bundle", "", 100, 100, `"v1"`, fault.Unknown},
		{"as it was", "s3://policies/bundle", `"v1"`, 100, 0, `"v1"`, fault.Unknown},
		{"too large", "s3://policies/bundle", "", 99, 0, "", fault.Exhausted},
		{"not there", "s3://policies/none", "", 100, 0, "", fault.NotFound},
		{"no name", "policies/bundle", "", 100, 0, "", fault.Invalid},
		{"no bucket", "s3://Policies_/bundle", "", 100, 0, "", fault.Invalid},
		{"a bucket that climbs", "s3://../bundle", "", 100, 0, "", fault.Invalid},
		{"no key", "s3://policies", "", 100, 0, "", fault.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, etag, err := door.Get(t.Context(), tt.object, tt.known, tt.limit)
			if len(b) != tt.bytes || etag != tt.etag || fault.Of(err) != tt.kind {
				t.Errorf("%d bytes, %q, %v", len(b), etag, err)
			}
		})
	}
	if asked[0] != "/policies/a%20b/c%2Bd.bundle" {
		t.Errorf("asked for %s", asked[0])
	}
}

func TestSecrets(t *testing.T) {
	c := newCloud(t, func(operation string, in object) (int, object) {
		switch {
		case operation == "GetSecretValue":
			return 200, object{"SecretString": "from-secrets-manager\n"}
		case operation == "GetParameter" && in["Name"] == "/empty":
			return 200, object{"Parameter": object{"Value": " "}}
		case operation == "GetParameter" && in["WithDecryption"] == true:
			return 200, object{"Parameter": object{"Value": "from-ssm"}}
		}
		return 400, object{"__type": "ResourceNotFoundException", "message": "no"}
	})
	everything(t, c.URL)
	for _, tt := range []struct {
		name, want string
		kind       fault.Kind
	}{
		{"arn:aws:secretsmanager:eu-west-1:123456789012:secret:castellan-x", "from-secrets-manager", fault.Unknown},
		{"arn:aws:ssm:eu-west-1:123456789012:parameter/castellan/token", "from-ssm", fault.Unknown},
		{"/castellan/token", "from-ssm", fault.Unknown},
		{"/empty", "", fault.Invalid},
		{"token", "", fault.Invalid},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err := aws.Secret(ctx, tt.name, slog.New(slog.DiscardHandler))
		cancel()
		if got != tt.want || fault.Of(err) != tt.kind {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
