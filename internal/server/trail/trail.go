// Package trail reads trails of CloudTrail through queues, holds each call of AWS
// against the rules of detection, and tells the threats that it finds on, as agents do.
// What it knows of the fleet it adds: whose credentials they are that called, where
// that task runs, and whether it still does.
//
// It is not for reading records (see internal/adapter/aws/trail), nor for what rules
// mean (see internal/detect).
package trail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// PartTrail is the name of the condition of a trail, with its name behind a blank.
const PartTrail = "trail"

// Reporter is under which name it is kept how rules fare here.
const Reporter = "cloudtrail"

const (
	// lookEvery is how often is looked for trails that others configured, and how
	// often it is stored how rules fare.
	lookEvery = time.Minute
	// leastPause and mostPause are between tries of what failed.
	leastPause = 2 * time.Second
	mostPause  = 2 * time.Minute
	// late is how old calls may be when they come: CloudTrail writes files within a
	// quarter of an hour.
	late = time.Hour
)

// Store is what is kept.
type Store interface {
	store.Trails
	Fleet
	PutDetectionStats(ctx context.Context, agentID, boot string, stats []threat.RuleStats) error
	store.DetectionMemories
	AppendAudit(ctx context.Context, a access.Audit) error
}

// Door receives calls from a trail's queue; *aws.Trails does. done takes what was
// received from the queue, and is never nil.
type Door interface {
	Receive(ctx context.Context, t asset.Trail, take func(*event.Event) error) (n asset.TrailCounts, done func(context.Context) error, err error)
	// Test says what of a trail can't be reached; it leaves the queue as it is.
	Test(ctx context.Context, t asset.Trail) (string, error)
}

// Rules are those that hold, and take what they find.
type Rules interface {
	Texts(ctx context.Context) (texts []detect.Text, stamp string, err error)
	Take(ctx context.Context, agentID string, threats []*threat.Threat) error
}

// Options are what a Service needs. All but Door and Condition are required.
type Options struct {
	Store Store
	Door  Door // nil: no trail is read
	Rules Rules
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service reads trails. It is safe for concurrent use.
type Service struct {
	Options
	wake chan struct{} // one token when trails were changed

	mu    sync.Mutex
	state map[string]*state // by the trail's name

	looking sync.Mutex // calls are held against rules one after the other
	engine  *detect.Engine
	stamp   string
	boot    string
	once    seen
	homes   *homes
	learned memories
}

// state is how reading a trail goes.
type state struct {
	trail asset.Trail
	since time.Time // from when on it is read
	view  View
	end   context.CancelFunc
}

// View is a trail as people see it.
type View struct {
	store.WatchedTrail
	Counts asset.TrailCounts `json:"counts" doc:"What came since the server started"`
	// Threats is how many were told.
	Threats   uint64     `json:"threats" doc:"Threats that were found since the server started"`
	Repeated  uint64     `json:"repeated" doc:"Calls that came more than once, and were looked at once"`
	Asked     *time.Time `json:"asked,omitempty" doc:"When the queue last answered"`
	Last      *time.Time `json:"last,omitempty" doc:"When the last call came"`
	Newest    *time.Time `json:"newest,omitempty" doc:"When the newest call was made"`
	Error     string     `json:"error,omitempty" doc:"Why it can't be read now"`
	Remedy    string     `json:"remedy,omitempty" doc:"What to do about it"`
	Condition string     `json:"condition" doc:"well, failing, quiet or late"`
}

// New returns a service that reads nothing before Run.
func New(o Options) *Service {
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	return &Service{Options: o, wake: make(chan struct{}, 1), state: map[string]*state{}, homes: newHomes(o.Store, o.Clock)}
}

// Run reads the trails that are configured until ctx ends. Call it once. What was
// received and not told on by then comes again.
func (s *Service) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.reconcile(ctx, &all); err != nil && ctx.Err() == nil {
			s.Log.Error("trails are not read anew", "error", err)
		}
		select {
		case <-ctx.Done():
			last := context.WithoutCancel(ctx)
			s.keepStats(last)
			s.keepMemories(last)
			return
		case <-s.wake:
		case <-tick.C:
			s.tellDue(ctx)
			s.keepStats(ctx)
			if s.learned.due(s.Clock()) {
				s.keepMemories(ctx)
			}
			s.judge(ctx)
		}
	}
}

