package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
)

type targetPage struct {
	Targets []notice.Target `json:"targets" nullable:"false" doc:"By name"`
}

type targetForm struct {
	Body struct {
		Name         string   `json:"name" minLength:"1" maxLength:"63" doc:"What it is called here; unique"`
		Type         string   `json:"type" enum:"webhook,slack,teams,pagerduty,email,syslog,sns,eventbridge,cloudwatch-logs,cloudwatch-metrics,securityhub"`
		URL          string   `json:"url" minLength:"1" maxLength:"2048" doc:"https://… for webhook, slack and teams; us, eu or https://… for pagerduty; smtps://host:port or smtp://host:port for email; tls://host:port, tcp:// or udp:// for syslog; an ARN for those of AWS. It is kept encrypted, and not shown again"`
		Secret       string   `json:"secret,omitempty" maxLength:"256" doc:"Of a webhook: what its requests are signed with; one is made unless given. The key of PagerDuty, the password of a mail server"`
		User         string   `json:"user,omitempty" maxLength:"256" doc:"Of email: who logs in to the mail server"`
		From         string   `json:"from,omitempty" maxLength:"512" doc:"Of email: the sender's address"`
		To           []string `json:"to,omitempty" maxItems:"20" doc:"Of email: the addresses that get it"`
		Format       string   `json:"format,omitempty" enum:"ocsf" doc:"Of webhook and eventbridge: events of OCSF, class Detection Finding; Castellan's own document unless given"`
		Role         string   `json:"role,omitempty" maxLength:"600" doc:"Of those of AWS: ARN of a role of the target's account that is taken to reach it; the server's own unless given"`
		ExternalID   string   `json:"external_id,omitempty" maxLength:"1000" doc:"That the role's trust policy asks for"`
		CA           string   `json:"ca,omitempty" maxLength:"65536" doc:"Certificates (PEM) of the authorities that may vouch for it; the system's unless given"`
		Plain        bool     `json:"plain,omitempty" doc:"Permits a connection that is not encrypted"`
		Interval     int64    `json:"interval_ns,omitempty" minimum:"0" doc:"The least time between two notifications; a quarter of an hour unless given"`
		Kinds        []string `json:"kinds,omitempty" maxItems:"20" doc:"What it is told of: image.vulnerable (unless given), image.scanned, incident, violation, response"`
		Severity     string   `json:"severity,omitempty" enum:"critical,high,medium,low,negligible,unknown" doc:"The least severity of a finding, or of an incident"`
		Fixable      bool     `json:"fixable,omitempty" doc:"Only findings that have a fix"`
		Exploited    bool     `json:"exploited,omitempty" doc:"Only findings that are known to be exploited (KEV)"`
		Running      bool     `json:"running,omitempty" doc:"Only images of which workloads run"`
		Repositories []string `json:"repositories,omitempty" maxItems:"50" doc:"Only images of these repositories; a * stands for any text"`
		Groups       []string `json:"groups,omitempty" maxItems:"50" doc:"Only what is in these groups, images that run there too; a * stands for any text"`
		Clusters     []string `json:"clusters,omitempty" maxItems:"50" doc:"Only what is in clusters with these names; a * stands for any text"`
		Owners       []string `json:"owners,omitempty" maxItems:"50" doc:"Only what these are responsible for, as the rules of owners say; a * stands for any text"`
		At           []string `json:"at,omitempty" maxItems:"24" doc:"Times of day, as in 08:00, at which all that came up is told; none: whenever it comes up"`
		Quiet        []string `json:"quiet,omitempty" maxItems:"24" doc:"Hours in which nothing is told, as in 22:00-06:00 or Sat,Sun 00:00-24:00"`
		Zone         string   `json:"zone,omitempty" maxLength:"64" doc:"Where these times are, as in Europe/Vienna; UTC unless given"`
		Urgent       string   `json:"urgent,omitempty" enum:"critical,high,medium,low,negligible,unknown" doc:"From which severity on incidents, violations and responses wait for none of it, nor for the interval; high unless given, unknown for never"`
		Title        string   `json:"title,omitempty" maxLength:"8192" doc:"Template of the title"`
		Text         string   `json:"text,omitempty" maxLength:"8192" doc:"Template of the text"`
	}
}

type newTarget struct {
	Target notice.Target `json:"target"`
	Secret string        `json:"secret,omitempty" doc:"The secret that was made, shown this once"`
}

