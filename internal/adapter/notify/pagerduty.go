package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/url"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
)

// pagerKey is how long a key of an integration is.
const pagerKey = 32

// maxSummary bounds what PagerDuty shows as the title, in characters; one of ours
// has at least one byte.
const maxSummary = 1_024

// pagerEvent is an event of PagerDuty's Events API, version 2
// (developer.pagerduty.com, "Send an Alert Event").
type pagerEvent struct {
	Key      string        `json:"routing_key"`
	Action   string        `json:"event_action"`
	Dedup    string        `json:"dedup_key"`
	Payload  *pagerPayload `json:"payload,omitempty"` // of a trigger
	Client   string        `json:"client,omitempty"`
	ClientAt string        `json:"client_url,omitempty"`
	Links    []pagerLink   `json:"links,omitempty"`
}

type pagerPayload struct {
	Summary   string         `json:"summary"`
	Source    string         `json:"source"`
	Severity  string         `json:"severity"`
	Timestamp string         `json:"timestamp"`
	Component string         `json:"component,omitempty"`
	Group     string         `json:"group,omitempty"`
	Class     string         `json:"class,omitempty"`
	Details   map[string]any `json:"custom_details,omitempty"`
}

type pagerLink struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

// page sends each notice as an event of its own, so that each thing is one alert:
// what was triggered at an earlier try is not triggered twice, for its key is the
// same. A test calls nobody for long: it is resolved at once.
func (s *Sender) page(ctx context.Context, u *url.URL, config *tls.Config, key string, n *notice.Notification) error {
	for i := range n.Notices {
		for _, e := range s.pagerEvents(key, n, &n.Notices[i]) {
			body, err := json.Marshal(e)
			if err != nil {
				return marshalError(err)
			}
			if err := s.post(ctx, u, config, body, nil, quiet); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Sender) pagerEvents(key string, n *notice.Notification, x *notice.Notice) []pagerEvent {
	over := pagerEvent{Key: key, Action: "resolve", Dedup: x.Key()}
	if x.Resolved {
		return []pagerEvent{over}
	}
	title := x.Title
	if len(n.Notices) == 1 {
		title = n.Title // as the target's template has it
	}
	e := pagerEvent{
		Key: key, Action: "trigger", Dedup: x.Key(), Client: "Castellan", ClientAt: form.Link(n.Link),
		Payload: &pagerPayload{
			Summary: clipped(title, maxSummary), Source: s.hostname, Severity: pagerSeverity(x.Severity),
			Timestamp: x.Time.UTC().Format(time.RFC3339Nano), Class: string(x.Kind), Details: pagerDetails(n, x),
		},
	}
	if w := x.Workload; w != nil {
		e.Payload.Source, e.Payload.Component, e.Payload.Group = form.Word(or(w.Host, w.ID, s.hostname)), form.Word(w.Container), form.Word(w.Group)
	}
	if m := x.Image; m != nil {
		e.Payload.Component = m.ID
		if len(m.References) > 0 {
			e.Payload.Component = form.Word(m.References[0])
		}
		if len(m.Groups) > 0 {
			e.Payload.Group = form.Word(m.Groups[0])
		}
	}
	if link := form.Link(x.Link); link != "" {
		e.Links = []pagerLink{{link, "Open in Castellan"}}
	}
	if x.Kind == notice.Test {
		return []pagerEvent{e, over}
	}
	return []pagerEvent{e}
}

func pagerDetails(n *notice.Notification, x *notice.Notice) map[string]any {
	d := map[string]any{}
	for _, f := range form.Facts(x) {
		if have, ok := d[f.Name].(string); ok {
			f.Value = have + ", " + f.Value
		}
		d[f.Name] = f.Value
	}
	if x.Detail != "" {
		d["Detail"] = clipped(x.Detail, form.MaxDetail)
	}
	if n.Text != "" && len(n.Notices) == 1 {
		d["Text"] = n.Text
	}
	var all []string
	for i := range x.Findings[:min(len(x.Findings), form.MaxFindings)] {
		all = append(all, form.Finding(&x.Findings[i]))
	}
	if len(all) > 0 {
		d["Findings"] = all
	}
	return d
}

// pagerSeverity is the severity as PagerDuty has it.
func pagerSeverity(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return "critical"
	case finding.High:
		return "error"
	case finding.Medium:
		return "warning"
	}
	return "info"
}

func or(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