// reconcile has one reader for each trail that is configured.
func (s *Service) reconcile(ctx context.Context, all *sync.WaitGroup) error {
	trails, err := s.Store.Trails(ctx)
	if err != nil {
		return fmt.Errorf("read trails: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bool{}
	for _, t := range trails {
		wanted[t.Name] = true
		st := s.state[t.Name]
		if st != nil && st.trail == t.Trail {
			st.view.WatchedTrail = t
			continue
		}
		if st != nil {
			st.end()
		}
		reading, end := context.WithCancel(ctx)
		st = &state{trail: t.Trail, since: s.Clock(), end: end, view: View{WatchedTrail: t, Condition: "well"}}
		s.state[t.Name] = st
		if s.Door != nil {
			all.Go(func() { s.read(reading, st) })
		}
	}
	for name, st := range s.state {
		if !wanted[name] {
			st.end()
			delete(s.state, name)
			s.Condition(ctx, PartTrail+" "+name, nil)
		}
	}
	return nil
}

// read takes what comes of a trail until ctx ends.
func (s *Service) read(ctx context.Context, st *state) {
	for tries := 0; ctx.Err() == nil; {
		err := s.receive(ctx, st)
		if ctx.Err() != nil {
			return
		}
		s.note(st, func(v *View) {
			if v.Error, v.Remedy = "", ""; err != nil {
				v.Error, v.Remedy = err.Error(), fault.Remedy(err)
			}
		})
		s.judgeOne(ctx, st)
		if err == nil {
			tries = 0
			continue
		}
		tries++
		s.Log.Warn("nothing received from a trail's queue", "trail", st.trail.Name, "error", err)
		pace.Wait(ctx, min(leastPause<<min(tries-1, 10), mostPause))
	}
}

// receive takes what a queue has now, and takes it from the queue when the threats in
// it are kept.
func (s *Service) receive(ctx context.Context, st *state) error {
	var calls []*event.Event
	n, done, err := s.Door.Receive(ctx, st.trail, func(e *event.Event) error {
		e.Received = s.Clock()
		calls = append(calls, e)
		return ctx.Err()
	})
	now := s.Clock()
	s.note(st, func(v *View) {
		v.Counts.Calls, v.Counts.Skipped = v.Counts.Calls+n.Calls, v.Counts.Skipped+n.Skipped
		v.Counts.Unreadable, v.Counts.Strays = v.Counts.Unreadable+n.Unreadable, v.Counts.Strays+n.Strays
		if err == nil || n.Calls > 0 {
			v.Asked = &now
		}
	})
	if len(calls) > 0 {
		threats, repeated, lookErr := s.Look(ctx, calls)
		if lookErr != nil {
			return errors.Join(err, lookErr)
		}
		newest := slices.MaxFunc(calls, func(a, b *event.Event) int { return a.Time.Compare(b.Time) }).Time
		s.note(st, func(v *View) {
			v.Last, v.Newest, v.Threats, v.Repeated = &now, &newest, v.Threats+uint64(threats), v.Repeated+uint64(repeated)
		})
	}
	if doneErr := done(ctx); doneErr != nil {
		err = errors.Join(err, doneErr)
	}
	return err
}

// Look holds calls against the rules, and tells on what they find until it is kept. It
// returns how many threats that were, and how many calls had been looked at before.
func (s *Service) Look(ctx context.Context, calls []*event.Event) (threats, repeated int, err error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if err := s.arm(ctx); err != nil {
		return 0, 0, err
	}
	slices.SortStableFunc(calls, func(a, b *event.Event) int { return a.Time.Compare(b.Time) })
	var found []threat.Threat
	for _, e := range calls {
		if !s.once.first(e.Call.Account, e.Call.ID) {
			repeated++
			continue
		}
		s.homes.tell(ctx, e)
		found = append(found, s.engine.Observe(e)...)
	}
	return len(found), repeated, s.tell(ctx, found)
}

// arm makes the engine of the rules that hold now.
func (s *Service) arm(ctx context.Context) error {
	texts, stamp, err := s.Rules.Texts(ctx)
	if err != nil {
		return fmt.Errorf("read rules of detection: %w", err)
	}
	if s.engine != nil && s.stamp == stamp {
		return nil
	}
	e, err := detect.New(texts)
	if err != nil { // which a condition of the server tells
		if e, err = detect.New(nil); err != nil {
			return fmt.Errorf("read the built-in rules: %w", err)
		}
	}
	e.Silence(nil) // they are kept to where threats are taken
	if err := s.recall(ctx, e); err != nil {
		return err
	}
	s.engine, s.stamp, s.boot = e, stamp, rand.Text()
	return nil
}

// tell tells threats on, again and again until they are kept or ctx ends: they can't
// be found again.
func (s *Service) tell(ctx context.Context, found []threat.Threat) error {
	of := map[string][]*threat.Threat{}
	var agents []string
	for i := range found {
		id := found[i].AgentID
		if of[id] == nil {
			agents = append(agents, id)
		}
		of[id] = append(of[id], &found[i])
	}
	for _, id := range agents {
		for tries := 0; ; tries++ {
			err := s.Rules.Take(ctx, id, of[id])
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.Log.Error("threats of a trail are not kept yet", "threats", len(of[id]), "error", err)
			if fault.Is(err, fault.Invalid) {
				break // it stays so
			}
			pace.Wait(ctx, min(leastPause<<min(tries, 10), mostPause))
		}
	}
	return nil
}

// tellDue tells repeats that are due though no call comes.
func (s *Service) tellDue(ctx context.Context) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.engine == nil {
		return
	}
	if err := s.tell(ctx, s.engine.Due(s.Clock())); err != nil && ctx.Err() == nil {
		s.Log.Error("repeats of threats are lost", "error", err)
	}
}

// keepStats stores how rules fare here.
func (s *Service) keepStats(ctx context.Context) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.engine == nil {
		return
	}
	var stats []threat.RuleStats
	for _, st := range s.engine.Stats() {
		if st.Looked > 0 {
			stats = append(stats, threat.RuleStats{
				Rule: st.Rule, Looked: st.Looked, Hits: st.Hits, Silenced: st.Silenced, Errors: st.Errors, Error: st.Error, Spent: st.Spent, Last: st.Last,
			})
		}
	}
	if len(stats) == 0 {
		return
	}
	if err := s.Store.PutDetectionStats(ctx, Reporter, s.boot, stats); err != nil && ctx.Err() == nil {
		s.Log.Error("how rules of detection fare is not stored", "reporter", Reporter, "error", err)
	}
}