type targetChange struct {
	ID   int64 `path:"id" minimum:"1" doc:"The target's number"`
	Body struct {
		Name         *string   `json:"name,omitempty" minLength:"1" maxLength:"63" doc:"What it is called here; unique"`
		URL          *string   `json:"url,omitempty" minLength:"1" maxLength:"2048" doc:"As for a new target; the one that is there is kept unless given"`
		Secret       *string   `json:"secret,omitempty" maxLength:"256" doc:"Of a webhook: what its requests are signed with from now on; the key of PagerDuty, the password of a mail server. The one that is there is kept unless given"`
		User         *string   `json:"user,omitempty" maxLength:"256" doc:"Of email: who logs in to the mail server; empty: nobody has to"`
		From         *string   `json:"from,omitempty" maxLength:"512" doc:"Of email: the sender's address"`
		To           *[]string `json:"to,omitempty" nullable:"false" maxItems:"20" doc:"Of email: the addresses that get it"`
		Format       *string   `json:"format,omitempty" maxLength:"20" doc:"Of webhook and eventbridge: ocsf, or empty for Castellan's own document"`
		Role         *string   `json:"role,omitempty" maxLength:"600" doc:"Of those of AWS: ARN of a role of the target's account that is taken to reach it; empty for the server's own"`
		ExternalID   *string   `json:"external_id,omitempty" maxLength:"1000" doc:"That the role's trust policy asks for; empty for none"`
		NewSecret    bool      `json:"new_secret,omitempty" doc:"Of a webhook: one is made, and shown in the answer, once"`
		CA           *string   `json:"ca,omitempty" maxLength:"65536" doc:"Certificates (PEM) of the authorities that may vouch for it; none for those of the system"`
		Plain        *bool     `json:"plain,omitempty" doc:"Permits a connection that is not encrypted"`
		Interval     *int64    `json:"interval_ns,omitempty" minimum:"1" doc:"The least time between two notifications"`
		Kinds        *[]string `json:"kinds,omitempty" nullable:"false" minItems:"1" maxItems:"20" doc:"What it is told of"`
		Severity     *string   `json:"severity,omitempty" enum:"critical,high,medium,low,negligible,unknown" doc:"The least severity of a finding"`
		Fixable      *bool     `json:"fixable,omitempty" doc:"Only findings that have a fix"`
		Exploited    *bool     `json:"exploited,omitempty" doc:"Only findings that are known to be exploited (KEV)"`
		Running      *bool     `json:"running,omitempty" doc:"Only images of which workloads run"`
		Repositories *[]string `json:"repositories,omitempty" nullable:"false" maxItems:"50" doc:"Only images of these repositories; none: of all"`
		Groups       *[]string `json:"groups,omitempty" nullable:"false" maxItems:"50" doc:"Only what is in these groups; none: in all"`
		Clusters     *[]string `json:"clusters,omitempty" nullable:"false" maxItems:"50" doc:"Only what is in these clusters; none: in all"`
		Owners       *[]string `json:"owners,omitempty" nullable:"false" maxItems:"50" doc:"Only what these are responsible for; none: all"`
		At           *[]string `json:"at,omitempty" nullable:"false" maxItems:"24" doc:"Times of day of its digests; none: whenever something comes up"`
		Quiet        *[]string `json:"quiet,omitempty" nullable:"false" maxItems:"24" doc:"Hours in which nothing is told"`
		Zone         *string   `json:"zone,omitempty" maxLength:"64" doc:"Where these times are; empty for UTC"`
		Urgent       *string   `json:"urgent,omitempty" enum:"critical,high,medium,low,negligible,unknown" doc:"From which severity on what happens waits for nothing; unknown for never"`
		Title        *string   `json:"title,omitempty" maxLength:"8192" doc:"Template of the title; empty for none"`
		Text         *string   `json:"text,omitempty" maxLength:"8192" doc:"Template of the text; empty for none"`
	}
}

type targetID struct {
	ID int64 `path:"id" minimum:"1" doc:"The target's number"`
}

