package registries

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

// View is a registry as people see it.
type View struct {
	Spec
	Created time.Time            `json:"created"`
	Webhook bool                 `json:"webhook" doc:"The registry may tell of changes by its webhook"`
	Looking bool                 `json:"looking" doc:"It is being looked at now"`
	Poll    store.RegistryPoll   `json:"poll" doc:"How the last look at all of it went"`
	Paused  *Pause               `json:"scans_paused,omitempty" doc:"Why its images, or some of them, are not scanned now: it is away, asked too much, or does not let us in"`
	Totals  store.RegistryTotals `json:"totals" doc:"How many images it holds"`
}

// Registries returns all, by name.
func (s *Service) Registries(ctx context.Context) ([]View, error) {
	all, err := s.st.Registries(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]View, 0, len(all))
	for _, r := range all {
		v, err := s.view(ctx, r)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// Registry returns one; NotFound when there is none of that name.
func (s *Service) Registry(ctx context.Context, name string) (View, error) {
	r, err := s.st.Registry(ctx, name)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, r)
}

func (s *Service) view(ctx context.Context, r store.WatchedRegistry) (View, error) {
	t, err := s.st.RegistryTotals(ctx, r.Name)
	if err != nil {
		return View{}, fmt.Errorf("count the images of registry %s: %w", r.Name, err)
	}
	v := View{Spec: SpecOf(r.Registry), Created: r.Created, Webhook: r.Webhook != nil, Poll: r.Poll, Paused: s.holds.pause(r.Host), Totals: t}
	s.mu.Lock()
	if p := s.plans[r.Name]; p != nil {
		v.Looking = p.looking
	}
	s.mu.Unlock()
	return v, nil
}

// Create has a registry watched from now on. With webhook, token is what the
// registry has to show when it tells of changes; it is not kept. It needs
// access.ManageRegistries.
func (s *Service) Create(ctx context.Context, who access.Identity, spec Spec, webhook bool) (v View, token string, err error) {
	if err := who.Need(access.ManageRegistries); err != nil {
		return v, "", err
	}
	r := store.WatchedRegistry{Created: s.clock()}
	if r.Registry, err = spec.Registry(); err != nil {
		return v, "", err
	}
	if webhook {
		token, r.Webhook = newToken()
	}
	done, err := s.change(ctx)
	if err != nil {
		return v, "", err
	}
	defer done()
	if err := s.st.CreateRegistry(ctx, r); err != nil {
		return v, "", err
	}
	s.replace(ctx, r)
	if err := s.audit(ctx, who, "registry.create", r.Name, "host "+r.Host); err != nil {
		return v, "", err
	}
	v, err = s.view(ctx, r)
	return v, token, err
}

// change waits until nobody else changes which registries are watched, and how:
// what one reads another doesn't write meanwhile, and plans are what is stored.
// done lets the next one.
func (s *Service) change(ctx context.Context) (done func(), err error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case s.changer <- struct{}{}:
		return func() { <-s.changer }, nil
	}
}

// Webhook says what becomes of a registry's webhook when it is changed.
type Webhook int

// What can become of it.
const (
	WebhookStays Webhook = iota
	WebhookAnew          // with a new token; a former one is good no more
	WebhookEnds
)

// Update changes a registry, which is looked at anew. It needs
// access.ManageRegistries.
func (s *Service) Update(ctx context.Context, who access.Identity, spec Spec, hook Webhook) (v View, token string, err error) {
	if err := who.Need(access.ManageRegistries); err != nil {
		return v, "", err
	}
	config, err := spec.Registry()
	if err != nil {
		return v, "", err
	}
	done, err := s.change(ctx)
	if err != nil {
		return v, "", err
	}
	defer done()
	r, err := s.st.Registry(ctx, config.Name)
	if err != nil {
		return v, "", err
	}
	r.Registry = config
	detail := "host " + r.Host
	switch hook {
	case WebhookAnew:
		token, r.Webhook = newToken()
		detail += ", new webhook"
	case WebhookEnds:
		r.Webhook = nil
		detail += ", no webhook"
	case WebhookStays:
	}
	if err := s.st.UpdateRegistry(ctx, r); err != nil {
		return v, "", err
	}
	r.Poll.Next, r.Poll.Tries = time.Time{}, 0 // what failed may be mended
	s.replace(ctx, r)
	if err := s.audit(ctx, who, "registry.update", r.Name, detail); err != nil {
		return v, "", err
	}
	v, err = s.view(ctx, r)
	return v, token, err
}

