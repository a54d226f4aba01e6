package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	bridge "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Permissions of targets, as remedies name them.
const (
	mayPublish = "sns:Publish on the topic, and kms:GenerateDataKey and kms:Decrypt on its key if it is encrypted with one of your own"
	mayPut     = "events:PutEvents on the bus"
)

const (
	// maxPublish bounds a message of SNS: 256 KiB (API reference, Publish) less what
	// attributes take and what JSON adds to JSON within it.
	maxPublish = 250 << 10
	// maxSubject bounds its subject, of printable ASCII; maxSMS what goes to a
	// telephone, one message.
	maxSubject = 99
	maxSMS     = 140
	// maxEntries and maxEntriesBytes bound one request of EventBridge (API reference,
	// PutEvents): 10 entries and 256 KiB together.
	maxEntries      = 10
	maxEntriesBytes = 256 << 10
	// entryOverhead is what an entry's source, time and type count beside its detail.
	entryOverhead = 512
)

// publish sends a topic the notification: as JSON, as text to those who get mail.
func (t *Targets) publish(ctx context.Context, config sdk.Config, topic string, a arn.ARN, n notice.Notification) error {
	text := untrusted.Clip(form.Text(&n), form.MaxText)
	var message []byte
	for most := maxPublish; ; most -= 64 << 10 { // quotes of JSON within JSON take room
		body, err := fitted(n, most)
		if err != nil {
			return err
		}
		message, err = json.Marshal(map[string]string{"default": string(body), "email": text, "sms": untrusted.Clip(form.Word(n.Title), maxSMS)})
		if err != nil {
			return fmt.Errorf("write notification: %w", err)
		}
		if len(message) <= maxPublish {
			break
		}
	}
	attribute := func(value string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: sdk.String("String"), StringValue: sdk.String(value)}
	}
	kind := "none"
	if len(n.Notices) > 0 {
		kind = string(n.Notices[0].Kind)
	}
	in := &sns.PublishInput{
		TopicArn: sdk.String(topic), Message: sdk.String(string(message)), MessageStructure: sdk.String("json"), Subject: sdk.String(subject(n.Title)),
		MessageAttributes: map[string]types.MessageAttributeValue{"severity": attribute(n.Severity.String()), "kind": attribute(kind)},
	}
	if strings.HasSuffix(a.Resource, ".fifo") {
		in.MessageGroupId, in.MessageDeduplicationId = sdk.String("castellan"), sdk.String(n.ID)
	}
	if _, err := sns.NewFromConfig(config).Publish(ctx, in); err != nil {
		return notTaken("publish to "+topic, err, mayPublish, "sns")
	}
	return nil
}

// subject makes a title one that SNS takes.
func subject(title string) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, "Castellan: "+form.Word(title))
	return s[:min(len(s), maxSubject)]
}

// putEvents puts each notice onto a bus as an event of its own.
func (t *Targets) putEvents(ctx context.Context, config sdk.Config, d notice.Destination, n notice.Notification) error {
	var batches [][]bridge.PutEventsRequestEntry
	size := 0
	for i := range n.Notices {
		e, err := busEvent(d, &n, i)
		if err != nil {
			return err
		}
		bytes := len(*e.Detail) + entryOverhead
		last := len(batches) - 1
		if last < 0 || len(batches[last]) == maxEntries || size+bytes > maxEntriesBytes {
			batches, size = append(batches, nil), 0
			last++
		}
		batches[last], size = append(batches[last], e), size+bytes
	}
	client := eventbridge.NewFromConfig(config)
	var taken int
	var refusals []string
	for _, batch := range batches {
		got, why, err := putBatch(ctx, client, d.URL, batch)
		if err != nil {
			return err
		}
		taken, refusals = taken+got, append(refusals, why...)
	}
	if len(refusals) == 0 {
		return nil
	}
	err := fault.New(fault.Invalid, "put events on %s: %d of %d were refused: %s", d.URL, len(refusals), len(n.Notices), refusals[0]).
		With("see the reason, and narrow the target's filter")
	if taken > 0 {
		return &notice.Partial{Err: err}
	}
	return &notice.Refused{Err: err}
}

// putBatch puts events, and again those of which EventBridge says that it could not
// take them now. It returns how many were taken, and why others never will be.
func putBatch(ctx context.Context, client *eventbridge.Client, bus string, batch []bridge.PutEventsRequestEntry) (taken int, refusals []string, err error) {
	what := "put events on " + bus
	const attempts = 3
	for range attempts {
		out, err := client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: batch})
		if err != nil {
			return taken, refusals, notTaken(what, err, mayPut, "events")
		}
		if out.FailedEntryCount == 0 {
			return taken + len(batch), refusals, nil
		}
		var again []bridge.PutEventsRequestEntry
		for i, e := range out.Entries {
			switch code := sdk.ToString(e.ErrorCode); {
			case i >= len(batch):
			case code == "":
				taken++
			case strings.Contains(code, "Throttl"), strings.Contains(code, "Internal"):
				again = append(again, batch[i])
			default:
				refusals = append(refusals, oneLine(fmt.Errorf("%s: %s", code, sdk.ToString(e.ErrorMessage))).Error())
			}
		}
		if batch = again; len(batch) == 0 {
			return taken, refusals, nil
		}
	}
	return taken, refusals, fault.New(fault.Unavailable, "%s: %d events were not taken now", what, len(batch)).With("nothing is lost: they are sent again")
}

// busEvent makes an event of a notice. Its type says what happened, so that rules
// can choose by it: "Castellan incident".
func busEvent(d notice.Destination, n *notice.Notification, i int) (e bridge.PutEventsRequestEntry, err error) {
	x := &n.Notices[i]
	var detail []byte
	if d.Format == notice.OCSF {
		if detail, err = json.Marshal(form.OCSF(fmt.Sprintf("%s-%d", n.ID, i+1), x)); err != nil {
			return e, fmt.Errorf("write notice: %w", err)
		}
	} else if detail, err = one(n, x); err != nil {
		return e, err
	}
	e = bridge.PutEventsRequestEntry{
		EventBusName: sdk.String(d.URL), Source: sdk.String("castellan"), DetailType: sdk.String("Castellan " + strings.ReplaceAll(string(x.Kind), ".", " ")),
		Detail: sdk.String(string(detail)), Time: sdk.Time(x.Time.Truncate(time.Second)),
	}
	if x.Workload != nil && strings.HasPrefix(x.Workload.Task, "arn:") {
		e.Resources = []string{x.Workload.Task}
	}
	return e, nil
}
