package aws

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// receiveFor is how long SQS holds a request until there is a message, and
	// receiveMost how many one answer has; both are the most there may be.
	receiveFor  = 20 * time.Second
	receiveMost = 10
	// receiveWithin is how long that may take with what the network needs.
	receiveWithin = receiveFor + 15*time.Second
	// hiddenFor is how long a message is nobody else's: what is done with it takes
	// milliseconds, unless the database is busy.
	hiddenFor = 2 * time.Minute
)

// Permissions that a queue needs, as remedies name them.
const (
	mayReceive = "sqs:ReceiveMessage on the queue, and kms:Decrypt on its key if it is encrypted with one of your own"
	mayDelete  = "sqs:DeleteMessage on the queue"
)

// Queue receives what registries tell by EventBridge through queues of Amazon
// SQS. It can be used by several goroutines.
type Queue struct {
	log        *slog.Logger
	unreadable atomic.Int64

	mu      sync.Mutex
	clients map[string]*sqs.Client // by region
}

// NewQueue returns the door to queues. It asks nobody yet.
func NewQueue(log *slog.Logger) *Queue {
	return &Queue{log: log, clients: map[string]*sqs.Client{}}
}

// Receive waits up to 20 seconds for changes of a registry that has a queue; none
// within that time is no error. A queue may be shared by several registries: each
// change says in Host whose it is. done takes the messages from the queue once
// their changes were taken; if it isn't called, or fails, they come again within
// minutes, so that each comes at least once. It is never nil.
//
// Events of ECR that change no image are taken with the others. A message that is
// no event of ECR is logged with how many there were so far, and stays: whoever
// sent it may want it back, and SQS moves it to the dead-letter queue, if there
// is one, or deletes it when its time is over.
func (q *Queue) Receive(ctx context.Context, r asset.Registry) (changes []asset.RegistryChange, done func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	client, err := q.client(ctx, r)
	if err != nil {
		return nil, nothing, fmt.Errorf("receive changes of %s: %w", r.Host, err)
	}
	within, cancel := context.WithTimeout(ctx, receiveWithin)
	defer cancel()
	out, err := client.ReceiveMessage(within, &sqs.ReceiveMessageInput{
		QueueUrl: sdk.String(r.Queue), MaxNumberOfMessages: receiveMost,
		WaitTimeSeconds: int32(receiveFor / time.Second), VisibilityTimeout: int32(hiddenFor / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount},
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, nothing, ctx.Err()
		}
		return nil, nothing, refused("receive changes of "+r.Host, err, mayReceive, "sqs")
	}
	var taken []types.DeleteMessageBatchRequestEntry
	for i, m := range out.Messages {
		change, ok, err := parseEvent(sdk.ToString(m.Body), r.Host)
		if err != nil {
			q.log.Warn("message in a registry's queue is no event of ECR, and stays there", "registry", r.Host, "queue", r.Queue,
				"message", sdk.ToString(m.MessageId), "received", m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)],
				"unreadable", q.unreadable.Add(1), "error", oneLine(err))
			continue
		}
		if ok {
			changes = append(changes, change)
		}
		taken = append(taken, types.DeleteMessageBatchRequestEntry{Id: sdk.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	if len(taken) == 0 {
		return nil, nothing, nil
	}
	return changes, func(ctx context.Context) error { return remove(ctx, client, r, taken) }, nil
}

// remove takes messages from the queue, of which one answer has no more than one
// request may name.
func remove(ctx context.Context, client *sqs.Client, r asset.Registry, taken []types.DeleteMessageBatchRequestEntry) error {
	what := "delete messages of the queue of " + r.Host
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	out, err := client.DeleteMessageBatch(within, &sqs.DeleteMessageBatchInput{QueueUrl: sdk.String(r.Queue), Entries: taken})
	if err != nil {
		return refused(what, err, mayDelete, "sqs")
	}
	if len(out.Failed) > 0 {
		first := out.Failed[0]
		return fault.New(fault.Unavailable, "%s: %d of %d stay: %.80s: %.200s", what, len(out.Failed), len(taken),
			sdk.ToString(first.Code), sdk.ToString(first.Message)).With("nothing is lost: they come again")
	}
	return nil
}

// client returns the way to a registry's queue. Wherever its URL points, the SDK
// asks the endpoint of its region, or the one that AWS_ENDPOINT_URL_SQS names.
func (q *Queue) client(ctx context.Context, r asset.Registry) (*sqs.Client, error) {
	of, ok := parseHost(r.Host)
	if !ok || of.public {
		return nil, fault.New(fault.Invalid, "%q is no private registry of Amazon ECR, and only those send events to queues", r.Host).
			With("take the queue out of its configuration")
	}
	region, err := queueRegion(r.Queue, of.region)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	client := q.clients[region]
	q.mu.Unlock()
	if client != nil {
		return client, nil
	}
	config, err := load(ctx, registry{region: region, fips: of.fips, dualStack: of.dualStack}, q.log)
	if err != nil {
		return nil, err
	}
	if err := identified(ctx, config); err != nil {
		return nil, err
	}
	client = sqs.NewFromConfig(config)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clients[region] = client
	return client, nil
}

// queueRegion reads the region out of a queue's URL; a host that tells none is
// taken to be in the registry's.
//
//	https://sqs.eu-west-1.amazonaws.com/123456789012/castellan
//	https://eu-west-1.queue.amazonaws.com/123456789012/castellan
func queueRegion(queue, of string) (string, error) {
	u, err := url.Parse(queue)
	account, name, ok := "", "", false
	if err == nil {
		account, name, ok = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if !ok || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(account) != accountDigits || name == "" || strings.Contains(name, "/") {
		return "", fault.New(fault.Invalid, "%.200q is no queue's URL", queue).
			With("copy it from the queue's page: https://sqs.eu-west-1.amazonaws.com/123456789012/castellan")
	}
	labels := strings.Split(u.Hostname(), ".")
	for i, l := range labels {
		switch {
		case (l == "sqs" || l == "sqs-fips") && i+1 < len(labels) && strings.Contains(labels[i+1], "-") && isRegion(labels[i+1]):
			return labels[i+1], nil
		case l == "queue" && i == 1 && strings.Contains(labels[0], "-") && isRegion(labels[0]):
			return labels[0], nil
		}
	}
	return of, nil
}
