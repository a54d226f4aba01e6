package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// targetForm is the form for a target. What may be a secret is not shown again: it is
// typed anew.
type targetForm struct {
	Name, Type, Severity, Interval         string
	Kinds                                  []string
	Repositories, Groups, Clusters, Owners string
	User, From, To, Format                 string
	Role, ExternalID                       string
	At, Quiet, Zone, Urgent                string
	Title, Text                            string
	// CA are certificates in PEM of who may vouch for the target; they are no secret,
	// but long, and not shown again. NoCA has those of the system do.
	CA                           string
	NoCA                         bool
	Plain, Fixable, KEV, Running bool
}

// kindTicks are the kinds of notice that a form offers.
func kindTicks() []span {
	return []span{
		{string(notice.Incident), "incidents"}, {string(notice.Violation), "what lies outside a profile"}, {string(notice.Response), "what was done about it"},
		{string(notice.ImageVulnerable), "images that became vulnerable"}, {string(notice.ImageScanned), "images that were scanned for the first time"},
	}
}

// newTargetForm is the form before somebody typed.
func newTargetForm() targetForm {
	return targetForm{
		Type: string(notice.Webhook), Severity: finding.High.String(), Interval: "15m", Urgent: finding.High.String(),
		Kinds: []string{string(notice.Incident), string(notice.ImageVulnerable)},
	}
}

// formOf is a target as its form has it; its patterns are shown as texts of others
// are, which is why editTarget keeps those that come back as they were shown.
func formOf(t notice.Target) targetForm {
	f := targetForm{
		Name: t.Name, Type: string(t.Type), Severity: t.Filter.Severity.String(), Interval: t.Interval.String(),
		Repositories: patterns(t.Filter.Repositories, " "), Groups: patterns(t.Filter.Groups, " "), Clusters: patterns(t.Filter.Clusters, " "), Owners: patterns(t.Filter.Owners, ", "),
		User: untrusted.Text(t.User), From: untrusted.Text(t.From), To: untrusted.Text(strings.Join(t.To, ", ")), Format: t.Format, Role: t.Role, ExternalID: t.ExternalID,
		At: strings.Join(t.Schedule.At, ", "), Quiet: strings.Join(t.Schedule.Quiet, "; "), Zone: t.Schedule.Zone, Urgent: t.Schedule.Urgent.String(),
		Title: t.Template.Title, Text: t.Template.Body,
		Plain:   strings.HasPrefix(t.Address, "http://") || strings.HasPrefix(t.Address, "tcp://") || strings.HasPrefix(t.Address, "udp://"),
		Fixable: t.Filter.Fixable, KEV: t.Filter.Exploited, Running: t.Filter.Running,
	}
	for _, k := range t.Filter.Kinds {
		f.Kinds = append(f.Kinds, string(k))
	}
	if len(f.Kinds) == 0 {
		f.Kinds = []string{string(notice.ImageVulnerable)}
	}
	for _, s := range intervals() {
		if known, err := query.Duration(s.Value); err == nil && known == t.Interval {
			f.Interval = s.Value
		}
	}
	return f
}

func patterns(all []string, between string) string { return untrusted.Text(strings.Join(all, between)) }

// has reports whether a kind is ticked.
func (f targetForm) has(kind string) bool { return slices.Contains(f.Kinds, kind) }

// kind is how the target is reached.
func (f targetForm) kind() notice.Type { return notice.Type(f.Type) }

// mail, formats, secret and plains say which fields the form of a type has.
func (f targetForm) mail() bool { return f.kind() == notice.Email }
func (f targetForm) formats() bool {
	return f.kind() == notice.Webhook || f.kind() == notice.EventBridge
}
func (f targetForm) plains() bool { return !f.kind().OfAWS() && f.kind() != notice.PagerDuty }

// secret is what the secret of a type is called; "" where it has none.
func (f targetForm) secret() string {
	switch f.kind() {
	case notice.Webhook:
		return "Secret"
	case notice.PagerDuty:
		return "Integration key"
	case notice.Email:
		return "Password"
	}
	return ""
}