func (s *Service) note(st *state, change func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&st.view)
}

// judge says of all trails how they are.
func (s *Service) judge(ctx context.Context) {
	s.mu.Lock()
	all := make([]*state, 0, len(s.state))
	for _, st := range s.state {
		all = append(all, st)
	}
	s.mu.Unlock()
	for _, st := range all {
		s.judgeOne(ctx, st)
	}
}

// judgeOne says whether a trail can be read, and whether what comes is in time.
func (s *Service) judgeOne(ctx context.Context, st *state) {
	if ctx.Err() != nil {
		return
	}
	now := s.Clock()
	quiet := st.trail.Quiet
	if quiet == 0 {
		quiet = asset.DefaultQuiet
	}
	var wrong error
	s.note(st, func(v *View) {
		last := st.since
		if v.Last != nil {
			last = *v.Last
		}
		v.Condition = "well"
		switch {
		case v.Error != "":
			v.Condition = "failing"
			wrong = fault.New(fault.Unavailable, "%s", v.Error).With(v.Remedy)
		case now.Sub(last) > quiet:
			v.Condition = "quiet"
			wrong = fault.New(fault.Unavailable, "nothing came of trail %s for %s", st.trail.Name, now.Sub(last).Round(time.Minute)).
				With("is the trail on (aws cloudtrail get-trail-status), and does its rule or its bucket still send to the queue?")
		case v.Newest != nil && v.Last != nil && v.Last.Sub(*v.Newest) > late:
			v.Condition = "late"
			wrong = fault.New(fault.Unavailable, "what comes of trail %s is %s old", st.trail.Name, v.Last.Sub(*v.Newest).Round(time.Minute)).
				With("the queue has more than is read: it catches up, unless more comes than one server reads; let EventBridge send only the calls that rules look at")
		}
	})
	s.Condition(ctx, PartTrail+" "+st.trail.Name, wrong)
}
