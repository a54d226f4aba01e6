package aws_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// receiver is AWS as far as it takes notifications: SNS in its query protocol, others
// in JSON.
type receiver struct {
	mu    sync.Mutex
	asked []ask
	// answer returns what an operation answers, and its status.
	answer func(operation string, in object) (int, string)
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{answer: taking}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	everything(t, s.URL)
	return r
}

// taking answers as those that take everything.
func taking(operation string, in object) (int, string) {
	switch operation {
	case "Publish":
		return 200, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>`
	case "PutEvents":
		return 200, `{"FailedEntryCount":0,"Entries":[]}`
	case "BatchImportFindings":
		return 200, fmt.Sprintf(`{"FailedCount":0,"SuccessCount":%d,"FailedFindings":[]}`, len(in["Findings"].([]any)))
	}
	return 200, "{}"
}

// ServeHTTP reads a request, notes it and answers.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b, err := io.ReadAll(q.Body)
	in := object{}
	_, operation, _ := strings.Cut(q.Header.Get("X-Amz-Target"), ".")
	switch {
	case err != nil:
	case strings.HasPrefix(q.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		var form url.Values
		if form, err = url.ParseQuery(string(b)); err == nil {
			for k := range form {
				in[k] = form.Get(k)
			}
			operation = form.Get("Action")
		}
	default:
		err = json.Unmarshal(b, &in)
	}
	if q.URL.Path == "/findings/import" {
		operation = "BatchImportFindings"
	}
	_, scope, _ := strings.Cut(q.Header.Get("Authorization"), "Credential=")
	parts := strings.Split(scope, "/")
	if err != nil || len(parts) < 5 {
		http.Error(w, "no request of AWS", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, ask{operation, parts[2] + " " + parts[3], in})
	status, out := r.answer(operation, in)
	w.Header().Set("Content-Type", q.Header.Get("Content-Type"))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, out)
}

// takes returns what was asked since the last time.
func (r *receiver) takes() []ask {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.asked
	r.asked = nil
	return all
}

func (r *receiver) answers(f func(string, object) (int, string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

var noticed = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

func hostile(n int) notice.Notice {
	return notice.Notice{
		Kind: notice.Incident, ID: fmt.Sprint(n), Subject: fmt.Sprint("incident-", n), Time: noticed, Severity: finding.High, Title: "shell over the network in prod/web/app",
		Detail: "nc listens.\n\x1bAnd more.", Link: "https://c/incidents/7", Rule: "reverse-shell", Remedy: "stop the task", Owner: "shop",
		Techniques: []notice.Technique{{ID: "T1059.004", Name: "Unix Shell", Tactic: "command-and-control"}},
		Workload: &notice.Workload{
			ID: "c1", Group: "prod/web/app", Account: "123456789012", Region: "eu-west-1", Cluster: "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
			Task: "arn:aws:ecs:eu-west-1:123456789012:task/prod/c13b4cb40f1f4fe4a2971f76ae5a47ad", Container: "app", Image: "shop/web:1",
		},
	}
}

func notification(n int) notice.Notification {
	out := notice.Notification{Version: 1, ID: "N1", Created: noticed, Severity: finding.High, Title: "shell über the network\nnow", Link: "https://c"}
	for i := range n {
		out.Notices = append(out.Notices, hostile(i))
	}
	return out
}

func at(k notice.Type, arn string) notice.Destination { return notice.Destination{Type: k, URL: arn} }

const (
	topicARN = "arn:aws:sns:eu-central-1:123456789012:castellan"
	busARN   = "arn:aws:events:eu-central-1:123456789012:event-bus/soc"
	groupARN = "arn:aws:logs:eu-central-1:123456789012:log-group:/castellan/notices:*"
	hubARN   = "arn:aws:securityhub:eu-central-1:123456789012:hub/default"
)

func targets() *aws.Targets { return aws.NewTargets(slog.New(slog.DiscardHandler)) }

func TestCheckTargets(t *testing.T) {
	for _, d := range []notice.Destination{at(notice.SNS, topicARN), at(notice.EventBridge, busARN), at(notice.CloudWatchLogs, groupARN), at(notice.CloudWatchMetrics, groupARN),
		at(notice.SecurityHub, hubARN), at(notice.SecurityHub, "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default")} {
		if shown, err := targets().Check(d); err != nil || shown != d.URL {
			t.Errorf("%s: %q, %v", d.URL, shown, err)
		}
	}
	for _, d := range []notice.Destination{
		at(notice.SNS, "https://sns"), at(notice.SNS, busARN), at(notice.SNS, topicARN+":sub"), at(notice.SNS, "arn:aws:sns:eu-central-1:12:castellan"),
		at(notice.SNS, "arn:aws:sns:../x:123456789012:castellan"), at(notice.EventBridge, "arn:aws:events:eu-central-1:123456789012:rule/x"),
		at(notice.CloudWatchLogs, "arn:aws:logs:eu-central-1:123456789012:log-group:"), at(notice.SecurityHub, "arn:aws:securityhub:eu-central-1:123456789012:product/999999999999/default"),
		{Type: notice.SNS, URL: topicARN, Secret: "x"}, {Type: notice.SNS, URL: topicARN, Plain: true}, at("webhook", topicARN), {},
	} {
		if _, err := targets().Check(d); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

func TestPublishToTopic(t *testing.T) {
	r := newReceiver(t)
	if err := targets().Send(t.Context(), at(notice.SNS, topicARN), notification(2)); err != nil {
		t.Fatal(err)
	}
	a := r.takes()
	if len(a) != 1 || a[0].operation != "Publish" || a[0].scope != "eu-central-1 sns" {
		t.Fatalf("asked %+v", a)
	}
	var message map[string]string
	var n notice.Notification
	if err := json.Unmarshal([]byte(a[0].in["Message"].(string)), &message); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(message["default"]), &n); err != nil || n.ID != "N1" || len(n.Notices) != 2 {
		t.Errorf("default %s, %v", message["default"], err)
	}
	if !strings.Contains(message["email"], "Workload: prod/web/app c1\n") || strings.Contains(message["email"], "\x1b") || strings.Contains(message["sms"], "\n") {
		t.Errorf("email %q, sms %q", message["email"], message["sms"])
	}
	if s := a[0].in["Subject"].(string); !strings.HasPrefix(s, "Castellan: shell ?") || strings.Contains(s, "\n") {
		t.Errorf("subject %q", s)
	}
	if _, fifo := a[0].in["MessageGroupId"]; fifo {
		t.Error("it has a group, and the topic keeps no order")
	}
	if err := targets().Send(t.Context(), at(notice.SNS, topicARN+".fifo"), notification(1)); err != nil {
		t.Fatal(err)
	}
	if in := r.takes()[0].in; in["MessageGroupId"] != "castellan" || in["MessageDeduplicationId"] != "N1" {
		t.Errorf("to a topic that keeps the order: %+v", in)
	}
}

// TestMessagesOfTheLimit: what is larger than a message may be leaves notices out.
func TestMessagesOfTheLimit(t *testing.T) {
	r := newReceiver(t)
	n := notification(50)
	for i := range n.Notices {
		n.Notices[i].Detail = strings.Repeat(`"quoted" `, 1_000)
	}
	if err := targets().Send(t.Context(), at(notice.SNS, topicARN), n); err != nil {
		t.Fatal(err)
	}
	text := r.takes()[0].in["Message"].(string)
	var message map[string]string
	var got notice.Notification
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(message["default"]), &got); err != nil {
		t.Fatal(err)
	}
	if len(text) > 256<<10 || len(got.Notices)+got.LeftOut != 50 || len(got.Notices) < 5 {
		t.Errorf("%d bytes with %d notices and %d left out", len(text), len(got.Notices), got.LeftOut)
	}
	if err := targets().Send(t.Context(), at(notice.EventBridge, busARN), n); err != nil {
		t.Fatal(err)
	}
	entries := 0
	for _, a := range r.takes() {
		all := a.in["Entries"].([]any)
		size := 0
		for _, e := range all {
			size += len(e.(object)["Detail"].(string))
		}
		if len(all) > 10 || size > 256<<10 {
			t.Errorf("%d entries of %d bytes in one request", len(all), size)
		}
		entries += len(all)
	}
	if entries != 50 {
		t.Errorf("%d entries", entries)
	}
}

func TestPutEvents(t *testing.T) {
	r := newReceiver(t)
	d := at(notice.EventBridge, busARN)
	if err := targets().Send(t.Context(), d, notification(1)); err != nil {
		t.Fatal(err)
	}
	e := r.takes()[0].in["Entries"].([]any)[0].(object)
	var detail struct {
		Notification string `json:"notification"`
		notice.Notice
	}
	if err := json.Unmarshal([]byte(e["Detail"].(string)), &detail); err != nil || detail.Notification != "N1" || detail.Rule != "reverse-shell" {
		t.Errorf("detail %v, %v", e["Detail"], err)
	}
	if e["Source"] != "castellan" || e["DetailType"] != "Castellan incident" || e["EventBusName"] != busARN || !strings.HasPrefix(e["Resources"].([]any)[0].(string), "arn:aws:ecs:") {
		t.Errorf("entry %+v", e)
	}
	d.Format = notice.OCSF
	if err := targets().Send(t.Context(), d, notification(1)); err != nil {
		t.Fatal(err)
	}
	e = r.takes()[0].in["Entries"].([]any)[0].(object)
	var ocsf object
	if err := json.Unmarshal([]byte(e["Detail"].(string)), &ocsf); err != nil || ocsf["class_uid"] != 2004.0 || ocsf["type_uid"] != 200401.0 || ocsf["severity_id"] != 4.0 ||
		ocsf["finding_info"].(object)["attacks"].([]any)[0].(object)["technique"].(object)["uid"] != "T1059.004" {
		t.Errorf("OCSF %v, %v", e["Detail"], err)
	}
}

// TestEventsThatFailed: what can't be taken now is put again, and what never will be
// makes a delivery one that did not reach everybody.
func TestEventsThatFailed(t *testing.T) {
	r := newReceiver(t)
	d := at(notice.EventBridge, busARN)
	tries := 0
	r.answers(func(_ string, in object) (int, string) {
		tries++
		if tries == 1 {
			return 200, `{"FailedEntryCount":2,"Entries":[{"EventId":"1"},{"ErrorCode":"InternalFailure","ErrorMessage":"later"},{"ErrorCode":"MalformedDetail","ErrorMessage":"no"}]}`
		}
		return 200, `{"FailedEntryCount":0,"Entries":[{"EventId":"2"}]}`
	})
	err := targets().Send(t.Context(), d, notification(3))
	var partial *notice.Partial
	if !errors.As(err, &partial) || !strings.Contains(err.Error(), "1 of 3 were refused: MalformedDetail: no") {
		t.Errorf("got %v", err)
	}
	if a := r.takes(); len(a) != 2 || len(a[1].in["Entries"].([]any)) != 1 {
		t.Errorf("asked %+v", a)
	}
	r.answers(func(string, object) (int, string) {
		return 200, `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"later"}]}`
	})
	if err := targets().Send(t.Context(), d, notification(1)); !fault.Is(err, fault.Unavailable) || len(r.takes()) != 3 {
		t.Errorf("throttled: %v", err)
	}
}

func TestPutLogs(t *testing.T) {
	r := newReceiver(t)
	there := false
	r.answers(func(operation string, in object) (int, string) {
		switch {
		case operation == "CreateLogStream":
			there = true
		case !there:
			return 400, `{"__type":"ResourceNotFoundException","message":"The specified log stream does not exist."}`
		}
		return 200, "{}"
	})
	if err := targets().Send(t.Context(), at(notice.CloudWatchLogs, groupARN), notification(2)); err != nil {
		t.Fatal(err)
	}
	a := r.takes()
	if len(a) != 3 || a[1].operation != "CreateLogStream" || a[2].in["logGroupName"] != "/castellan/notices" || a[2].in["logStreamName"] != "castellan" || len(a[2].in["logEvents"].([]any)) != 2 {
		t.Fatalf("asked %+v", a)
	}
	r.answers(func(string, object) (int, string) {
		return 200, `{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":1}}`
	})
	var refused *notice.Refused
	if err := targets().Send(t.Context(), at(notice.CloudWatchLogs, groupARN), notification(1)); !errors.As(err, &refused) {
		t.Errorf("rejected: %v", err)
	}
}

