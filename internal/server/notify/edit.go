package notify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// NoCA as TargetChange.CA has the authorities of the system vouch for the target.
const NoCA = "none"

// TargetChange is what of a target is to be another: what is nil stays as it is.
type TargetChange struct {
	Name *string
	// URL and Secret are kept where they are not given anew, because nobody is shown
	// them.
	URL, Secret *string
	// NewSecret has one made for a webhook.
	NewSecret    bool
	CA           *string // NoCA for that of the system
	Plain        *bool
	Interval     *time.Duration
	Kinds        *[]notice.Kind
	Severity     *finding.Severity
	Fixable      *bool
	Exploited    *bool
	Running      *bool
	Repositories *[]string
	Groups       *[]string
	Clusters     *[]string
	Owners       *[]string
	At, Quiet    *[]string
	Zone         *string
	Urgent       *finding.Severity
	Title, Body  *string // of the template
	User, From   *string
	Format       *string
	// Role and ExternalID are of targets of AWS; empty: as whoever the server is.
	Role, ExternalID *string
	To               *[]string
}

// set changes what is given.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// Edit changes a target. What it was told it is not told again, and what waits for
// it still does. It returns a secret that was made, this once, and needs
// access.ManageNotify.
func (s *Service) Edit(ctx context.Context, who access.Identity, id int64, c TargetChange) (t notice.Target, secret string, err error) {
	if t, err = s.target(ctx, who, id); err != nil {
		return t, "", err
	}
	if s.sender == nil {
		return t, "", fault.New(fault.Unsupported, "this server can't send notifications")
	}
	d, err := s.destination(&t)
	if err != nil {
		return t, "", err
	}
	before := t.Name
	n := NewTarget{Name: t.Name, Destination: d, Filter: t.Filter, Interval: t.Interval, Schedule: t.Schedule, Template: t.Template}
	if secret, err = c.apply(&n); err != nil {
		return t, "", err
	}
	if err := n.check(); err != nil {
		return t, "", err
	}
	if t.Address, err = s.sender.Check(n.Destination); err != nil {
		return t, "", err
	}
	plain, err := json.Marshal(n.Destination)
	if err != nil {
		return t, "", fmt.Errorf("encode destination: %w", err)
	}
	t.Name, t.Filter, t.Interval, t.Settings, t.Sealed = n.Name, n.Filter, n.Interval, n.Destination.Settings, s.box.seal(plain)
	t.Schedule, t.Template = n.Schedule, n.Template
	if err := s.st.UpdateNotifyTarget(ctx, t); err != nil {
		return t, "", fmt.Errorf("store target %s: %w", t.Name, err)
	}
	if t.Name != before {
		s.condition(ctx, PartTarget+before, nil) // the next try says it of the new name
	}
	return t, secret, s.audit(ctx, who, "notify.edit", t.Name, c.words(before))
}

// apply makes what is there what it shall be.
func (c *TargetChange) apply(n *NewTarget) (secret string, err error) {
	d, f := &n.Destination, &n.Filter
	set(&n.Name, c.Name)
	n.Name = strings.TrimSpace(n.Name)
	set(&n.Interval, c.Interval)
	set(&d.URL, c.URL)
	d.URL = strings.TrimSpace(d.URL)
	set(&d.CA, c.CA)
	if d.CA == NoCA {
		d.CA = ""
	}
	set(&d.Plain, c.Plain)
	set(&f.Kinds, c.Kinds)
	set(&f.Severity, c.Severity)
	set(&f.Fixable, c.Fixable)
	set(&f.Exploited, c.Exploited)
	set(&f.Running, c.Running)
	set(&f.Repositories, c.Repositories)
	set(&f.Groups, c.Groups)
	set(&f.Clusters, c.Clusters)
	set(&f.Owners, c.Owners)
	set(&n.Schedule.At, c.At)
	set(&n.Schedule.Quiet, c.Quiet)
	set(&n.Schedule.Zone, c.Zone)
	set(&n.Schedule.Urgent, c.Urgent)
	set(&n.Template.Title, c.Title)
	set(&n.Template.Body, c.Body)
	set(&d.User, c.User)
	set(&d.From, c.From)
	set(&d.To, c.To)
	set(&d.Format, c.Format)
	set(&d.Role, c.Role)
	set(&d.ExternalID, c.ExternalID)
	if d.Role == "" && c.ExternalID == nil {
		d.ExternalID = "" // it was for the role that is no more
	}
	if c.Secret == nil && !c.NewSecret {
		return "", nil
	}
	switch {
	case !d.Type.HasSecret():
		return "", noSecret(d.Type)
	case c.NewSecret && d.Type != notice.Webhook:
		return "", fault.New(fault.Invalid, "secret: only that of a webhook is made here").With("give the one that the target knows")
	case c.Secret != nil && c.NewSecret:
		return "", fault.New(fault.Invalid, "secret: one is given, and one is to be made").With("choose one of them")
	case c.NewSecret:
		secret = newSecret()
		d.Secret = secret
	case *c.Secret == "":
		return "", fault.New(fault.Invalid, "secret: it is empty").With("leave it out to keep the one that is there")
	default:
		d.Secret = *c.Secret
	}
	return secret, nil
}

// words says for the audit log what was changed, without what is a secret.
func (c *TargetChange) words(before string) string {
	var all []string
	for _, part := range []struct {
		given bool
		word  string
	}{
		{c.Name != nil && *c.Name != before, "name, before " + before}, {c.URL != nil, "address"}, {c.Secret != nil || c.NewSecret, "secret"}, {c.CA != nil, "certificates"},
		{c.Plain != nil, "encryption"}, {c.User != nil, "user"}, {c.From != nil, "sender"}, {c.To != nil, "recipients"}, {c.Format != nil, "format"}, {c.Role != nil || c.ExternalID != nil, "role"}, {c.Interval != nil, "interval"}, {c.Kinds != nil, "kinds"},
		{c.Severity != nil || c.Fixable != nil || c.Exploited != nil || c.Running != nil, "findings"}, {c.Repositories != nil, "repositories"}, {c.Groups != nil, "groups"}, {c.Clusters != nil, "clusters"},
		{c.Owners != nil, "owners"}, {c.At != nil || c.Quiet != nil || c.Zone != nil || c.Urgent != nil, "schedule"}, {c.Title != nil || c.Body != nil, "template"},
	} {
		if part.given {
			all = append(all, part.word)
		}
	}
	return strings.Join(all, ", ")
}

// newSecret signs what a webhook gets.
func newSecret() string { return "cws_" + rand.Text() + rand.Text() }
