package trail_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/aws/trail"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

// taskRecord is a call by a task's role, in the shape of the user guide of CloudTrail
// ("CloudTrail record contents") and of Amazon ECS ("Log entries").
const taskRecord = `{
  "eventVersion": "1.11",
  "userIdentity": {
    "type": "AssumedRole", "principalId": "AROAEXAMPLE:0123456789abcdef0123456789abcdef",
    "arn": "arn:aws:sts::123456789012:assumed-role/shop-web/0123456789abcdef0123456789abcdef",
    "accountId": "123456789012", "accessKeyId": "ASIAEXAMPLE",
    "sessionContext": {
      "sessionIssuer": {"type": "Role", "principalId": "AROAEXAMPLE", "arn": "arn:aws:iam::123456789012:role/team/shop-web", "accountId": "123456789012", "userName": "shop-web"},
      "attributes": {"creationDate": "2026-11-29T07:00:00Z", "mfaAuthenticated": "false"}
    }
  },
  "eventTime": "2026-11-29T08:00:00Z", "eventSource": "ecs.amazonaws.com", "eventName": "RunTask", "awsRegion": "eu-west-1",
  "sourceIPAddress": "10.0.1.5", "userAgent": "aws-sdk-go-v2/1.30", "errorCode": "AccessDenied", "errorMessage": "no",
  "requestParameters": {"cluster":"shop","taskDefinition":"web:1"}, "responseElements": null,
  "requestID": "r1", "eventID": "e1", "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
  "recipientAccountId": "123456789012", "eventCategory": "Management", "vpcEndpointId": "vpce-1",
  "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": "ecs.eu-west-1.amazonaws.com"}
}`

func read(t *testing.T, b []byte) ([]*event.Event, trail.Counts, error) {
	t.Helper()
	var all []*event.Event
	n, err := trail.Read(bytes.NewReader(b), func(e *event.Event) error { all = append(all, e); return nil })
	return all, n, err
}

func packed(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRecord(t *testing.T) {
	want := &event.Event{
		Version: 1, Kind: event.KindCall, Time: time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC), Boot: "e1",
		Call: &event.Call{
			ID: "e1", Account: "123456789012", Region: "eu-west-1", Service: "ecs", Name: "RunTask", Type: "AwsApiCall", Error: "AccessDenied", Message: "no",
			Actor: event.Actor{
				Type: "AssumedRole", ARN: "arn:aws:sts::123456789012:assumed-role/shop-web/0123456789abcdef0123456789abcdef", Account: "123456789012", Name: "shop-web",
				Role: "arn:aws:iam::123456789012:role/team/shop-web", Session: "0123456789abcdef0123456789abcdef", Key: "ASIAEXAMPLE", Issued: time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC),
			},
			Source: "10.0.1.5", Endpoint: "vpce-1", Agent: "aws-sdk-go-v2/1.30", Request: json.RawMessage(`{"cluster":"shop","taskDefinition":"web:1"}`),
		},
	}
	file := `{"Records": [` + taskRecord + `]}`
	for name, document := range map[string][]byte{
		"a file": []byte(file), "a packed file": packed(t, []byte(file)), "a record": []byte(taskRecord), "a list": []byte("[" + taskRecord + "]"),
		"an event of EventBridge": []byte(`{"version":"0","detail-type":"AWS API Call via CloudTrail","source":"aws.ecs","account":"123456789012","detail":` + taskRecord + `}`),
		"a lookup":                fmt.Appendf(nil, `[{"EventId":"e1","CloudTrailEvent":%q}]`, strings.ReplaceAll(taskRecord, "\n", " ")),
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := read(t, document)
			if err != nil || n.Calls != 1 || n.Unreadable+n.Skipped != 0 {
				t.Fatalf("counts %+v, error %v", n, err)
			}
			if diff := cmp.Diff(want, got[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if k := got[0].Call.Actor.Kind(); k != event.ActorTask {
				t.Errorf("it is of a %s", k)
			}
		})
	}
}

