package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/castellan-security/castellan/internal/adapter/aws/trail"
	"github.com/castellan-security/castellan/internal/asset"
	noun "github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxTrailFile bounds a file of CloudTrail as it lies in the bucket. Those are
	// closed at 50 MB unpacked, which is some 5 packed.
	maxTrailFile = 64 << 20
	// trailHiddenFor is how long a message is nobody else's: files of ten are fetched
	// and read meanwhile.
	trailHiddenFor = 5 * time.Minute
	// maxFiles bounds the files that one message names: S3 and CloudTrail name one.
	maxFiles = 100
)

// Permissions that trails need, as remedies name them.
const (
	mayReadTrail = "s3:GetObject on the trail's bucket, and kms:Decrypt on its key if it has one of its own"
	mayAssume    = "sts:AssumeRole on the role, and let the role's trust policy name this one"
)

// Trails receives what CloudTrail tells through queues of Amazon SQS: events that
// EventBridge sends, or notices of files in a trail's bucket, which it fetches. It can
// be used by several goroutines.
type Trails struct {
	log *slog.Logger

	mu      sync.Mutex
	clients map[asset.Trail]*trailClient
}

type trailClient struct {
	sqs *sqs.Client
	s3  *S3
}

// NewTrails returns the door. It asks nobody yet.
func NewTrails(log *slog.Logger) *Trails {
	return &Trails{log: log, clients: map[asset.Trail]*trailClient{}}
}

