package notify_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/notify"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// incident is a notification about something hostile in a container.
func incident() notice.Notification {
	x := notice.Notice{
		Kind: notice.Incident, Subject: "incident-7", Time: time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC), Severity: finding.High,
		Title: "Reverse shell in prod/web/app", Detail: "bash has a socket of 203.0.113.9:4444 as its standard input.",
		Remedy: "stop the task, and look at the image", Link: "https://castellan.example:8600/incidents/7", Rule: "reverse-shell",
		Techniques: []notice.Technique{{ID: "T1059.004", Name: "Unix Shell", Tactic: "execution"}}, Count: 3, Owner: "team-web",
		Workload: &notice.Workload{
			ID: "4f5e6d7c8b9a0011", Group: "prod/web/app", Account: "123456789012", Region: "eu-west-1", Cluster: "prod",
			Task: "arn:aws:ecs:eu-west-1:123456789012:task/prod/0123", Container: "app", Host: "ip-10-0-0-7", Image: "shop/web:1",
		},
	}
	return notice.Notification{
		Version: notice.Version, ID: "N2", Created: x.Time, Severity: x.Severity, Title: x.Title, Link: x.Link, Notices: []notice.Notice{x},
	}
}

// standIn answers requests, and returns the bodies that it got.
func standIn(t *testing.T, status int, answer string) (url string, bodies func() [][]byte) {
	t.Helper()
	got := make(chan []byte, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("request %v, %v", r.Header, err)
		}
		got <- b
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() (all [][]byte) {
		for len(got) > 0 {
			all = append(all, <-got)
		}
		return all
	}
}

// blocks holds a card against what Adaptive Cards 1.4 are made of, and returns
// its texts.
func blocks(t *testing.T, items []any) (texts []string) {
	t.Helper()
	for _, it := range items {
		m := it.(map[string]any)
		switch m["type"] {
		case "RichTextBlock":
			line := ""
			for _, r := range m["inlines"].([]any) {
				run := r.(map[string]any)
				if run["type"] != "TextRun" {
					t.Errorf("inline %v", run)
				}
				line += run["text"].(string)
			}
			texts = append(texts, line)
		case "Container":
			texts = append(texts, blocks(t, m["items"].([]any))...)
		default:
			t.Errorf("element %v: texts of others belong into text runs, which are not read as Markdown", m["type"])
		}
	}
	return texts
}

func teamsTexts(t *testing.T, n notice.Notification) (texts []string, size int) {
	t.Helper()
	at, bodies := standIn(t, http.StatusAccepted, "")
	if err := send(t, notice.Destination{Type: notice.Teams, URL: at + "/workflows/x"}, n); err != nil {
		t.Fatal(err)
	}
	all := bodies()
	var m struct {
		Type        string
		Attachments []struct {
			ContentType string
			Content     struct {
				Type, Version string
				Body          []any
				Actions       []struct{ Type, URL string }
			}
		}
	}
	if len(all) != 1 || json.Unmarshal(all[0], &m) != nil || m.Type != "message" || len(m.Attachments) != 1 {
		t.Fatalf("messages %s", all)
	}
	a := m.Attachments[0]
	if a.ContentType != "application/vnd.microsoft.card.adaptive" || a.Content.Type != "AdaptiveCard" || a.Content.Version != "1.4" ||
		len(a.Content.Actions) != 1 || a.Content.Actions[0].Type != "Action.OpenUrl" || a.Content.Actions[0].URL != n.Link {
		t.Errorf("card %+v", a)
	}
	return blocks(t, a.Content.Body), len(all[0])
}

