package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// firstPause follows the first try that failed; each further one is twice as
	// long, up to maxPause.
	firstPause = 15 * time.Second
	maxPause   = time.Hour
	// maxAge is how long a notification is tried: over a weekend. maxTries bounds
	// it where clocks are set; it is more than fit into maxAge.
	maxAge   = 72 * time.Hour
	maxTries = 100
	// deadAfter is after how many tries a target is shown as a condition of the
	// server: a restart of it is none.
	deadAfter = 3
	// stopWithin is what a delivery that was begun may take when the server stops.
	stopWithin = 3 * time.Second
	// maxSending bounds what is sent at once: with that many targets that answer
	// nothing, others wait for one of them to be given up.
	maxSending = 32
	// maxError bounds the text that is kept of why a try failed.
	maxError = 500
)

// after says when a delivery is tried again of which a try has just failed; zero:
// it is given up, and a dead letter: what was refused at once, what did not get
// through after maxAge.
func after(d *store.Delivery, err error, now time.Time, first time.Duration) time.Time {
	tries := d.Tries + 1
	p := first
	for range min(tries, 16) - 1 {
		p = min(2*p, maxPause)
	}
	var busy *notice.Busy
	if errors.As(err, &busy) {
		p = max(p, min(busy.After, maxPause))
	}
	var refused *notice.Refused
	if errors.As(err, &refused) {
		return time.Time{} // it would be refused again
	}
	if at := now.Add(p); tries < maxTries && at.Before(d.Created.Add(maxAge)) {
		return at
	}
	return time.Time{}
}

// underway is what is being sent: to each target one thing at a time, over turns of
// the loop, so that a target that takes its time delays no other.
type underway struct {
	mu      sync.Mutex
	targets map[int64]bool
	failed  error // of the store, since it was asked last
	all     sync.WaitGroup
}

// now returns the targets that are being sent something.
func (u *underway) now() map[int64]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.targets)
}

// begin sends in a goroutine of its own, unless as much as may be is underway.
func (u *underway) begin(target int64, send func() error, ended func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.targets) >= maxSending {
		return false
	}
	u.targets[target] = true
	u.all.Go(func() {
		err := send()
		u.mu.Lock()
		delete(u.targets, target)
		u.failed = errors.Join(u.failed, err)
		u.mu.Unlock()
		ended()
	})
	return true
}

// takeFailed returns what the store said since the last time.
func (u *underway) takeFailed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.failed
	u.failed = nil
	return err
}

// deliver begins to send what is due, and returns how long it is until something else
// is. Each sending that ends wakes the loop.
func (s *Service) deliver(ctx context.Context, targets []notice.Target) (time.Duration, error) {
	busy := s.sending.now() // before what waits is read: what is sent meanwhile waits no more
	all, err := s.st.Deliveries(ctx)
	if err != nil {
		return 0, fmt.Errorf("read notifications: %w", err)
	}
	byID := map[int64]*notice.Target{}
	for i := range targets {
		byID[targets[i].ID] = &targets[i]
	}
	next := lookEvery
	for i := range all {
		d := &all[i]
		t := byID[d.Target]
		if t == nil || busy[d.Target] {
			continue // added or removed since; or an older one goes first
		}
		busy[d.Target] = true
		s.show(ctx, t, d.Tries, t.State.Error, t.State.Remedy)
		if left := d.Next.Sub(s.clock()); left > 0 {
			next = min(next, left)
			continue
		}
		if !s.sending.begin(d.Target, func() error { return s.try(ctx, t, d) }, s.Nudge) {
			break
		}
	}
	return next, nil
}

