package aws_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5" // by which SQS checks what it carries
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

const trailQueue = "https://sqs.eu-west-1.amazonaws.com/123456789012/castellan-trail"

// record is one of CloudTrail, as its user guide shows them.
func record(id, name string) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::123456789012:user/anna","accountId":"123456789012","userName":"anna"},
		"eventTime":"2026-11-29T08:00:00Z","eventSource":"cloudtrail.amazonaws.com","eventName":%q,"awsRegion":"eu-west-1","sourceIPAddress":"198.51.100.7","eventID":%q,"eventType":"AwsApiCall"}`, name, id)
}

// trailCloud is SQS, S3 and STS: it refuses requests whose signature is not right.
type trailCloud struct {
	t        *testing.T
	messages []string
	objects  map[string][]byte // by /bucket/key
	status   int               // of objects; 0 is well

	mu      sync.Mutex
	deleted []string
	assumed []string
}

// signed says whether the signature of a request is that of what it is.
func signed(r *http.Request, body []byte) bool {
	auth := r.Header.Get("Authorization")
	scope := strings.Split(between(auth, "Credential=", ","), "/")
	if len(scope) != 5 {
		return false
	}
	again := r.Clone(r.Context())
	again.URL.Scheme, again.URL.Host = "http", r.Host
	again.Header = http.Header{}
	for h := range strings.SplitSeq(between(auth, "SignedHeaders=", ","), ";") {
		switch h {
		case "host", "content-length", "x-amz-date":
		default:
			again.Header.Set(h, r.Header.Get(h))
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	sum := sha256.Sum256(body)
	secret := map[string]string{"AKIDEXAMPLE": "secret-key", "ASIAOTHER": "other-secret"}[scope[0]]
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = scope[3] == "s3" })
	credentials := sdk.Credentials{AccessKeyID: scope[0], SecretAccessKey: secret, SessionToken: r.Header.Get("X-Amz-Security-Token")}
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), r.ContentLength
	if !strings.Contains(auth, "content-length") {
		again.ContentLength = 0
	}
	if err := signer.SignHTTP(r.Context(), credentials, again, hex.EncodeToString(sum[:]), scope[3], scope[2], at); err != nil {
		return false
	}
	return between(again.Header.Get("Authorization"), "Signature=", ",") == between(auth, "Signature=", ",")
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

func (c *trailCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !signed(r, body) {
		c.t.Errorf("%s %s: the signature is wrong: %s", r.Method, r.URL, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if strings.Contains(string(body), "Action=AssumeRole") {
		c.mu.Lock()
		c.assumed = append(c.assumed, string(body))
		c.mu.Unlock()
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAOTHER</AccessKeyId>
			<SecretAccessKey>other-secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return
	}
	if r.Method == http.MethodGet {
		b, ok := c.objects[r.URL.Path]
		switch {
		case c.status != 0:
			w.WriteHeader(c.status)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write(b)
		}
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	var in object
	_ = json.Unmarshal(body, &in)
	out := object{}
	switch r.Header.Get("X-Amz-Target") {
	case "AmazonSQS.ReceiveMessage":
		var all []object
		for i, b := range c.messages {
			all = append(all, object{"MessageId": fmt.Sprintf("id-%d", i), "ReceiptHandle": fmt.Sprintf("handle-%d", i), "Body": b, "MD5OfBody": fmt.Sprintf("%x", md5.Sum([]byte(b)))})
		}
		out["Messages"] = all
	case "AmazonSQS.DeleteMessageBatch":
		c.mu.Lock()
		for _, e := range in["Entries"].([]any) {
			c.deleted = append(c.deleted, e.(object)["ReceiptHandle"].(string))
		}
		c.mu.Unlock()
		out["Successful"], out["Failed"] = []object{}, []object{}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func newTrailCloud(t *testing.T, c *trailCloud) *trailCloud {
	t.Helper()
	c.t = t
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	outside(t)
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	return c
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func s3Event(bucket, key string) string {
	return fmt.Sprintf(`{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":%q},"object":{"key":%q,"size":100}}}]}`, bucket, key)
}

func receive(t *testing.T, from asset.Trail) (ids []string, n asset.TrailCounts, err error) {
	t.Helper()
	d := aws.NewTrails(slog.New(slog.NewTextHandler(t.Output(), nil)))
	n, done, err := d.Receive(t.Context(), from, func(e *event.Event) error { ids = append(ids, e.Call.ID); return nil })
	if e := done(t.Context()); e != nil {
		t.Errorf("done() = %v", e)
	}
	return ids, n, err
}

func TestTrails(t *testing.T) {
	const key = "AWSLogs/123456789012/CloudTrail/eu-west-1/2026/11/29/123456789012_CloudTrail_eu-west-1_20261129T0805Z_a+b.json.gz"
	bridge := `{"version":"0","id":"x","detail-type":"AWS API Call via CloudTrail","source":"aws.cloudtrail","account":"123456789012","detail":` + record("e1", "StopLogging") + `}`
	c := newTrailCloud(t, &trailCloud{
		messages: []string{
			bridge, inTopic(bridge), s3Event("logs", strings.ReplaceAll(key, "+", "%2B")), `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"logs"}`, "hello",
			s3Event("logs", "AWSLogs/123456789012/CloudTrail-Digest/eu-west-1/x.json.gz"),
			inTopic(`{"s3Bucket":"logs","s3ObjectKey":["` + key + `"]}`),
			`{"detail-type":"Object Created","source":"aws.s3","detail":{"bucket":{"name":"logs"},"object":{"key":"` + key + `"}}}`,
			s3Event("logs", "none.json.gz"),
		},
		objects: map[string][]byte{"/logs/" + key: pack(t, `{"Records":[`+record("e2", "A")+","+record("e3", "B")+`]}`)},
	})
	ids, n, err := receive(t, asset.Trail{Name: "main", Queue: trailQueue})
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("error %v, want it to tell of the file that is not there", err)
	}
	if diff := cmp.Diff([]string{"e1", "e1", "e2", "e3", "e2", "e3", "e2", "e3"}, ids); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if want := (asset.TrailCounts{Calls: 8, Strays: 1}); n != want {
		t.Errorf("counts %+v, want %+v", n, want)
	}
	if diff := cmp.Diff([]string{"handle-0", "handle-1", "handle-2", "handle-3", "handle-5", "handle-6", "handle-7"}, c.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestTrailsOfAnotherAccount(t *testing.T) {
	c := newTrailCloud(t, &trailCloud{messages: []string{record("e1", "X")}})
	ids, _, err := receive(t, asset.Trail{Name: "other", Queue: trailQueue, Role: "arn:aws:iam::999988887777:role/castellan-trail", ExternalID: "x1"})
	if err != nil || len(ids) != 1 {
		t.Fatalf("got %q, %v", ids, err)
	}
	if len(c.assumed) != 1 || !strings.Contains(c.assumed[0], "role%2Fcastellan-trail") || !strings.Contains(c.assumed[0], "ExternalId=x1") {
		t.Errorf("assumed %q", c.assumed)
	}
}

func TestTrailsFail(t *testing.T) {
	newTrailCloud(t, &trailCloud{messages: []string{s3Event("logs", "a.json.gz")}, status: http.StatusForbidden})
	if _, _, err := receive(t, asset.Trail{Name: "main", Queue: trailQueue}); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "s3:GetObject") {
		t.Errorf("error %v, remedy %q", err, fault.Remedy(err))
	}
}
