package notice

import (
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
)

// Type is how a target is reached.
type Type string

// The types of target.
const (
	Webhook Type = "webhook" // the Notification as signed JSON
	Slack   Type = "slack"   // an incoming webhook of Slack, or one that takes the same
	Syslog  Type = "syslog"  // RFC 5424 over TLS, TCP or UDP
	Teams   Type = "teams"   // a workflow of Microsoft Teams that takes cards
	// PagerDuty is its Events API, version 2.
	PagerDuty Type = "pagerduty"
	Email     Type = "email" // by SMTP
	// SNS is a topic of Amazon SNS, EventBridge a bus of Amazon EventBridge.
	SNS         Type = "sns"
	EventBridge Type = "eventbridge"
	// CloudWatchLogs is a log group, CloudWatchMetrics one whose events CloudWatch
	// makes metrics of (embedded metric format).
	CloudWatchLogs    Type = "cloudwatch-logs"
	CloudWatchMetrics Type = "cloudwatch-metrics"
	SecurityHub       Type = "securityhub" // of an account and region
)

// Types lists them.
func Types() []Type {
	return []Type{Webhook, Slack, Teams, PagerDuty, Email, Syslog, SNS, EventBridge, CloudWatchLogs, CloudWatchMetrics, SecurityHub}
}

// OfAWS reports whether targets of a type are of AWS: their URL is an ARN, and who
// asks is whoever the server is there.
func (t Type) OfAWS() bool {
	switch t {
	case SNS, EventBridge, CloudWatchLogs, CloudWatchMetrics, SecurityHub:
		return true
	}
	return false
}

// OCSF as Settings.Format has each notice sent as an event of the Open Cybersecurity
// Schema Framework, class Detection Finding.
const OCSF = "ocsf"

// HasSecret reports whether a target of a type may have a secret: what a webhook
// is signed with, the key of PagerDuty, the password of a mail server.
func (t Type) HasSecret() bool { return t == Webhook || t == PagerDuty || t == Email }

// Target is somebody, or something, that is told of what happens.
type Target struct {
	ID   int64  `json:"id"`
	Name string `json:"name"` // unique
	Type Type   `json:"type"`
	// Address is where it is, without the parts that are secrets.
	Address string `json:"address"`
	Signed  bool   `json:"signed,omitempty"` // webhooks are
	Settings
	Filter Filter `json:"filter"`
	// Interval is the least time between two notifications.
	Interval time.Duration `json:"interval_ns"`
	Schedule Schedule      `json:"schedule,omitzero"`
	Template Template      `json:"template,omitzero"`
	By       string        `json:"by"`
	Created  time.Time     `json:"created"`
	// Sealed is its Destination, encrypted.
	Sealed []byte `json:"-"`
	State  State  `json:"state"`
}

// Template is what a target's notifications are written by, in the language of Go's
// text/template; see form.Message. Each may be empty: then they are as they are.
type Template struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

// State is how it goes with a target.
type State struct {
	// Waiting notices are not in a notification yet; Undelivered says that there
	// is a notification that did not get through yet.
	Waiting     int  `json:"waiting"`
	Undelivered bool `json:"undelivered"`
	// Tries to deliver that one, and when the next is.
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
	// Tried is when something was last sent, Delivered when it last got through,
	// a test too. Error is why the last did not.
	Tried     time.Time `json:"tried,omitzero"`
	Delivered time.Time `json:"delivered,omitzero"`
	Error     string    `json:"error,omitempty"`
	Remedy    string    `json:"remedy,omitempty"`
	// Folded is when its last notification was made.
	Folded time.Time `json:"folded,omitzero"`
	// Dead is how many notifications were given up and wait for somebody to decide:
	// dead letters.
	Dead int `json:"dead,omitempty"`
	// Lost notices were told to nobody: too many waited, or too many were given up.
	Lost int `json:"lost,omitempty"`
}