func TestActors(t *testing.T) {
	for _, tc := range []struct {
		name, identity, kind, words string
	}{
		{"user", `{"type":"IAMUser","principalId":"AIDA","arn":"arn:aws:iam::123456789012:user/team/Alice","accountId":"123456789012","accessKeyId":"AKIA","userName":"Alice"}`, "user", "user Alice"},
		{"root", `{"type":"Root","principalId":"123456789012","arn":"arn:aws:iam::123456789012:root","accountId":"123456789012"}`, "root", "the root user of 123456789012"},
		{"service", `{"type":"AWSService","invokedBy":"ecs-tasks.amazonaws.com"}`, "service", "ecs-tasks.amazonaws.com"},
		{"instance", `{"type":"AssumedRole","arn":"arn:aws:sts::123456789012:assumed-role/ecsInstanceRole/i-0123456789abcdef0","sessionContext":{"sessionIssuer":{"userName":"ecsInstanceRole"},"ec2RoleDelivery":"2.0"}}`, "instance", "instance i-0123456789abcdef0 (role ecsInstanceRole)"},
		{"a person", `{"type":"AssumedRole","arn":"arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_1/anna@example.com","sessionContext":{}}`, "role", "role AWSReservedSSO_Admin_1 as anna@example.com"},
		{"a function", `{"type":"AssumedRole","arn":"arn:aws:sts::123456789012:assumed-role/f/orders","inScopeOf":{"issuerType":"AWS::Lambda::Function","credentialsIssuedTo":"arn:aws:lambda:eu-west-1:123456789012:function:orders"}}`, "function", "function orders (role f)"},
		{"federated", `{"type":"FederatedUser","arn":"arn:aws:sts::123456789012:federated-user/bob","accountId":"123456789012"}`, "user", "user bob"},
		{"identity center", `{"type":"IdentityCenterUser","accountId":"123456789012","onBehalfOf":{"userId":"u1","identityStoreArn":"arn:aws:identitystore::1:identitystore/d-1"}}`, "user", "user u1"},
		{"another account", `{"type":"AWSAccount","principalId":"AIDA:x","accountId":"999988887777"}`, "", "AIDA:x"},
		{"nothing", `{}`, "", "somebody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, ok, err := trail.Parse([]byte(`{"eventTime":"2026-11-29T08:00:00Z","eventSource":"sts.amazonaws.com","eventName":"X","eventID":"e","readOnly":"true","userIdentity":` + tc.identity + `}`))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if a := &e.Call.Actor; string(a.Kind()) != tc.kind || a.String() != tc.words || !e.Call.Read {
				t.Errorf("got %q, %q, read %v; want %q, %q", a.Kind(), a.String(), e.Call.Read, tc.kind, tc.words)
			}
		})
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	_, n, err := read(t, []byte(`{"Records":[{"eventCategory":"Insight","eventType":"AwsCloudTrailInsight"},{"eventName":"X"},7,`+taskRecord+`]}`))
	if want := (trail.Counts{Calls: 1, Skipped: 1, Unreadable: 2}); err != nil || n != want {
		t.Errorf("got %+v, %v; want %+v", n, err, want)
	}
	_, n, err = read(t, []byte(`{"awsAccountId":"1","digestStartTime":"2026-11-29T08:00:00Z","logFiles":[]}`))
	if want := (trail.Counts{Skipped: 1}); err != nil || n != want {
		t.Errorf("of a digest got %+v, %v", n, err)
	}
	for name, document := range map[string]string{"empty": "", "text": "hello", "a number": "7", "cut": `{"Records":[` + taskRecord, "no list": `{"Records":7}`} {
		if _, _, err := read(t, []byte(document)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want it to be Invalid", name, err)
		}
	}
}

// zeros are without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestHostileDocumentsAreBounded(t *testing.T) {
	huge := `{"Records":[{"eventName":"` + strings.Repeat("a", 3*trail.MaxRecord) + `"}]}`
	if _, _, err := read(t, packed(t, []byte(huge))); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a record of 3 MiB: %v", err)
	}
	if _, err := trail.Read(io.MultiReader(strings.NewReader(`{"Records":[`), zeros{}), func(*event.Event) error { return nil }); !fault.Is(err, fault.Exhausted) {
		t.Errorf("blanks without end: %v", err)
	}
	deep := strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)
	got, _, err := read(t, []byte(strings.Replace(taskRecord, `{"cluster":"shop","taskDefinition":"web:1"}`, deep, 1)))
	if err != nil || len(got) != 1 {
		t.Errorf("a deep request: %d calls, %v", len(got), err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"Records":[` + taskRecord + `]}`))
	f.Add(packed(f, []byte(taskRecord)))
	f.Add([]byte(`{"detail-type":"x","detail":` + taskRecord + `}`))
	f.Add([]byte(`[{"CloudTrailEvent":"{}"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		calls := 0
		n, _ := trail.Read(bytes.NewReader(b), func(e *event.Event) error {
			calls++
			if e.Call == nil || e.Call.ID == "" || len(e.Call.Agent) > 1024 {
				t.Errorf("%+v", e.Call)
			}
			_, _, _ = e.Words(), e.Call.Actor.Kind(), e.Call.Address()
			return nil
		})
		if n.Calls != calls {
			t.Errorf("%d told, %d taken", n.Calls, calls)
		}
	})
}

// BenchmarkRead is what a record costs to be unpacked and read.
func BenchmarkRead(b *testing.B) {
	const records = 1000
	file := packed(b, []byte(`{"Records":[`+strings.Repeat(taskRecord+",", records-1)+taskRecord+`]}`))
	b.SetBytes(int64(len(taskRecord)))
	b.ReportAllocs()
	for n := 0; n < b.N; n += records {
		if _, err := trail.Read(bytes.NewReader(file), func(*event.Event) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