// Receive waits up to 20 seconds for what a queue has, and calls take with each call
// of AWS in it. done takes the messages from the queue; if it isn't called, or fails,
// they come again, so that each comes at least once. It is never nil.
//
// A message that is none of CloudTrail is logged and stays: SQS moves it to the
// dead-letter queue, if there is one. Where a file can't be fetched the error says why,
// and its message stays; what other messages brought was taken all the same.
func (t *Trails) Receive(ctx context.Context, from asset.Trail, take func(*noun.Event) error) (_ asset.TrailCounts, done func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	var n asset.TrailCounts
	what := "receive from the queue of trail " + from.Name
	c, err := t.client(ctx, from)
	if err != nil {
		return n, nothing, fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := context.WithTimeout(ctx, receiveWithin)
	defer cancel()
	out, err := c.sqs.ReceiveMessage(within, &sqs.ReceiveMessageInput{
		QueueUrl: sdk.String(from.Queue), MaxNumberOfMessages: receiveMost,
		WaitTimeSeconds: int32(receiveFor / time.Second), VisibilityTimeout: int32(trailHiddenFor / time.Second),
	})
	if err != nil {
		if ctx.Err() != nil {
			return n, nothing, ctx.Err()
		}
		return n, nothing, refused(what, err, mayReceive, "sqs")
	}
	var taken []types.DeleteMessageBatchRequestEntry
	var trouble error
	for i, m := range out.Messages {
		counts, err := t.message(ctx, c, sdk.ToString(m.Body), take)
		n.Calls, n.Skipped, n.Unreadable = n.Calls+counts.Calls, n.Skipped+counts.Skipped, n.Unreadable+counts.Unreadable
		switch {
		case ctx.Err() != nil:
			return n, nothing, ctx.Err()
		case fault.Is(err, fault.Invalid) || fault.Is(err, fault.Exhausted):
			n.Strays++
			t.log.Warn("message in a trail's queue can't be read, and stays there", "trail", from.Name, "message", sdk.ToString(m.MessageId), "error", oneLine(err))
			continue
		case err != nil:
			trouble = err
			continue
		}
		taken = append(taken, types.DeleteMessageBatchRequestEntry{Id: sdk.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	if len(taken) == 0 {
		return n, nothing, trouble
	}
	return n, func(ctx context.Context) error {
		return remove(ctx, c.sqs, asset.Registry{Host: "trail " + from.Name, Queue: from.Queue}, taken)
	}, trouble
}

// message takes what one message tells.
func (t *Trails) message(ctx context.Context, c *trailClient, body string, take func(*noun.Event) error) (trail.Counts, error) {
	if len(body) > maxMessage {
		return trail.Counts{}, fault.New(fault.Invalid, "a message of %d bytes", len(body))
	}
	var n notification
	if err := json.Unmarshal([]byte(body), &n); err != nil {
		return trail.Counts{}, fault.New(fault.Invalid, "parse message: %w", err)
	}
	if n.Type == "Notification" && n.Topic != "" {
		body = n.Message
	}
	files, ours, err := filesOf(body)
	if err != nil {
		return trail.Counts{}, err
	}
	if !ours {
		return trail.Read(strings.NewReader(body), take)
	}
	var all trail.Counts
	for _, f := range files {
		b, _, err := c.s3.Get(ctx, f, "", maxTrailFile)
		if err != nil {
			if fault.Is(err, fault.Denied) {
				return all, fault.New(fault.Denied, "%w", err).With("permit the role " + mayReadTrail)
			}
			return all, err
		}
		got, err := trail.Read(bytes.NewReader(b), take)
		all.Add(got)
		if err != nil {
			return all, fmt.Errorf("read %s: %w", f, err)
		}
	}
	return all, nil
}

// objectTold is how S3 and EventBridge name an object.
type objectTold struct {
	Bucket struct {
		Name string `json:"name"`
	} `json:"bucket"`
	Object struct {
		Key string `json:"key"`
	} `json:"object"`
}

// filesOf returns the objects that a message names: as S3 tells of new ones, by itself
// or through EventBridge, or as CloudTrail does through SNS. ours is false for a message
// that is of none of these. Files that are no records, such as digests, are left out.
func filesOf(body string) (files []string, ours bool, err error) {
	var m struct {
		Records []struct {
			S3 objectTold `json:"s3"`
		} `json:"Records"`
		Event  string     `json:"Event"` // s3:TestEvent
		Bucket string     `json:"s3Bucket"`
		Keys   []string   `json:"s3ObjectKey"`
		Kind   string     `json:"detail-type"`
		Detail objectTold `json:"detail"`
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return nil, false, fault.New(fault.Invalid, "parse message: %w", err)
	}
	add := func(bucket, key string) {
		if ours = true; strings.Contains(key, "/CloudTrail-Digest/") || strings.Contains(key, "/CloudTrail-Insight/") || strings.HasSuffix(key, "/") || key == "" || len(files) >= maxFiles {
			return
		}
		files = append(files, "s3://"+bucket+"/"+key)
	}
	for _, r := range m.Records {
		if r.S3.Bucket.Name == "" {
			continue
		}
		key, err := url.QueryUnescape(r.S3.Object.Key) // as S3 writes keys in its events
		if err != nil {
			return nil, false, fault.New(fault.Invalid, "an object's key that can't be read: %.80q", r.S3.Object.Key)
		}
		add(r.S3.Bucket.Name, key)
	}
	for _, k := range m.Keys {
		add(m.Bucket, k)
	}
	if m.Kind == "Object Created" {
		add(m.Detail.Bucket.Name, m.Detail.Object.Key)
	}
	return files, ours || m.Event == "s3:TestEvent", nil
}

// client returns the way to a trail's queue and bucket, in the queue's region, as the
// role that is to be assumed, if there is one.
func (t *Trails) client(ctx context.Context, from asset.Trail) (*trailClient, error) {
	k := asset.Trail{Queue: from.Queue, Role: from.Role, ExternalID: from.ExternalID}
	t.mu.Lock()
	c := t.clients[k]
	t.mu.Unlock()
	if c != nil {
		return c, nil
	}
	region, err := queueRegion(from.Queue, "")
	if err != nil {
		return nil, err
	}
	config, err := load(ctx, registry{region: region}, t.log)
	if err != nil {
		return nil, err
	}
	if from.Role != "" {
		config.Credentials = sdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(config), from.Role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "castellan"
			if from.ExternalID != "" {
				o.ExternalID = sdk.String(from.ExternalID)
			}
		}))
	}
	if _, err := config.Credentials.Retrieve(ctx); err != nil {
		if from.Role != "" {
			return nil, refused("assume "+from.Role, err, mayAssume, "sts")
		}
		return nil, identified(ctx, config)
	}
	c = &trailClient{sqs: sqs.NewFromConfig(config), s3: &S3{session{log: t.log, config: &config}}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients[k] = c
	return c, nil
}

// Test says whether a trail's queue can be read, and whether what waits there can be:
// in words. The queue is left as it is. What can't be reached is the error.
func (t *Trails) Test(ctx context.Context, from asset.Trail) (string, error) {
	what := "look into the queue of trail " + from.Name
	c, err := t.client(ctx, from)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	out, err := c.sqs.ReceiveMessage(within, &sqs.ReceiveMessageInput{
		QueueUrl: sdk.String(from.Queue), MaxNumberOfMessages: 1, WaitTimeSeconds: 1, VisibilityTimeout: 0,
	})
	if err != nil {
		return "", refused(what, err, mayReceive, "sqs")
	}
	if len(out.Messages) == 0 {
		return "the queue can be read, and nothing waits in it now", nil
	}
	counts, err := t.message(within, c, sdk.ToString(out.Messages[0].Body), func(*noun.Event) error { return nil })
	if err != nil {
		return "", fmt.Errorf("read what waits in the queue: %w", err)
	}
	return fmt.Sprintf("the queue can be read, and so can what waits in it: %s", counts), nil
}
