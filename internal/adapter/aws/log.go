package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
)

const mayLog = "logs:PutLogEvents and logs:CreateLogStream on the log group"

const (
	// logStream is where events go; it is made when it is not there. The group must
	// be: how long it keeps what is an operator's decision.
	logStream = "castellan"
	// maxLogEvent bounds one event, and maxLogBatch a request, of which each event
	// counts logOverhead beside its text (API reference, PutLogEvents). Events may
	// have 1 MiB; many readers of them take 256 KiB.
	maxLogEvent = 256 << 10
	maxLogBatch = 1 << 20
	logOverhead = 26
	// metricSpace is the namespace of metrics.
	metricSpace = "Castellan"
)

// logLines are the notices of a notification, one event each.
func logLines(n notice.Notification) (all []string, err error) {
	for i := range n.Notices {
		b, err := one(&n, &n.Notices[i])
		if err != nil {
			return nil, err
		}
		if len(b) > maxLogEvent {
			x := n.Notices[i]
			x.LeftOut += len(x.Findings)
			x.Findings = nil
			if b, err = one(&n, &x); err != nil {
				return nil, err
			}
		}
		all = append(all, string(b))
	}
	return all, nil
}

// metricLines counts the notices of a notification by kind, severity and cluster, in
// CloudWatch's embedded metric format (Amazon CloudWatch user guide, "Specification:
// Embedded metric format").
func (t *Targets) metricLines(n notice.Notification) (all []string, err error) {
	type key struct{ kind, severity, cluster string }
	counts := map[key]int{}
	var order []key
	for i := range n.Notices {
		x := &n.Notices[i]
		k := key{string(x.Kind), x.Severity.String(), ""}
		if c := x.Clusters(); len(c) > 0 {
			k.cluster = c[0]
		}
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	line := func(values map[string]any, metric string, dimensions [][]string) error {
		values["_aws"] = map[string]any{
			"Timestamp": t.clock().UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace": metricSpace, "Dimensions": dimensions, "Metrics": []any{map[string]string{"Name": metric, "Unit": "Count"}},
			}},
		}
		b, err := json.Marshal(values)
		if err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
		all = append(all, string(b))
		return nil
	}
	for _, k := range order {
		values := map[string]any{"Kind": k.kind, "Severity": k.severity, "Notices": counts[k]}
		dimensions := [][]string{{"Kind", "Severity"}}
		if k.cluster != "" {
			values["Cluster"] = k.cluster
			dimensions = append(dimensions, []string{"Cluster", "Kind", "Severity"})
		}
		if err := line(values, "Notices", dimensions); err != nil {
			return nil, err
		}
	}
	if n.LeftOut > 0 {
		if err := line(map[string]any{"NoticesLeftOut": n.LeftOut}, "NoticesLeftOut", [][]string{{}}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// putLogs puts lines into a log group, with the time at which they are sent: events
// of one request may not lie a day apart, and notices may.
func (t *Targets) putLogs(ctx context.Context, config sdk.Config, group string, lines []string) error {
	client := cloudwatchlogs.NewFromConfig(config)
	now := sdk.Int64(t.clock().UnixMilli())
	for len(lines) > 0 {
		var events []types.InputLogEvent
		for size := 0; len(lines) > 0; lines = lines[1:] {
			if size += len(lines[0]) + logOverhead; size > maxLogBatch && len(events) > 0 {
				break
			}
			events = append(events, types.InputLogEvent{Message: sdk.String(lines[0]), Timestamp: now})
		}
		if err := putLogBatch(ctx, client, group, events); err != nil {
			return err
		}
	}
	return nil
}

func putLogBatch(ctx context.Context, client *cloudwatchlogs.Client, group string, events []types.InputLogEvent) error {
	what := "put events into the log group " + group
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: sdk.String(group), LogStreamName: sdk.String(logStream), LogEvents: events}
	out, err := client.PutLogEvents(ctx, in)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		_, made := client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: in.LogGroupName, LogStreamName: in.LogStreamName})
		var there *types.ResourceAlreadyExistsException
		if made != nil && !errors.As(made, &there) {
			return notTaken("make a stream in the log group "+group, made, mayLog, "logs")
		}
		out, err = client.PutLogEvents(ctx, in)
	}
	if err != nil {
		return notTaken(what, err, mayLog, "logs")
	}
	if r := out.RejectedLogEventsInfo; r != nil {
		return &notice.Refused{Err: fault.New(fault.Invalid, "%s: some of %d were rejected by their time: expired up to %d, too old up to %d, too new from %d", what, len(events),
			sdk.ToInt32(r.ExpiredLogEventEndIndex), sdk.ToInt32(r.TooOldLogEventEndIndex), cmp.Or(sdk.ToInt32(r.TooNewLogEventStartIndex), int32(len(events)))).
			With("is the clock of the server right?")}
	}
	return nil
}
