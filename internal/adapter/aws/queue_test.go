package aws_test

import (
	"crypto/md5" // by which SQS checks what it carries
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

const queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/castellan-registry"

// sample reads an event out of testdata/events, which are written after the
// samples in the user guide of Amazon ECR ("Amazon ECR events and EventBridge").
func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "events", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// inTopic wraps an event as SNS does for a queue that subscribes to a topic.
func inTopic(body string) string {
	b, err := json.Marshal(object{
		"Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:registry",
		"Message": body, "Timestamp": "2026-01-02T03:04:05.000Z", "SignatureVersion": "1", "Signature": "EXAMPLE",
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// holding answers for a queue with these messages, of which failing are not
// deleted.
func holding(failing int, bodies ...string) func(string, object) (int, object) {
	return func(operation string, in object) (int, object) {
		if operation == "DeleteMessageBatch" {
			out := object{"Successful": []object{}, "Failed": []object{}}
			for i, e := range in["Entries"].([]any) {
				id := e.(object)["Id"]
				if i < failing {
					out["Failed"] = append(out["Failed"].([]object), object{"Id": id, "Code": "InternalError", "Message": "try again", "SenderFault": false})
					continue
				}
				out["Successful"] = append(out["Successful"].([]object), object{"Id": id})
			}
			return http.StatusOK, out
		}
		var messages []object
		for i, b := range bodies {
			messages = append(messages, object{"MessageId": fmt.Sprintf("id-%d", i), "ReceiptHandle": fmt.Sprintf("handle-%d", i), "Body": b,
				"MD5OfBody": fmt.Sprintf("%x", md5.Sum([]byte(b))), "Attributes": object{"ApproximateReceiveCount": "3"}})
		}
		return http.StatusOK, object{"Messages": messages}
	}
}

func queue(t *testing.T) *aws.Queue {
	t.Helper()
	return aws.NewQueue(slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func TestQueue(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	host := "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	of := func(c asset.RegistryChange) []asset.RegistryChange {
		c.Host, c.At = host, at
		return []asset.RegistryChange{c}
	}
	pushed := of(asset.RegistryChange{Repository: "shop/web", Tag: "1.0", Digest: theDigest(1)})
	change := func(old, now string) string { return strings.Replace(sample(t, "push.json"), old, now, 1) }
	for _, tc := range []struct {
		name, body string
		want       []asset.RegistryChange
		stays      bool
	}{
		{"push", sample(t, "push.json"), pushed, false},
		{"push by a topic", inTopic(sample(t, "push.json")), pushed, false},
		{"push without a tag", change(`"image-tag": "1.0"`, `"image-tag": ""`), of(asset.RegistryChange{Repository: "shop/web", Digest: theDigest(1)}), false},
		{"push that failed", change(`"SUCCESS"`, `"FAILURE"`), nil, false},
		{"push of a signature", change(`"1.0"`, `"sha256-`+strings.Repeat("0", 64)+`.sig"`), nil, false},
		{"push of a chart", change(`"result"`, `"artifact-media-type": "application/vnd.cncf.helm.config.v1+json", "result"`), nil, false},
		{"delete", sample(t, "delete.json"), of(asset.RegistryChange{Repository: "shop/web", Tag: "1.0", Digest: theDigest(1), Deleted: true}), false},
		{"pull through", sample(t, "pull-through.json"), of(asset.RegistryChange{Repository: "docker-hub/library/alpine", Tag: "3.20", Digest: theDigest(2)}), false},
		{"pull through that failed", strings.Replace(sample(t, "pull-through.json"), "SUCCESS", "FAILED", 1), nil, false},
		{"replication", sample(t, "replication.json"), of(asset.RegistryChange{Repository: "shop/web", Tag: "1.0", Digest: theDigest(1)}), false},
		{"scan", sample(t, "scan.json"), nil, false},
		{"another region", change("eu-west-1", "eu-north-1"), []asset.RegistryChange{
			{Host: "123456789012.dkr.ecr.eu-north-1.amazonaws.com", Repository: "shop/web", Tag: "1.0", Digest: theDigest(1), At: at}}, false},
		{"another service", change("aws.ecr", "aws.ec2"), nil, true},
		{"a repository that is none", change("shop/web", "../web"), nil, true},
		{"an account that is none", change("123456789012", "evil.example/"), nil, true},
		{"no JSON", "hello", nil, true},
		{"another kind of JSON", `["aws.ecr"]`, nil, true},
		{"a topic's word", inTopic("hello"), nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCloud(t, holding(0, tc.body))
			changes, done, err := queue(t).Receive(t.Context(), asset.Registry{Host: host, Queue: queueURL})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if n := len(c.asks("DeleteMessageBatch")); n > 0 {
				t.Errorf("deleted before done")
			}
			if err := done(t.Context()); err != nil {
				t.Errorf("done() = %v", err)
			}
			deleted := c.asks("DeleteMessageBatch")
			if stays := len(deleted) == 0; stays != tc.stays {
				t.Errorf("stays in the queue: %v, want %v", stays, tc.stays)
			}
		})
	}
}

// What is asked of SQS, and that messages which are no events stay.
func TestQueueRequests(t *testing.T) {
	c := newCloud(t, holding(0, sample(t, "push.json"), "poison", sample(t, "scan.json")))
	changes, done, err := queue(t).Receive(t.Context(), asset.Registry{Host: private, Queue: queueURL})
	if err != nil || len(changes) != 1 {
		t.Fatalf("Receive() = %v, %v, want one change", changes, err)
	}
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
	}
	received := c.asks("ReceiveMessage")
	want := ask{"ReceiveMessage", "eu-west-1 sqs", object{
		"QueueUrl": queueURL, "MaxNumberOfMessages": 10.0, "WaitTimeSeconds": 20.0, "VisibilityTimeout": 120.0,
		"MessageSystemAttributeNames": []any{"ApproximateReceiveCount"},
	}}
	if diff := cmp.Diff([]ask{want}, received, cmp.AllowUnexported(ask{})); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	wanted := object{"QueueUrl": queueURL, "Entries": []any{
		object{"Id": "0", "ReceiptHandle": "handle-0"}, object{"Id": "2", "ReceiptHandle": "handle-2"},
	}}
	if diff := cmp.Diff(wanted, c.asks("DeleteMessageBatch")[0].in); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestQueueFails(t *testing.T) {
	refuses := func(code string) func(string, object) (int, object) {
		return func(string, object) (int, object) {
			return http.StatusBadRequest, object{"__type": "com.amazonaws.sqs#" + code, "message": "because"}
		}
	}
	for _, tc := range []struct {
		name   string
		r      asset.Registry
		code   string
		kind   fault.Kind
		remedy string
	}{
		{"not permitted", asset.Registry{Host: private, Queue: queueURL}, "AccessDeniedException", fault.Denied, "sqs:ReceiveMessage"},
		{"no such queue", asset.Registry{Host: private, Queue: queueURL}, "QueueDoesNotExist", fault.NotFound, "URL"},
		{"throttled", asset.Registry{Host: private, Queue: queueURL}, "RequestThrottled", fault.Exhausted, "later"},
		{"another registry", asset.Registry{Host: "registry.example", Queue: queueURL}, "", fault.Invalid, "queue"},
		{"no queue", asset.Registry{Host: private}, "", fault.Invalid, "https://sqs."},
		{"an ARN", asset.Registry{Host: private, Queue: "arn:aws:sqs:eu-west-1:123456789012:castellan"}, "", fault.Invalid, "https://sqs."},
		{"no account", asset.Registry{Host: private, Queue: "https://sqs.eu-west-1.amazonaws.com/castellan"}, "", fault.Invalid, "https://sqs."},
		{"a file", asset.Registry{Host: private, Queue: "file:///123456789012/castellan"}, "", fault.Invalid, "https://sqs."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newCloud(t, refuses(tc.code))
			changes, done, err := queue(t).Receive(t.Context(), tc.r)
			if fault.Of(err) != tc.kind || !strings.Contains(fault.Remedy(err), tc.remedy) || len(changes) > 0 || done == nil {
				t.Errorf("Receive() = %v, %v (%s, %q), want %s with %q", changes, err, fault.Of(err), fault.Remedy(err), tc.kind, tc.remedy)
			}
		})
	}
	t.Run("a message that isn't deleted", func(t *testing.T) {
		newCloud(t, holding(1, sample(t, "push.json"), sample(t, "delete.json")))
		_, done, err := queue(t).Receive(t.Context(), asset.Registry{Host: private, Queue: queueURL})
		if err != nil {
			t.Fatal(err)
		}
		if err := done(t.Context()); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "1 of 2") {
			t.Errorf("done() = %v, want it to say what stays", err)
		}
	})
	t.Run("an empty queue", func(t *testing.T) {
		c := newCloud(t, holding(0))
		changes, done, err := queue(t).Receive(t.Context(), asset.Registry{Host: private, Queue: queueURL})
		if err != nil || len(changes) > 0 {
			t.Fatalf("Receive() = %v, %v", changes, err)
		}
		if err := done(t.Context()); err != nil || len(c.asks("DeleteMessageBatch")) > 0 {
			t.Errorf("done() = %v, want it to do nothing", err)
		}
	})
}

// The region is the queue's, wherever the registry is.
func TestQueueRegion(t *testing.T) {
	for url, want := range map[string]string{
		queueURL: "eu-west-1",
		"https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/q":             "us-gov-west-1",
		"https://sqs.eu-central-1.api.aws/123456789012/q":                         "eu-central-1",
		"https://us-east-2.queue.amazonaws.com/123456789012/q":                    "us-east-2",
		"https://vpce-0a1b-2c3d.sqs.eu-north-1.vpce.amazonaws.com/123456789012/q": "eu-north-1",
		"https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q":                  "cn-north-1",
		"http://localhost:4566/123456789012/q":                                    "eu-west-1",
		"https://queue.example/123456789012/q":                                    "eu-west-1",
	} {
		c := newCloud(t, holding(0))
		if _, _, err := queue(t).Receive(t.Context(), asset.Registry{Host: private, Queue: url}); err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := c.asks("ReceiveMessage")[0].scope; got != want+" sqs" {
			t.Errorf("%s: asked %q, want %s", url, got, want)
		}
	}
}
