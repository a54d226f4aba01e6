package notify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// settle is how long nothing more must come before what waits is told: images
	// are compared one by one, and new advisories bear on many of them.
	settle = 15 * time.Second
	// settleMost is when it is told even so.
	settleMost = 5 * time.Minute
	// maxNotices bounds the notices of one notification, which stays below some
	// 300 KiB.
	maxNotices = 50
	// urgentSettle and urgentEvery are settle and a target's interval for what is
	// urgent: soon, and not more often than somebody can look.
	urgentSettle = 2 * time.Second
	urgentEvery  = 10 * time.Second
)

// foldAt returns when what waits for a target is made into a notification.
func foldAt(t *notice.Target, l store.NoticeLine, settle time.Duration) time.Time {
	every := t.Interval
	urgent := t.Schedule.Urgent > finding.Unknown && l.Urgency >= t.Schedule.Urgent
	if urgent {
		settle, every = min(settle, urgentSettle), urgentEvery
	}
	at := l.Newest.Add(settle)
	if most := l.Oldest.Add(settleMost); most.Before(at) {
		at = most
	}
	if again := t.State.Folded.Add(every); !t.State.Folded.IsZero() && again.After(at) {
		at = again
	}
	switch {
	case urgent:
		return at
	case len(t.Schedule.At) > 0:
		// Of the oldest: what comes up in the minute of the digest does not put it off.
		return t.Schedule.Next(l.Oldest)
	}
	return t.Schedule.Next(at)
}

// fold makes one notification of what waits for each target that has none on its
// way, and returns how long it is until there is something to fold.
func (s *Service) fold(ctx context.Context, targets []notice.Target) (time.Duration, error) {
	lines, err := s.st.Queues(ctx)
	if err != nil {
		return 0, fmt.Errorf("read what is to be told: %w", err)
	}
	next := lookEvery
	for i := range targets {
		t := &targets[i]
		for _, l := range lines {
			if l.Target != t.ID || t.State.Undelivered {
				continue // what waits goes into the next one
			}
			if left := foldAt(t, l, s.pace.Settle).Sub(s.clock()); left > 0 {
				next = min(next, left)
				continue
			}
			if err := s.foldOne(ctx, t, l.Notices); err != nil {
				return 0, err
			}
			next = 0
		}
	}
	return next, nil
}

func (s *Service) foldOne(ctx context.Context, t *notice.Target, waiting int) error {
	notices, newest, err := s.st.Notices(ctx, t.ID, maxNotices)
	if err != nil {
		return fmt.Errorf("read notices for %s: %w", t.Name, err)
	}
	if len(notices) == 0 {
		return nil
	}
	now := s.clock()
	n := notice.Notification{
		Version: notice.Version, ID: rand.Text(), Created: now, Severity: notices[0].Severity, Notices: notices,
		LeftOut: max(waiting-len(notices), 0),
	}
	n.Title, n.Link = s.headline(notices, waiting)
	s.write(t, &n)
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notification: %w", err)
	}
	err = s.st.PutNotification(ctx, store.Delivery{ID: n.ID, Target: t.ID, Created: now, Next: now, Body: body}, newest)
	if fault.Is(err, fault.NotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("store a notification for %s: %w", t.Name, err)
	}
	t.State.Undelivered, t.State.Folded = true, now
	return nil
}

// write has a target's template write a notification. One that can't any more, after
// an upgrade say, leaves it as it is.
func (s *Service) write(t *notice.Target, n *notice.Notification) {
	title, text, err := form.Apply(t.Template, n)
	if err != nil {
		s.log.Warn("template of a target is left out", "target", t.Name, "error", err)
		return
	}
	if title != "" {
		n.Title = title
	}
	n.Text = text
}

// Preview returns what a template makes of a notification of a kind, as it might be.
// It needs access.ManageNotify.
func (s *Service) Preview(who access.Identity, t notice.Template, kind notice.Kind) (title, text string, err error) {
	if err := who.Need(access.ManageNotify); err != nil {
		return "", "", err
	}
	if kind == "" {
		kind = notice.Incident
	}
	if !slices.Contains(notice.Kinds(), kind) {
		return "", "", fault.New(fault.Invalid, "kind: %.40q is none; want one of %v", kind, notice.Kinds())
	}
	if err := form.CheckTemplate(t); err != nil {
		return "", "", fault.New(fault.Invalid, "template: %w", err)
	}
	n := form.Sample(kind)
	title, text, err = form.Apply(t, &n)
	if title == "" {
		title = n.Title
	}
	if text == "" {
		text = form.Text(&n)
	}
	return title, text, err
}

// headline says what a notification is about, and where more is to be seen.
func (s *Service) headline(notices []notice.Notice, waiting int) (title, link string) {
	if waiting <= 1 && len(notices) == 1 {
		return notices[0].Title, notices[0].Link
	}
	grave, all := 0, max(waiting, len(notices))
	kinds := map[notice.Kind]int{}
	for i := range notices {
		if notices[i].Severity >= finding.Critical {
			grave++
		}
		kinds[notices[i].Kind]++
	}
	images := kinds[notice.ImageVulnerable] + kinds[notice.ImageScanned]
	switch {
	case images < len(notices):
		return ofKinds(kinds, all, len(notices), grave), s.console()
	case kinds[notice.ImageVulnerable] > 0:
		title = fmt.Sprintf("%d images: more is known to be wrong with them", all)
	default:
		title = fmt.Sprintf("%d images are scanned", all)
	}
	if grave > 0 {
		title += fmt.Sprintf(", critical in %d", grave)
	}
	return title, s.console() + "/images"
}

// ofKinds is the headline where something else than images is told of. Those that
// were left out are of kinds that nobody looked at.
func ofKinds(kinds map[notice.Kind]int, all, shown, grave int) string {
	var parts []string
	for _, k := range [...]struct {
		kinds     []notice.Kind
		one, many string
	}{
		{[]notice.Kind{notice.Incident}, "incident", "incidents"}, {[]notice.Kind{notice.Violation}, "violation of a profile", "violations of profiles"},
		{[]notice.Kind{notice.Response}, "response", "responses"}, {[]notice.Kind{notice.ImageVulnerable, notice.ImageScanned}, "image", "images"},
	} {
		n := 0
		for _, kind := range k.kinds {
			n += kinds[kind]
		}
		if n > 0 {
			parts = append(parts, plural(n, k.one, k.many))
		}
	}
	if more := all - shown; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	title := strings.Join(parts, ", ")
	if grave > 0 {
		title += fmt.Sprintf("; %d critical", grave)
	}
	return title
}