// replace makes a registry's configuration the one that is gone by.
func (s *Service) replace(ctx context.Context, r store.WatchedRegistry) {
	s.mu.Lock()
	old := s.plans[r.Name]
	if old != nil {
		old.end()
	}
	p := newPlan(r, old)
	p.force = true
	s.plans[r.Name] = p
	s.mu.Unlock()
	s.holds.forget(r.Host) // what refused may be mended
	s.showPause(ctx, r.Host)
	s.nudge()
	s.nudgeScans()
	s.scanning.Touch()
}

// Delete forgets a registry and what is known of it. What its images are stays
// known for as long as the retention says, and longer where they run or another
// registry has them. It needs access.ManageRegistries.
func (s *Service) Delete(ctx context.Context, who access.Identity, name string) error {
	if err := who.Need(access.ManageRegistries); err != nil {
		return err
	}
	done, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	r, err := s.st.Registry(ctx, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.plans[name]
	if old != nil {
		old.end()
	}
	s.mu.Unlock()
	if old != nil {
		select { // nothing of it is stored any more behind what follows
		case <-ctx.Done():
			s.replace(context.WithoutCancel(ctx), r)
			return ctx.Err()
		case old.turn <- struct{}{}:
			defer func() { <-old.turn }()
		}
	}
	if err := s.st.DeleteRegistry(ctx, name); err != nil {
		s.replace(context.WithoutCancel(ctx), r)
		return err
	}
	s.mu.Lock()
	delete(s.plans, name)
	s.mu.Unlock()
	s.holds.forget(r.Host)
	s.nudge() // its queue is read no more
	s.condition(ctx, PartRegistry+"/"+name, nil)
	s.condition(ctx, PartRegistry+"/"+name+partOfScans, nil)
	s.scanning.Touch()
	return s.audit(ctx, who, "registry.delete", name, "")
}

// Check has a registry looked at now, also what failed before. It needs
// access.ManageImages.
func (s *Service) Check(ctx context.Context, who access.Identity, name string) error {
	if err := who.Need(access.ManageImages); err != nil {
		return err
	}
	r, err := s.st.Registry(ctx, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if p := s.plans[name]; p != nil {
		p.force = true
	}
	s.mu.Unlock()
	s.holds.forget(r.Host)
	s.showPause(ctx, r.Host)
	s.nudge()
	s.nudgeScans()
	return s.audit(ctx, who, "registry.check", name, "")
}

// Rescan has an image of a registry scanned anew, whatever became of it. It needs
// access.ManageImages.
func (s *Service) Rescan(ctx context.Context, who access.Identity, id int64) error {
	if err := who.Need(access.ManageImages); err != nil {
		return err
	}
	e, err := s.st.RegistryEntry(ctx, id)
	if err != nil {
		return err
	}
	if err := s.st.RegistryScanAgain(ctx, id, s.clock()); err != nil {
		return err
	}
	for _, p := range e.Platforms {
		if err := s.scanning.Rescan(ctx, who, p.ImageID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	s.mu.Lock()
	p := s.plans[e.Registry]
	s.mu.Unlock()
	if p != nil {
		s.holds.forget(p.r.Host) // now means now
		s.showPause(ctx, p.r.Host)
	}
	s.nudgeScans()
	s.scanning.Touch()
	return s.audit(ctx, who, "registry.rescan", e.Registry, e.Repository+"@"+e.Digest)
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, name, detail string) error {
	return audit.Log{Store: s.st, Clock: s.clock}.Done(ctx, who, action, "registry:"+name, detail)
}