// address is what the address of a type looks like.
func (f targetForm) address() string {
	switch f.kind() {
	case notice.Slack:
		return "https://hooks.slack.com/…; kept encrypted"
	case notice.Teams:
		return "https://… of the workflow; kept encrypted"
	case notice.PagerDuty:
		return "us or eu"
	case notice.Email:
		return "smtps://host:465 or smtp://host:587"
	case notice.Syslog:
		return "tls://host:6514"
	case notice.SNS:
		return "arn:aws:sns:REGION:ACCOUNT:TOPIC"
	case notice.EventBridge:
		return "arn:aws:events:REGION:ACCOUNT:event-bus/NAME"
	case notice.CloudWatchLogs, notice.CloudWatchMetrics:
		return "arn:aws:logs:REGION:ACCOUNT:log-group:NAME"
	case notice.SecurityHub:
		return "arn:aws:securityhub:REGION:ACCOUNT:hub/default"
	}
	return "https://…; kept encrypted"
}

// intervalsWith are the choices, and what a target has if it is none of them.
func intervalsWith(have string) []span {
	all := intervals()
	if have == "" || slices.ContainsFunc(all, func(s span) bool { return s.Value == have }) {
		return all
	}
	return append(all, span{have, "every " + have})
}

// targetTypes are the choices of how a target is reached.
func targetTypes() []span {
	return []span{
		{string(notice.Webhook), "Webhook"}, {string(notice.Slack), "Slack"}, {string(notice.Teams), "Teams"}, {string(notice.PagerDuty), "PagerDuty"},
		{string(notice.Email), "E-mail"}, {string(notice.Syslog), "Syslog"}, {string(notice.SNS), "SNS"}, {string(notice.EventBridge), "EventBridge"},
		{string(notice.CloudWatchLogs), "CloudWatch Logs"}, {string(notice.CloudWatchMetrics), "CloudWatch metrics"}, {string(notice.SecurityHub), "Security Hub"},
	}
}

// intervals are the choices of how often a target is told something at most.
func intervals() []span {
	return []span{{"1m", "once a minute"}, {"15m", "four times an hour"}, {"1h", "once an hour"}, {"24h", "once a day"}}
}

// typedTarget is the form that was sent.
func typedTarget(r *http.Request) targetForm {
	get := r.PostForm.Get
	return targetForm{
		Name: get("name"), Type: get("type"), Severity: get("severity"), Interval: get("interval"), Kinds: r.PostForm["kind"],
		Repositories: get("repositories"), Groups: get("groups"), Clusters: get("clusters"), Owners: get("owners"),
		User: get("user"), From: get("from"), To: get("to"), Format: get("format"), Role: strings.TrimSpace(get("role")), ExternalID: strings.TrimSpace(get("external-id")),
		At: get("at"), Quiet: get("quiet"), Zone: strings.TrimSpace(get("zone")), Urgent: get("urgent"), Title: get("title"), Text: newlines(get("text")),
		CA: strings.TrimSpace(newlines(get("ca"))), NoCA: r.PostForm.Has("no-ca"),
		Plain: r.PostForm.Has("plain"), Fixable: r.PostForm.Has("fixable"), KEV: r.PostForm.Has("exploited"), Running: r.PostForm.Has("running"),
	}
}

// newlines are those of a text that a browser sent.
func newlines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