// Dead is a notification that was given up: a dead letter.
type Dead struct {
	ID       string           `json:"id"` // of the notification
	Target   int64            `json:"target"`
	Name     string           `json:"name"` // of the target
	Title    string           `json:"title"`
	Severity finding.Severity `json:"severity"`
	Notices  int              `json:"notices"` // in it, those that were left out too
	Created  time.Time        `json:"created"`
	Died     time.Time        `json:"died"`
	Tries    int              `json:"tries"`
	// Reason is why the last try failed, Remedy what helps.
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// Settings are what else a target has that is no secret.
type Settings struct {
	// From sends e-mail, To get it, and User is who logs in to the mail server.
	User string   `json:"user,omitempty"`
	From string   `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
	// Format of what webhooks and EventBridge get: empty for Notification and Notice
	// as they are here, or OCSF.
	Format string `json:"format,omitempty"`
	// Role is the ARN of the role of the target's account that is taken to reach a target
	// of AWS, ExternalID what its trust policy asks for; empty: as whoever the server is.
	Role       string `json:"role,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
}

// Destination is what must be known to reach a target. URL and Secret are not
// shown to anybody.
type Destination struct {
	Type Type `json:"type"`
	// URL is https://… for webhook, slack, teams and pagerduty; tls://, tcp:// or
	// udp://host:port for syslog; smtp:// (with STARTTLS) or smtps://host:port for
	// email; an ARN for those of AWS.
	URL string `json:"url"`
	// Secret signs what a webhook gets; it is PagerDuty's key, and the password of
	// a mail server.
	Secret string `json:"secret,omitempty"`
	Settings
	// CA holds certificates, in PEM, of those who may vouch for the target; empty:
	// whom the system trusts.
	CA string `json:"ca,omitempty"`
	// Plain permits a connection that is not encrypted.
	Plain bool `json:"plain,omitempty"`
}

// Filter says what a target wants to be told. All given fields must hold; of a
// list, one entry. The zero value wants everything of kind ImageVulnerable.
type Filter struct {
	Kinds []Kind `json:"kinds,omitempty"` // none: ImageVulnerable
	// Severity is the least that a finding must have, and a notice that is about no
	// findings.
	Severity finding.Severity `json:"severity"`
	// Fixable, Exploited and Running are about images and their findings: of
	// notices about other things they ask nothing.
	Fixable   bool `json:"fixable,omitempty"`   // a fixed version is out
	Exploited bool `json:"exploited,omitempty"` // it is known to be exploited (KEV)
	Running   bool `json:"running,omitempty"`   // workloads of the image run
	// Repositories are patterns of references without tag and digest, Groups of
	// groups of workloads that run. A "*" stands for any text.
	Repositories []string `json:"repositories,omitempty"`
	Groups       []string `json:"groups,omitempty"`
	// Clusters are patterns of the names of clusters, Owners of those who are
	// responsible.
	Clusters []string `json:"clusters,omitempty"`
	Owners   []string `json:"owners,omitempty"`
}

// About is what of a notice decides who gets it.
type About struct {
	Kind       Kind
	References []string // of the image
	Groups     []string // of workloads that run, or of the one that did it
	Clusters   []string
	Owner      string
	Running    bool // workloads of the image run
}

// About returns what of a notice decides who gets it.
func (n *Notice) About() About {
	return About{n.Kind, n.References(), n.Groups(), n.Clusters(), n.Owner, n.Image == nil || n.Image.Running > 0}
}

// Takes reports whether the filter is for notices about that, whatever their
// findings and severity are.
func (f *Filter) Takes(a About) bool {
	same := func(s string) string { return s }
	return f.wants(a.Kind) && (a.Running || !f.Running) &&
		matchAny(f.Repositories, a.References, asset.Repository) && matchAny(f.Groups, a.Groups, same) &&
		matchAny(f.Clusters, a.Clusters, same) && matchAny(f.Owners, []string{a.Owner}, same)
}

// TakesNotice reports whether the filter is for a notice that has no findings.
func (f *Filter) TakesNotice(n *Notice) bool { return n.Severity >= f.Severity && f.Takes(n.About()) }

func (f *Filter) wants(k Kind) bool {
	if len(f.Kinds) == 0 {
		return k == ImageVulnerable
	}
	for _, want := range f.Kinds {
		if want == k {
			return true
		}
	}
	return false
}

// Passes reports whether the filter is for a finding.
func (f *Filter) Passes(x *Finding) bool {
	return x.Severity >= f.Severity && (x.Exploited || !f.Exploited) && (x.Fixed != "" || !f.Fixable)
}

// Narrow reports whether the filter asks anything of findings at all.
func (f *Filter) Narrow() bool { return f.Severity > finding.Unknown || f.Exploited || f.Fixable }

// matchAny reports whether one of the texts matches one of the patterns; no
// pattern matches all.
func matchAny(patterns, texts []string, part func(string) string) bool {
	for _, p := range patterns {
		for _, t := range texts {
			if Match(p, part(t)) {
				return true
			}
		}
	}
	return len(patterns) == 0
}

// Match reports whether a text is as a pattern says, in which "*" stands for any
// text, the empty one too.
func Match(pattern, text string) bool {
	// Each star takes as little as it can; only the last one ever needs to take
	// more, so that the time is bounded by the product of both lengths.
	p, t, star, from := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Busy is an error of a target that says when to come again.
type Busy struct {
	After time.Duration
	Err   error
}

// Error is that of the cause.
func (b *Busy) Error() string { return b.Err.Error() }

// Unwrap returns the cause.
func (b *Busy) Unwrap() error { return b.Err }

// Refused is an error of a target that has read a notification and does not want
// it, as it is: trying again for days does not help.
type Refused struct{ Err error }

// Error is that of the cause.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Err }

// Partial is an error of a target that has got a notification all the same, but
// not all that are behind it: it is not sent again.
type Partial struct{ Err error }

// Error is that of the cause.
func (p *Partial) Error() string { return p.Err.Error() }

// Unwrap returns the cause.
func (p *Partial) Unwrap() error { return p.Err }