func TestTeamsCard(t *testing.T) {
	texts, _ := teamsTexts(t, incident())
	got := strings.Join(texts, "\n")
	want := `Reverse shell in prod/web/app
bash has a socket of 203.0.113.9:4444 as its standard input.
Severity: high
Workload: prod/web/app 4f5e6d7c8b9a
Image: shop/web:1
Task: arn:aws:ecs:eu-west-1:123456789012:task/prod/0123
Host: ip-10-0-0-7
Owner: team-web
Rule: reverse-shell
ATT&CK: T1059.004 Unix Shell
Seen: 3 times
Remedy: stop the task, and look at the image`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Teams refuses messages above 28 KiB: many notices with long names are cut.
func TestTeamsCardIsBounded(t *testing.T) {
	n := incident()
	x := n.Notices[0]
	x.Title, x.Detail, x.Remedy = strings.Repeat("<t>", 1000), strings.Repeat("ö\x00", 3000), strings.Repeat("r", 3000)
	for range 49 {
		n.Notices = append(n.Notices, x)
	}
	texts, size := teamsTexts(t, n)
	if size > 28<<10 || !strings.Contains(texts[len(texts)-1], "more") {
		t.Errorf("%d bytes, %d texts, the last %q", size, len(texts), texts[len(texts)-1])
	}
}

// An old connector of Teams says by words, not by its status, that it failed.
func TestTeamsFailureInWords(t *testing.T) {
	at, _ := standIn(t, http.StatusOK, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 403")
	if err := send(t, notice.Destination{Type: notice.Teams, URL: at + "/x"}, incident()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("error %v", err)
	}
}

const pagerKey = "0123456789abcdef0123456789abcdef"

func pager(at string) notice.Destination {
	return notice.Destination{Type: notice.PagerDuty, URL: at + "/v2/enqueue", Secret: pagerKey}
}

type pagerEvent struct {
	RoutingKey  string `json:"routing_key"`
	EventAction string `json:"event_action"`
	DedupKey    string `json:"dedup_key"`
	Payload     *struct {
		Summary, Source, Severity, Component, Group, Class string
		Timestamp                                          time.Time
		CustomDetails                                      map[string]any `json:"custom_details"`
	}
	Links []struct{ Href, Text string }
}

func pagerEvents(t *testing.T, n notice.Notification) (all []pagerEvent) {
	t.Helper()
	at, bodies := standIn(t, http.StatusAccepted, `{"status":"success"}`)
	if err := send(t, pager(at), n); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies() {
		var e pagerEvent
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if e.RoutingKey != pagerKey || e.DedupKey == "" || len(e.DedupKey) > 255 {
			t.Errorf("event %s", b)
		}
		all = append(all, e)
	}
	return all
}

func TestPagerDuty(t *testing.T) {
	n := incident()
	trigger := pagerEvents(t, n)
	if len(trigger) != 1 || trigger[0].EventAction != "trigger" || trigger[0].Payload == nil {
		t.Fatalf("events %+v", trigger)
	}
	p := trigger[0].Payload
	if p.Summary != n.Title || p.Severity != "error" || p.Source != "ip-10-0-0-7" || p.Group != "prod/web/app" || p.Component != "app" ||
		p.Class != "incident" || !p.Timestamp.Equal(n.Created) || p.CustomDetails["ATT&CK"] != "T1059.004 Unix Shell" || trigger[0].Links[0].Href != n.Link {
		t.Errorf("payload %+v, links %v", p, trigger[0].Links)
	}
	// It is over: the same alarm is closed, whatever else changed.
	n.Notices[0].Resolved, n.Notices[0].Title, n.Notices[0].Time = true, "another title", n.Created.Add(time.Hour)
	over := pagerEvents(t, n)
	if len(over) != 1 || over[0].EventAction != "resolve" || over[0].DedupKey != trigger[0].DedupKey || over[0].Payload != nil {
		t.Errorf("events %+v, want that of %s resolved", over, trigger[0].DedupKey)
	}
	// A test wakes nobody for long.
	n.Notices[0] = notice.Notice{Kind: notice.Test, Title: "reached", Time: n.Created}
	test := pagerEvents(t, n)
	if len(test) != 2 || test[0].Payload.Severity != "info" || test[1].EventAction != "resolve" || test[0].DedupKey != test[1].DedupKey {
		t.Errorf("events %+v", test)
	}
}

func TestPagerDutyRefuses(t *testing.T) {
	at, _ := standIn(t, http.StatusBadRequest, `{"status":"invalid event","errors":["routing_key `+pagerKey+`"]}`)
	err := send(t, pager(at), incident())
	var r *notice.Refused
	if !errors.As(err, &r) || strings.Contains(err.Error(), pagerKey) {
		t.Errorf("error %v", err)
	}
	for name, d := range map[string]notice.Destination{
		"no key": {Type: notice.PagerDuty, URL: "us"}, "a short key": {Type: notice.PagerDuty, URL: "us", Secret: "abc"},
		"another region": {Type: notice.PagerDuty, URL: "mars", Secret: pagerKey},
	} {
		if _, err := notify.New("1", nil).Check(d); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	shown, err := notify.New("1", nil).Check(notice.Destination{Type: notice.PagerDuty, URL: "eu", Secret: pagerKey})
	if err != nil || shown != "https://events.eu.pagerduty.com/v2/enqueue" {
		t.Errorf("Check() = %q, %v", shown, err)
	}
}