// parts are the parts of a text, without blanks around them.
func parts(s, separators string) []string {
	out := []string{}
	for p := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// target is what the form asks for.
func (f targetForm) target(url, secret string) (n notify.NewTarget, err error) {
	n.Name = f.Name
	n.Destination = notice.Destination{Type: f.kind(), URL: url, Secret: secret, Plain: f.Plain, CA: f.CA, Settings: notice.Settings{Format: f.Format}}
	if f.kind().OfAWS() {
		n.Destination.Role, n.Destination.ExternalID = f.Role, f.ExternalID
	}
	if f.mail() {
		n.Destination.User, n.Destination.From, n.Destination.To = strings.TrimSpace(f.User), strings.TrimSpace(f.From), parts(f.To, ",;")
	}
	for _, k := range f.Kinds {
		n.Filter.Kinds = append(n.Filter.Kinds, notice.Kind(k))
	}
	if len(n.Filter.Kinds) == 0 {
		return n, fault.New(fault.Invalid, "choose what the target is told of")
	}
	if n.Filter.Severity, err = finding.ParseSeverity(f.Severity); err != nil {
		return n, fault.New(fault.Invalid, "choose a severity")
	}
	if n.Interval, err = query.Duration(f.Interval); err != nil {
		return n, fault.New(fault.Invalid, "choose how often")
	}
	if f.Urgent != "" {
		urgent, err := finding.ParseSeverity(f.Urgent)
		if err != nil {
			return n, fault.New(fault.Invalid, "choose what is urgent")
		}
		n.Urgent = &urgent
	}
	n.Filter.Fixable, n.Filter.Exploited, n.Filter.Running = f.Fixable, f.KEV, f.Running
	n.Filter.Repositories, n.Filter.Groups, n.Filter.Clusters = strings.Fields(f.Repositories), strings.Fields(f.Groups), strings.Fields(f.Clusters)
	n.Filter.Owners = parts(f.Owners, ",")
	n.Schedule = notice.Schedule{At: parts(f.At, ", "), Quiet: parts(f.Quiet, ";"), Zone: f.Zone}
	n.Template = notice.Template{Title: f.Title, Body: f.Text}
	return n, nil
}

// change is what the form asks for of a target that is there.
func (f targetForm) change(url, secret string, newSecret bool) (c notify.TargetChange, err error) {
	n, err := f.target(url, secret)
	if err != nil {
		return c, err
	}
	c = notify.TargetChange{
		Name: &n.Name, Plain: &n.Destination.Plain, Interval: &n.Interval, Kinds: &n.Filter.Kinds, Severity: &n.Filter.Severity, NewSecret: newSecret,
		Fixable: &n.Filter.Fixable, Exploited: &n.Filter.Exploited, Running: &n.Filter.Running, Repositories: &n.Filter.Repositories, Groups: &n.Filter.Groups,
		Clusters: &n.Filter.Clusters, Owners: &n.Filter.Owners, At: &n.Schedule.At, Quiet: &n.Schedule.Quiet, Zone: &n.Schedule.Zone, Urgent: n.Urgent,
		Title: &n.Template.Title, Body: &n.Template.Body,
	}
	if f.mail() {
		c.Plain = nil // nobody is shown whether it is permitted, and so it stays
		c.User, c.From, c.To = &n.Destination.User, &n.Destination.From, &n.Destination.To
	}
	switch none := notify.NoCA; {
	case f.CA != "":
		c.CA = &n.Destination.CA
	case f.NoCA:
		c.CA = &none
	}
	if f.kind().OfAWS() {
		c.Role, c.ExternalID = &n.Destination.Role, &n.Destination.ExternalID
	}
	if f.formats() {
		c.Format = &n.Destination.Format
	}
	if strings.TrimSpace(url) != "" {
		c.URL = &url
	}
	if secret != "" {
		c.Secret = &secret
	}
	return c, nil
}

// keepPatterns leaves patterns as they are that were not typed anew.
func (c *Console) keepPatterns(r *http.Request, v visit, id int64, form targetForm, change *notify.TargetChange) error {
	all, err := c.Notify.Targets(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.ID != id {
			continue
		}
		was := formOf(t)
		for _, e := range []struct {
			same bool
			of   **[]string
		}{
			{form.Repositories == was.Repositories, &change.Repositories}, {form.Groups == was.Groups, &change.Groups},
			{form.Clusters == was.Clusters, &change.Clusters}, {form.Owners == was.Owners, &change.Owners}, {form.To == was.To, &change.To},
		} {
			if e.same {
				*e.of = nil
			}
		}
	}
	return nil
}
