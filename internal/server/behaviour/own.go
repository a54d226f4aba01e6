package behaviour

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// lookEvery is how often violations are stored and events looked for, if nobody
	// tells of them.
	lookEvery = time.Second
	// againAfter follows an error of the store.
	againAfter = time.Second
	// lastWords is how long a server that stops tries to store what it has learned.
	lastWords = 5 * time.Second
	// askTimeout bounds the storing of what a person has asked for, which is done
	// even when the client has gone.
	askTimeout = 10 * time.Second
)

// ask is something that the owner does between two pages of events.
type ask struct {
	do   func(*keeper)
	done chan struct{}
}

// with has the owner call do, and waits for it. What do stores it stores whether or
// not the caller waits still.
func (s *Service) with(ctx context.Context, do func(context.Context, *keeper) error) (err error) {
	a := ask{done: make(chan struct{})}
	a.do = func(k *keeper) {
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		if err = ctx.Err(); err == nil {
			err = do(lasting, k)
		}
	}
	select {
	case s.asks <- a:
	case <-s.over:
		return fault.New(fault.Unavailable, "the server stops")
	case <-ctx.Done():
		return fmt.Errorf("wait for what is learned: %w", ctx.Err())
	}
	<-a.done
	return err
}

// own is the life of the owner.
func (s *Service) own(ctx context.Context) {
	k := s.open(ctx)
	if k == nil {
		return // ctx has ended
	}
	close(s.ready)
	news := s.news(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			k.end()
			return
		case a := <-s.asks:
			a.do(k)
			close(a.done)
		case _, more := <-news:
			if !more {
				news = nil // ctx has ended, or it is looked for every second
			}
			s.trouble(ctx, k.read(ctx))
		case <-look.C:
			if news == nil {
				news = s.news(ctx)
			}
			s.trouble(ctx, errors.Join(k.read(ctx), k.look(ctx)))
		}
		if k.stale {
			s.Log.Warn("somebody else has changed what is kept of behaviour: it is read anew")
			if k = s.open(ctx); k == nil {
				return
			}
		}
	}
}

// news is the channel of Options.News, nil without.
func (s *Service) news(ctx context.Context) <-chan struct{} {
	if s.News == nil || ctx.Err() != nil {
		return nil
	}
	c, err := s.News(ctx)
	if err != nil {
		s.Log.Warn("events are looked for every second", "error", err)
		return nil
	}
	return c
}

// open reads what is kept, again and again until that is possible.
func (s *Service) open(ctx context.Context) *keeper {
	for {
		k, err := s.load(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.trouble(ctx, err)
		if err == nil {
			return k
		}
		pace.Wait(ctx, againAfter)
	}
}

// trouble shows whether all is well.
func (s *Service) trouble(ctx context.Context, err error) {
	if ctx.Err() == nil {
		s.Condition(ctx, PartBehaviour, err)
	}
}

// pagesAtOnce is how many pages are read before people are listened to.
const pagesAtOnce = 1

// read takes all events that are stored. Between pages it does what people ask for.
func (k *keeper) read(ctx context.Context) error {
	for ctx.Err() == nil {
		more, err := k.page(ctx)
		if err != nil || !more {
			return err
		}
		if k.s.Clock().Sub(k.looked) >= lookEvery {
			if err := k.look(ctx); err != nil {
				return err
			}
		}
		for range pagesAtOnce {
			select {
			case a := <-k.s.asks:
				a.do(k)
				close(a.done)
			default:
			}
		}
	}
	return nil
}

// page takes one page of events, and reports whether there may be more.
func (k *keeper) page(ctx context.Context) (bool, error) {
	if k.position == 0 {
		// What is above 0 can't be asked for.
		e, err := k.s.Store.Event(ctx, 1)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return false, fmt.Errorf("read the first event: %w", err)
		}
		if err == nil {
			if err := k.take(ctx, &e); err != nil {
				return false, err
			}
			k.position = 1
			k.count(1)
		}
	}
	p, err := k.s.Store.Events(ctx, store.EventQuery{After: max(k.position, 1), Limit: store.MaxPage})
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	for i := range p.Events {
		if err := k.take(ctx, &p.Events[i]); err != nil {
			return false, err
		}
		k.position = p.Events[i].ID
		if len(k.outside) >= store.MaxBehaviourBatch {
			if err := k.flush(ctx); err != nil {
				return false, err
			}
		}
	}
	if len(p.Events) > 0 || p.Partial {
		k.position = max(k.position, p.Next)
	}
	k.count(len(p.Events))
	return len(p.Events) == store.MaxPage || p.Partial, nil
}

// take learns from one event, or holds it against its group's profile.
func (k *keeper) take(ctx context.Context, e *event.Event) error {
	if e.Group == "" || e.WorkloadID == "" {
		return nil // the host's own
	}
	g := k.group(asset.Group(e.Group), e)
	if g == nil || e.ID <= g.Position {
		return nil
	}
	w, err := k.workloads.get(ctx, k.s.Store, e.WorkloadID)
	if err != nil {
		return err
	}
	if e.Time.After(g.Last) {
		g.Last = e.Time
	}
	g.touched = true
	err = k.notice(ctx, g, e, w)
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
		// One group that can't be read must not stop all others.
		k.s.Log.Error("an event taught nothing", "group", g.Group, "event_id", e.ID, "error", err)
		return nil
	}
	return err
}