func (a *api) notifyRoutes() {
	a.deadRoutes()
	handle(a, route{
		method: http.MethodPost, path: "/notify/preview", id: "preview-notification", tag: "notify", scope: access.ManageNotify,
		summary: "What templates make of a notification, as it might be", about: "Nothing is sent, and nothing kept.",
	}, a.preview)
	handle(a, route{
		method: http.MethodGet, path: "/notify/targets", id: "list-notify-targets", tag: "notify", scope: access.ReadNotify,
		summary: "Who is told of what happens, and how it goes with each",
	}, func(q ask[empty]) (*body[targetPage], error) {
		all, err := a.notify.Targets(q.ctx, q.who)
		return &body[targetPage]{targetPage{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/notify/targets", id: "add-notify-target", tag: "notify", scope: access.ManageNotify,
		status: http.StatusCreated, summary: "Have somebody told of what happens",
		about: "The answer has the secret of a webhook that was given none, once.",
	}, a.addTarget)
	handle(a, route{
		method: http.MethodPatch, path: "/notify/targets/{id}", id: "update-notify-target", tag: "notify", scope: access.ManageNotify,
		summary: "Change a target: what is absent stays as it is",
		about:   "How it is reached, its type, stays the same. What it was told it is not told again. The answer has a secret that was made, once.",
	}, a.editTarget)
	handle(a, route{
		method: http.MethodDelete, path: "/notify/targets/{id}", id: "remove-notify-target", tag: "notify", scope: access.ManageNotify,
		status: http.StatusNoContent, summary: "Remove a target, with all that it was to be told",
	}, func(q ask[targetID]) (*empty, error) {
		return &empty{}, a.notify.Remove(q.ctx, q.who, q.input.ID)
	})
	handle(a, route{
		method: http.MethodPost, path: "/notify/targets/{id}/test", id: "test-notify-target", tag: "notify", scope: access.ManageNotify,
		status: http.StatusNoContent, summary: "Send a target a notification of kind test, and say what came of it",
	}, func(q ask[targetID]) (*empty, error) {
		return &empty{}, a.notify.Test(q.ctx, q.who, q.input.ID)
	})
}

type previewForm struct {
	Body struct {
		Title string `json:"title,omitempty" maxLength:"8192" doc:"Template of the title"`
		Text  string `json:"text,omitempty" maxLength:"8192" doc:"Template of the text"`
		Kind  string `json:"kind,omitempty" maxLength:"40" doc:"Of what it is a preview; incident unless given"`
	}
}

type previewAnswer struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

func (a *api) preview(q ask[previewForm]) (*body[previewAnswer], error) {
	b := q.input.Body
	title, text, err := a.notify.Preview(q.who, notice.Template{Title: b.Title, Body: b.Text}, notice.Kind(b.Kind))
	return &body[previewAnswer]{previewAnswer{title, text}}, err
}

func (a *api) addTarget(q ask[targetForm]) (*body[newTarget], error) {
	b := &q.input.Body
	f := notice.Filter{Fixable: b.Fixable, Exploited: b.Exploited, Running: b.Running, Repositories: b.Repositories, Groups: b.Groups, Clusters: b.Clusters, Owners: b.Owners}
	for _, k := range b.Kinds {
		f.Kinds = append(f.Kinds, notice.Kind(k))
	}
	if b.Severity != "" {
		var err error
		if f.Severity, err = finding.ParseSeverity(b.Severity); err != nil {
			return nil, fault.New(fault.Invalid, "severity: %w", err)
		}
	}
	var urgent *finding.Severity
	if b.Urgent != "" {
		severity, err := finding.ParseSeverity(b.Urgent)
		if err != nil {
			return nil, fault.New(fault.Invalid, "urgent: %w", err)
		}
		urgent = &severity
	}
	t, secret, err := a.notify.Add(q.ctx, q.who, notify.NewTarget{
		Name: b.Name, Filter: f, Interval: time.Duration(b.Interval), Urgent: urgent,
		Schedule: notice.Schedule{At: b.At, Quiet: b.Quiet, Zone: b.Zone}, Template: notice.Template{Title: b.Title, Body: b.Text},
		Destination: notice.Destination{
			Type: notice.Type(b.Type), URL: b.URL, Secret: b.Secret, CA: b.CA, Plain: b.Plain,
			Settings: notice.Settings{User: b.User, From: b.From, To: b.To, Format: b.Format, Role: b.Role, ExternalID: b.ExternalID},
		},
	})
	return &body[newTarget]{newTarget{t, secret}}, err
}

func (a *api) editTarget(q ask[targetChange]) (*body[newTarget], error) {
	b := &q.input.Body
	c := notify.TargetChange{
		Name: b.Name, URL: b.URL, Secret: b.Secret, NewSecret: b.NewSecret, CA: b.CA, Plain: b.Plain, Interval: (*time.Duration)(b.Interval),
		Fixable: b.Fixable, Exploited: b.Exploited, Running: b.Running, Repositories: b.Repositories, Groups: b.Groups,
		Clusters: b.Clusters, Owners: b.Owners, At: b.At, Quiet: b.Quiet, Zone: b.Zone, Title: b.Title, Body: b.Text,
		User: b.User, From: b.From, To: b.To, Format: b.Format, Role: b.Role, ExternalID: b.ExternalID,
	}
	if b.Kinds != nil {
		var kinds []notice.Kind
		for _, k := range *b.Kinds {
			kinds = append(kinds, notice.Kind(k))
		}
		c.Kinds = &kinds
	}
	if b.Severity != nil {
		severity, err := finding.ParseSeverity(*b.Severity)
		if err != nil {
			return nil, fault.New(fault.Invalid, "severity: %w", err)
		}
		c.Severity = &severity
	}
	if b.Urgent != nil {
		urgent, err := finding.ParseSeverity(*b.Urgent)
		if err != nil {
			return nil, fault.New(fault.Invalid, "urgent: %w", err)
		}
		c.Urgent = &urgent
	}
	t, secret, err := a.notify.Edit(q.ctx, q.who, q.input.ID, c)
	return &body[newTarget]{newTarget{t, secret}}, err
}
