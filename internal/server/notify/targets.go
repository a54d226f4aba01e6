package notify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
	"github.com/castellan-security/castellan/internal/server/audit"
)

const (
	// minInterval keeps a target from getting more than somebody reads.
	minInterval     = time.Minute
	maxInterval     = 24 * time.Hour
	defaultInterval = 15 * time.Minute
	// maxPatterns and maxPattern bound a filter: each is held against each notice.
	maxPatterns = 50
	maxPattern  = 512
	// maxTests bounds tests in a minute, by which one could otherwise try out hosts
	// and ports that only this server reaches.
	maxTests = 20
	// testWithin bounds one.
	testWithin = 15 * time.Second
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}$`)

// NewTarget is a target to be added.
type NewTarget struct {
	Name        string
	Destination notice.Destination
	Filter      notice.Filter
	Interval    time.Duration // 0 is a quarter of an hour
	Schedule    notice.Schedule
	Template    notice.Template
	// Urgent nil: incidents, violations and responses that are high or graver are
	// urgent; otherwise it is what Schedule.Urgent is set to.
	Urgent *finding.Severity
}

// defaultUrgent is from which severity on something that happens waits for nothing.
const defaultUrgent = finding.High

// Add adds a target. A webhook without a secret gets one, which is returned this
// once. It needs access.ManageNotify.
func (s *Service) Add(ctx context.Context, who access.Identity, n NewTarget) (t notice.Target, secret string, err error) {
	if err := who.Need(access.ManageNotify); err != nil {
		return t, "", err
	}
	if s.sender == nil {
		return t, "", fault.New(fault.Unsupported, "this server can't send notifications")
	}
	n.Name = strings.TrimSpace(n.Name)
	d := &n.Destination
	d.URL = strings.TrimSpace(d.URL)
	if d.Type == notice.Webhook && d.Secret == "" {
		d.Secret = newSecret()
		secret = d.Secret
	}
	if !d.Type.HasSecret() && d.Secret != "" {
		return t, "", noSecret(d.Type)
	}
	if n.Interval == 0 {
		n.Interval = defaultInterval
	}
	n.Schedule.Urgent = defaultUrgent
	if n.Urgent != nil {
		n.Schedule.Urgent = *n.Urgent
	}
	if err := n.check(); err != nil {
		return t, "", err
	}
	shown, err := s.sender.Check(*d)
	if err != nil {
		return t, "", err
	}
	plain, err := json.Marshal(d)
	if err != nil {
		return t, "", fmt.Errorf("encode destination: %w", err)
	}
	t, err = s.st.PutNotifyTarget(ctx, notice.Target{
		Name: n.Name, Type: d.Type, Address: shown, Signed: d.Type == notice.Webhook, Settings: d.Settings, Filter: n.Filter, Interval: n.Interval,
		Schedule: n.Schedule, Template: n.Template,
		By: who.Actor, Created: s.clock(), Sealed: s.box.seal(plain),
	})
	if err != nil {
		return t, "", fmt.Errorf("store target %s: %w", n.Name, err)
	}
	return t, secret, s.audit(ctx, who, "notify.add", t.Name, string(t.Type)+" "+t.Address)
}

func noSecret(of notice.Type) error {
	return fault.New(fault.Invalid, "secret: a target of type %.20q has none", of).With("leave it out")
}

// check returns what is wrong with it, but for its destination.
func (n *NewTarget) check() error {
	f := &n.Filter
	switch {
	case !nameForm.MatchString(n.Name):
		return fault.New(fault.Invalid, "name: want 1 to 63 letters, digits, blanks and . _ @ -, a letter or digit first")
	case n.Interval < minInterval || n.Interval > maxInterval:
		return fault.New(fault.Invalid, "interval: want %s to %s", minInterval, maxInterval)
	case f.Severity > finding.Critical:
		return fault.New(fault.Invalid, "severity: want critical, high, medium, low, negligible or unknown")
	}
	for _, k := range f.Kinds {
		if !slices.Contains(notice.Kinds(), k) {
			return fault.New(fault.Invalid, "kinds: %.40q is none; want %v", k, notice.Kinds())
		}
	}
	if err := n.Schedule.Check(); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if err := form.CheckTemplate(n.Template); err != nil {
		return fault.New(fault.Invalid, "template: %w", err).With("its fields are in docs/notifications.md; try it: castellan notify preview")
	}
	return checkFilter(f)
}

// checkFilter returns what is wrong with the patterns of a filter.
func checkFilter(f *notice.Filter) error {
	for _, field := range []struct {
		name     string
		patterns []string
		blanks   bool // may be in it
	}{{"repositories", f.Repositories, false}, {"groups", f.Groups, false}, {"clusters", f.Clusters, false}, {"owners", f.Owners, true}} {
		if len(field.patterns) > maxPatterns {
			return fault.New(fault.Invalid, "%s: want %d patterns at most", field.name, maxPatterns)
		}
		for _, p := range field.patterns {
			if field.blanks {
				p = strings.ReplaceAll(p, " ", "")
			}
			if !isPattern(p) {
				return fault.New(fault.Invalid, "%s: want patterns of 1 to %d bytes without blanks", field.name, maxPattern).
					With("write them as in registry/shop/* and prod/*/web")
			}
		}
	}
	return nil
}

func isPattern(p string) bool {
	return p != "" && len(p) <= maxPattern && utf8.ValidString(p) &&
		!strings.ContainsFunc(p, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// Targets returns all with their states, by name. It needs access.ReadNotify.
func (s *Service) Targets(ctx context.Context, who access.Identity) ([]notice.Target, error) {
	if err := who.Need(access.ReadNotify); err != nil {
		return nil, err
	}
	return s.st.NotifyTargets(ctx)
}

// Remove removes a target with all that it was to be told. It needs
// access.ManageNotify.
func (s *Service) Remove(ctx context.Context, who access.Identity, id int64) error {
	t, err := s.target(ctx, who, id)
	if err != nil {
		return err
	}
	if err := s.st.DeleteNotifyTarget(ctx, id); err != nil {
		return fmt.Errorf("remove target %s: %w", t.Name, err)
	}
	s.unset(ctx, &t)
	return s.audit(ctx, who, "notify.remove", t.Name, "")
}

// Test sends a target a notification of kind Test, now, and returns what came of
// it. It needs access.ManageNotify.
func (s *Service) Test(ctx context.Context, who access.Identity, id int64) error {
	t, err := s.target(ctx, who, id)
	if err != nil {
		return err
	}
	if err := s.mayTest(); err != nil {
		return err
	}
	return s.sendTest(ctx, who, &t)
}

// sendTest sends a target a test, as its template writes it.
func (s *Service) sendTest(ctx context.Context, who access.Identity, t *notice.Target) error {
	now, link := s.clock(), s.console()+"/notify"
	title := "Castellan reaches this target: " + t.Name
	n := notice.Notification{
		Version: notice.Version, ID: rand.Text(), Created: now, Title: title, Link: link,
		Notices: []notice.Notice{{Kind: notice.Test, Time: now, Title: title, Link: link}},
	}
	s.write(t, &n)
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notification: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, testWithin)
	defer cancel()
	sent := s.send(within, t, n, body)
	if ctx.Err() != nil {
		return ctx.Err() // who asked has gone: nothing is known
	}
	outcome := "done"
	if sent != nil {
		outcome = "failed"
	}
	noted := s.noteTry(ctx, t, "", sent, time.Time{})
	s.Nudge() // after a test that got through, what waits is tried at once
	return errors.Join(sent, noted, s.auditOutcome(ctx, who, "notify.test", t.Name, outcome, ""))
}

func (s *Service) mayTest() error {
	s.testMu.Lock()
	defer s.testMu.Unlock()
	now := s.clock()
	s.tested = slices.DeleteFunc(s.tested, func(at time.Time) bool { return now.Sub(at).Abs() > time.Minute })
	if len(s.tested) >= maxTests {
		return fault.New(fault.Exhausted, "targets were tested %d times within a minute", maxTests).With("try again in a minute")
	}
	s.tested = append(s.tested, now)
	return nil
}

// target returns one that who may change.
func (s *Service) target(ctx context.Context, who access.Identity, id int64) (notice.Target, error) {
	if err := who.Need(access.ManageNotify); err != nil {
		return notice.Target{}, err
	}
	all, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return notice.Target{}, fmt.Errorf("read targets: %w", err)
	}
	for _, t := range all {
		if t.ID == id {
			return t, nil
		}
	}
	return notice.Target{}, fault.New(fault.NotFound, "no target has the number %d", id)
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, detail string) error {
	return s.auditOutcome(ctx, who, action, target, audit.Done, detail)
}

func (s *Service) auditOutcome(ctx context.Context, who access.Identity, action, target, outcome, detail string) error {
	return audit.Log{Store: s.st, Clock: s.clock}.Add(ctx, who, action, "target:"+target, outcome, detail)
}
