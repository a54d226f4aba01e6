package registries

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxLooks bounds the registries that are looked at at once.
	maxLooks = 4
	// lookEvery is how often the loop looks at what is due, whatever it was told.
	lookEvery = time.Minute
	// afterTrouble is how long it waits when the store did not answer.
	afterTrouble = 5 * time.Second

	// settle is how long a repository is left alone after a change, because pushes
	// come in bursts; settleAtMost is how long at most.
	settle       = 2 * time.Second
	settleAtMost = 15 * time.Second
	// maxTold bounds the repositories of one registry that wait for a listing;
	// beyond it the whole registry is looked at.
	maxTold = 5_000
)

// plan is one registry with what is to be done about it. It is replaced as a
// whole when somebody changes the registry.
type plan struct {
	r    asset.Registry
	hook []byte // SHA-256 of its webhook's token
	poll store.RegistryPoll
	// force says that somebody wants it looked at now, whatever failed before.
	force bool
	told  map[string]told // repositories that are listed by themselves

	strikes int // looks at some repositories that were given up, in a row

	ctx     context.Context // of its looks; nil before the first
	cancel  context.CancelFunc
	looking bool
	// turn is held by who looks at the registry, and handed on from plan to plan: a
	// look for what was configured before has ended when the next begins.
	turn chan struct{}
}

// told is when a repository is to be listed that changed, or, again, that could
// not be listed.
type told struct {
	first, at time.Time
	again     bool
}

func newPlan(r store.WatchedRegistry, before *plan) *plan {
	p := &plan{r: r.Registry, hook: r.Webhook, poll: r.Poll, told: map[string]told{}, turn: make(chan struct{}, 1)}
	if before == nil {
		return p
	}
	p.turn = before.turn
	for name, t := range before.told {
		if !t.again && watches(p.r, name) {
			p.told[name] = t // it is not told again
		}
	}
	return p
}

// end stops its look.
func (p *plan) end() {
	if p.cancel != nil {
		p.cancel()
	}
}

// due returns when there is something to do.
func (p *plan) due() time.Time {
	if p.force {
		return time.Time{}
	}
	at := p.poll.Next
	for _, t := range p.told {
		if t.at.Before(at) {
			at = t.at
		}
	}
	return at
}

// look is one look at a registry: at some repositories, or at all of it.
type look struct {
	r     asset.Registry
	poll  store.RegistryPoll
	whole bool
	force bool
	some  []string
}

// take makes a look of what is due.
func (p *plan) take(now time.Time) look {
	l := look{r: p.r, poll: p.poll, force: p.force, whole: p.force || !p.poll.Next.After(now)}
	for name, t := range p.told {
		if !l.whole && t.at.After(now) {
			continue
		}
		delete(p.told, name)
		if !l.whole || !t.again { // of a whole look, those that changed are listed even if they failed before
			l.some = append(l.some, name)
		}
	}
	p.force, p.looking = false, true
	return l
}

// watch looks at registries when it is time.
func (s *Service) watch(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			all.Wait()
			s.leaveWord(context.WithoutCancel(ctx))
			return
		case <-s.wake:
		case <-timer.C:
		}
		err := s.load(ctx)
		s.condition(ctx, PartRegistry, err)
		if err != nil {
			timer.Reset(afterTrouble)
			continue
		}
		timer.Reset(max(s.start(ctx, &all).Sub(s.clock()), 0))
	}
}

// leaveWord has registries looked at by the next start that told of something
// which nobody has looked at yet: they don't tell again.
func (s *Service) leaveWord(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	s.mu.Lock()
	due := map[string]store.RegistryPoll{}
	for name, p := range s.plans {
		open := p.force || p.looking
		for _, t := range p.told {
			open = open || !t.again
		}
		if open {
			due[name] = p.poll
		}
	}
	s.mu.Unlock()
	for name, poll := range due {
		poll.Next = s.clock()
		if err := s.st.PutRegistryPoll(ctx, name, poll); err != nil && !fault.Is(err, fault.NotFound) {
			s.log.Warn("what a registry told is forgotten until the next look at it", "registry", name, "error", err)
		}
	}
}