// try tries one delivery. Its error is of the store.
func (s *Service) try(ctx context.Context, t *notice.Target, d *store.Delivery) error {
	if ended, ok := s.takeUnnoted(d.ID); ok {
		return s.endTry(ctx, t, ended)
	}
	var n notice.Notification
	if err := json.Unmarshal(d.Body, &n); err != nil {
		return fault.New(fault.Corrupt, "read notification %s: %w", d.ID, err).With("remove the target " + t.Name + " and add it anew")
	}
	sending, cancel := finishing(ctx)
	defer cancel()
	sent := s.send(sending, t, n, d.Body)
	if sent != nil && ctx.Err() != nil {
		return nil // the server stops: this was no try
	}
	now := s.clock()
	if sent == nil || isPartial(sent) {
		s.log.Info("notification delivered", "target", t.Name, "notification_id", d.ID, "try", d.Tries+1, "not_to_all", sent)
		s.set(ctx, t, nil)
		return s.noteTry(ctx, t, d.ID, sent, time.Time{})
	}
	next := after(d, sent, now, s.pace.Again)
	if d.Tries+1 == 1 || next.IsZero() {
		s.log.Warn("notification not delivered", "target", t.Name, "notification_id", d.ID, "error", sent, "given_up", next.IsZero())
	}
	s.show(ctx, t, d.Tries+1, sent.Error(), fault.Remedy(sent))
	return s.noteTry(ctx, t, d.ID, sent, next)
}

// finishing returns a context that lives on for a moment when ctx ends, so that
// what was begun is not begun anew by the next start.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopWithin, cancel) })
	return out, func() { stop(); cancel() }
}

// show makes a target that does not take what it is sent a condition.
func (s *Service) show(ctx context.Context, t *notice.Target, tries int, why, remedy string) {
	if tries >= deadAfter {
		s.set(ctx, t, fault.New(fault.Unavailable, "%s", why).With(remedy))
	}
}

// set sets a target's condition, unless it was removed meanwhile.
func (s *Service) set(ctx context.Context, t *notice.Target, err error) {
	s.removedMu.Lock()
	defer s.removedMu.Unlock()
	if !s.removed[t.ID] {
		s.condition(ctx, PartTarget+t.Name, err)
	}
}

// unset ends the condition of a target that was removed, for good.
func (s *Service) unset(ctx context.Context, t *notice.Target) {
	s.removedMu.Lock()
	defer s.removedMu.Unlock()
	s.removed[t.ID] = true
	s.condition(ctx, PartTarget+t.Name, nil)
}

// send opens a target's destination and sends to it.
func (s *Service) send(ctx context.Context, t *notice.Target, n notice.Notification, body []byte) error {
	if s.sender == nil {
		return fault.New(fault.Unsupported, "this server can't send notifications")
	}
	d, err := s.destination(t)
	if err != nil {
		return err
	}
	return s.sender.Send(ctx, d, n, body)
}

// destination opens what is sealed of a target.
func (s *Service) destination(t *notice.Target) (d notice.Destination, err error) {
	plain, err := s.box.open(t.Sealed)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(plain, &d); err != nil {
		return d, fault.New(fault.Corrupt, "read where the target is: %w", err).With("remove the target and add it anew")
	}
	return d, nil
}

// isPartial reports whether an error is of a notification that got through.
func isPartial(err error) bool {
	var p *notice.Partial
	return errors.As(err, &p)
}

// noteTry stores how a try ended.
func (s *Service) noteTry(ctx context.Context, t *notice.Target, delivery string, sent error, next time.Time) error {
	try := store.NotifyTry{Target: t.ID, ID: delivery, At: s.clock(), Next: next}
	if sent != nil {
		try.Delivered = isPartial(sent)
		try.Error, try.Remedy = untrusted.Clip(sent.Error(), maxError), untrusted.Clip(fault.Remedy(sent), maxError)
	}
	return s.endTry(ctx, t, try)
}

func (s *Service) endTry(ctx context.Context, t *notice.Target, try store.NotifyTry) error {
	err := s.st.EndNotifyTry(context.WithoutCancel(ctx), try)
	if err == nil {
		return nil
	}
	if try.ID != "" {
		s.unnotedMu.Lock()
		defer s.unnotedMu.Unlock()
		s.unnoted[try.ID] = try
	}
	return fmt.Errorf("store what became of a notification for %s: %w", t.Name, err)
}

func (s *Service) takeUnnoted(delivery string) (store.NotifyTry, bool) {
	s.unnotedMu.Lock()
	defer s.unnotedMu.Unlock()
	try, ok := s.unnoted[delivery]
	delete(s.unnoted, delivery)
	return try, ok
}
