package notify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
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
)

// foldAt returns when what waits for a target is made into a notification.
func foldAt(t *notice.Target, l store.NoticeLine, settle time.Duration) time.Time {
	at := l.Newest.Add(settle)
	if most := l.Oldest.Add(settleMost); most.Before(at) {
		at = most
	}
	if again := t.State.Folded.Add(t.Interval); !t.State.Folded.IsZero() && again.After(at) {
		at = again
	}
	return at
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

// headline says what a notification is about, and where more is to be seen.
func (s *Service) headline(notices []notice.Notice, waiting int) (title, link string) {
	if waiting <= 1 && len(notices) == 1 {
		return notices[0].Title, notices[0].Link
	}
	grave, vulnerable := 0, false
	for i := range notices {
		if notices[i].Severity >= finding.Critical {
			grave++
		}
		vulnerable = vulnerable || notices[i].Kind == notice.ImageVulnerable
	}
	all := max(waiting, len(notices))
	title = fmt.Sprintf("%d images are scanned", all)
	if vulnerable {
		title = fmt.Sprintf("%d images: more is known to be wrong with them", all)
	}
	if grave > 0 {
		title += fmt.Sprintf(", critical in %d", grave)
	}
	return title, s.console() + "/images"
}