func TestPutMetrics(t *testing.T) {
	r := newReceiver(t)
	n := notification(3)
	n.Notices[2].Severity, n.LeftOut = finding.Low, 7
	if err := targets().Send(t.Context(), at(notice.CloudWatchMetrics, groupARN), n); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.takes()[0].in["logEvents"].([]any) {
		var line object
		if err := json.Unmarshal([]byte(e.(object)["message"].(string)), &line); err != nil {
			t.Fatal(err)
		}
		m := line["_aws"].(object)["CloudWatchMetrics"].([]any)[0].(object)
		got = append(got, fmt.Sprintln(m["Namespace"], m["Dimensions"], m["Metrics"], line["Kind"], line["Severity"], line["Cluster"], line["Notices"], line["NoticesLeftOut"]))
	}
	want := []string{
		"Castellan [[Kind Severity] [Cluster Kind Severity]] [map[Name:Notices Unit:Count]] incident high prod 2 <nil>",
		"Castellan [[Kind Severity] [Cluster Kind Severity]] [map[Name:Notices Unit:Count]] incident low prod 1 <nil>",
		"Castellan [[]] [map[Name:NoticesLeftOut Unit:Count]] <nil> <nil> <nil> <nil> 7",
	}
	if strings.Join(strings.Fields(strings.Join(got, "\n")), " ") != strings.Join(strings.Fields(strings.Join(want, "\n")), " ") {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestImportFindings(t *testing.T) {
	r := newReceiver(t)
	n := notification(2)
	n.Notices[0].Title, n.Notices[0].Detail = strings.Repeat("ü", 500), strings.Repeat("ö", 5_000)
	over := hostile(1)
	over.Resolved, over.Time = true, noticed.Add(time.Minute)
	vulnerable := notice.Notice{
		Kind: notice.ImageVulnerable, Time: noticed, Severity: finding.Critical, Title: "t", Image: &notice.Image{ID: "sha256:1", References: []string{"shop/web:1"}},
		Findings: []notice.Finding{{ID: "CVE-2026-1", Package: "zlib", Version: "1", Fixed: "2", Exploited: true}},
	}
	n.Notices = append(n.Notices, over, vulnerable)
	if err := targets().Send(t.Context(), at(notice.SecurityHub, hubARN), n); err != nil {
		t.Fatal(err)
	}
	a := r.takes()
	if len(a) != 1 || a[0].scope != "eu-central-1 securityhub" {
		t.Fatalf("asked %+v", a)
	}
	all := a[0].in["Findings"].([]any)
	if len(all) != 3 {
		t.Fatalf("%d findings, want each once", len(all))
	}
	f, closed, weak := all[0].(object), all[1].(object), all[2].(object)
	if len([]byte(f["Title"].(string))) > 256 || len([]byte(f["Description"].(string))) > 1024 {
		t.Errorf("it is longer than AWS takes: %d, %d", len(f["Title"].(string)), len(f["Description"].(string)))
	}
	for what, pair := range map[string][2]any{
		"schema": {f["SchemaVersion"], "2018-10-08"}, "account": {f["AwsAccountId"], "123456789012"},
		"product": {f["ProductArn"], "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default"},
		"types":   {fmt.Sprint(f["Types"]), "[TTPs/Command and Control]"}, "severity": {f["Severity"].(object)["Label"], "HIGH"},
		"task":     {f["Resources"].([]any)[0].(object)["Type"], "AwsEcsTask"},
		"image":    {f["Resources"].([]any)[1].(object)["Details"].(object)["Container"].(object)["ImageName"], "shop/web:1"},
		"archived": {closed["RecordState"], "ARCHIVED"}, "first": {f["RecordState"], "ACTIVE"}, "created": {f["CreatedAt"], "2026-01-02T03:04:05.006Z"},
		"weakness": {weak["Vulnerabilities"].([]any)[0].(object)["Id"], "CVE-2026-1"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestFindingsThatFailed(t *testing.T) {
	r := newReceiver(t)
	var refused *notice.Refused
	var partial *notice.Partial
	for _, tc := range []struct {
		name, answer string
		status       int
		is           func(error) bool
	}{
		{"none", `{"FailedCount":2,"SuccessCount":0,"FailedFindings":[{"Id":"a","ErrorCode":"InvalidInput","ErrorMessage":"no"}]}`, 200, func(err error) bool { return errors.As(err, &refused) }},
		{"some", `{"FailedCount":1,"SuccessCount":1,"FailedFindings":[{"Id":"a","ErrorCode":"InvalidInput","ErrorMessage":"no"}]}`, 200, func(err error) bool { return errors.As(err, &partial) }},
		{"now", `{"FailedCount":1,"SuccessCount":1,"FailedFindings":[{"Id":"a","ErrorCode":"InternalError","ErrorMessage":"later"}]}`, 200,
			func(err error) bool { return fault.Is(err, fault.Unavailable) && !errors.As(err, &partial) }},
		{"may not", `{"__type":"AccessDeniedException","Message":"no"}`, 403, func(err error) bool {
			return fault.Is(err, fault.Denied) && strings.Contains(fault.Remedy(err), "securityhub:BatchImportFindings")
		}},
		{"invalid", `{"__type":"InvalidInputException","Message":"no"}`, 400, func(err error) bool { return errors.As(err, &refused) }},
	} {
		r.answers(func(string, object) (int, string) { return tc.status, tc.answer })
		refused, partial = nil, nil
		if err := targets().Send(t.Context(), at(notice.SecurityHub, hubARN), notification(2)); !tc.is(err) {
			t.Errorf("%s: got %v (%T)", tc.name, err, err)
		}
	}
}

func TestTopicThatIsGone(t *testing.T) {
	r := newReceiver(t)
	r.answers(func(string, object) (int, string) {
		return 404, `<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>Topic does not exist</Message></Error><RequestId>r</RequestId></ErrorResponse>`
	})
	if err := targets().Send(t.Context(), at(notice.SNS, topicARN), notification(1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	r.answers(func(string, object) (int, string) {
		return 400, `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidParameter</Code><Message>too long</Message></Error><RequestId>r</RequestId></ErrorResponse>`
	})
	var refused *notice.Refused
	if err := targets().Send(t.Context(), at(notice.SNS, topicARN), notification(1)); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
}