// load reads which registries there are, once.
func (s *Service) load(ctx context.Context) error {
	s.mu.Lock()
	loaded := s.loaded
	s.mu.Unlock()
	if loaded {
		return nil
	}
	done, err := s.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	all, err := s.st.Registries(ctx)
	if err != nil {
		return fmt.Errorf("read the registries: %w", err)
	}
	again := map[string]map[string]time.Time{} // what could not be listed before
	for _, r := range all {
		failing, err := s.failing(ctx, r.Name)
		if err != nil {
			return err
		}
		again[r.Name] = map[string]time.Time{}
		for name, f := range failing {
			again[r.Name][name] = f.Next
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		if s.plans[r.Name] == nil {
			s.plans[r.Name] = newPlan(r, nil)
			s.plans[r.Name].tellAgain(again[r.Name])
		}
	}
	s.loaded = true
	return nil
}

// start begins what is due, and returns when to look again.
func (s *Service) start(ctx context.Context, all *sync.WaitGroup) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readQueues(ctx, all)
	now := s.clock()
	next := now.Add(lookEvery)
	looking := 0
	for _, p := range s.plans {
		if p.looking {
			looking++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.plans)) {
		p := s.plans[name]
		if p.ctx == nil {
			p.ctx, p.cancel = context.WithCancel(ctx)
		}
		at := p.due()
		switch {
		case p.looking: // its end wakes the loop
		case at.After(now):
			next = earlier(next, at)
		case looking < maxLooks:
			looking++
			l := p.take(now)
			inside := p.ctx
			all.Go(func() { s.lookInTurn(inside, p, l) })
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lookInTurn does a look once that of the plan before has ended.
func (s *Service) lookInTurn(ctx context.Context, p *plan, l look) {
	select {
	case <-ctx.Done():
		return
	case p.turn <- struct{}{}:
	}
	defer func() { <-p.turn }()
	if ctx.Err() == nil {
		s.lookAt(ctx, p, l)
	}
}

// lookAt does a look, and notes how it went.
func (s *Service) lookAt(ctx context.Context, p *plan, l look) {
	l.poll.Begun = s.clock()
	var err error
	if l.whole {
		s.log.Debug("registry is looked at", "registry", l.r.Name)
		err = s.lookAtAll(ctx, l)
	} else {
		err = s.lookAtSome(ctx, l)
	}
	if ctx.Err() != nil {
		return // it is replaced, or the server stops and leaves word of it
	}
	s.conclude(ctx, p, l, err)
	s.mu.Lock()
	p.looking = false
	s.mu.Unlock()
	s.nudge()
}

// conclude notes how a look ended. That some repositories of many could not be
// listed is theirs; what keeps the registry from being looked at is its own. Of a
// look at some nothing follows for all of it.
func (s *Service) conclude(ctx context.Context, p *plan, l look, err error) {
	now := s.clock()
	poll := l.poll
	var some *partly
	wellEnough := err == nil || errors.As(err, &some)
	var again time.Time // for what was to be listed and wasn't
	switch {
	case wellEnough:
		poll.Ended, poll.Next = now, now.Add(jitter(every(l.r)))
		poll.Error, poll.Remedy, poll.Tries = "", "", 0
	case l.whole:
		poll.Tries++
		again = now.Add(jitter(backoff(poll.Tries, max(every(l.r), maxBackoff))))
		poll.Ended, poll.Next = now, again
		poll.Error, poll.Remedy = said(err), fault.Remedy(err)
	}
	s.mu.Lock()
	if wellEnough {
		p.strikes = 0
	} else if p.strikes++; !l.whole {
		again = now.Add(jitter(backoff(p.strikes, maxBackoff)))
	}
	if l.whole {
		p.poll = poll
	}
	if some != nil {
		p.tellAgain(some.next)
	} else if !wellEnough {
		for _, name := range l.some {
			p.tellAgain(map[string]time.Time{name: again})
		}
	}
	s.mu.Unlock()
	if !wellEnough {
		s.log.Warn("registry not looked at", "registry", l.r.Name, "error", err, "again", again)
	}
	s.show(ctx, l, err)
	if l.whole {
		perr := s.st.PutRegistryPoll(ctx, l.r.Name, poll)
		if perr != nil && !fault.Is(perr, fault.NotFound) && ctx.Err() == nil {
			s.log.Error("how a registry is was not stored", "registry", l.r.Name, "error", perr)
		}
	}
	s.scanning.Touch()
}

// show makes a condition of how a look at a registry ended. A look at some of its
// repositories says nothing of the others: what is known of all of them does, and
// nothing when it could not be looked at as a whole before.
func (s *Service) show(ctx context.Context, l look, err error) {
	part := PartRegistry + "/" + l.r.Name
	var some *partly
	if l.whole || err != nil && !errors.As(err, &some) {
		s.condition(ctx, part, err)
		return
	}
	if l.poll.Error != "" {
		return
	}
	failing, ferr := s.failing(ctx, l.r.Name)
	if ferr != nil {
		return // the next look says it
	}
	if len(failing) == 0 {
		s.condition(ctx, part, nil)
		return
	}
	t, terr := s.st.RegistryTotals(ctx, l.r.Name)
	if terr != nil {
		return
	}
	first := failing[slices.Min(slices.Collect(maps.Keys(failing)))]
	s.condition(ctx, part, &partly{failed: len(failing), of: t.Repositories, registry: l.r.Name, first: notListed(first)})
}

func every(r asset.Registry) time.Duration {
	if r.Every == 0 {
		return DefaultEvery
	}
	return r.Every
}

// jitter spreads looks that began at once.
func jitter(d time.Duration) time.Duration {
	const share = 10 // d ± a tenth
	return d - d/share + rand.N(2*d/share+1)
}

const (
	firstBackoff = time.Minute
	maxBackoff   = 2 * time.Hour
	// maxSaid bounds what is kept of an error.
	maxSaid = 1_000
)

// backoff is how long something is left alone that failed so often in a row.
func backoff(tries int, most time.Duration) time.Duration {
	d := firstBackoff
	for range tries - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}

// said is what people are shown of an error: nothing of one that has no kind,
// which may hold anything.
func said(err error) string {
	if fault.Of(err) == fault.Unknown {
		return "something unexpected went wrong; the server's log says what"
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxSaid {
		return strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return text
}
