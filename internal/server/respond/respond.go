// Package respond has deeds about threats done: it asks the agent on whose host a
// workload is, or ECS for the whole of a task, and keeps what came of it.
//
// People and response rules ask by Service.Ask. The lasting record is the audit log:
// who asked for what and why, and how it ended. What stands is known after a restart,
// too, and is as the agents say that it is: see Service.Holds. It is not for doing anything on a
// host (see internal/respond).
package respond

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	// within is how long an agent has to begin a deed.
	within = time.Minute
	// answerIn is how long after that an answer is waited for: a snapshot captures
	// packets for up to response.MaxPackets and writes some hundred megabytes.
	answerIn = within + response.MaxPackets + 2*time.Minute
	// maxKept bounds the responses in memory, those that stand aside; older ones are in
	// the audit log.
	maxKept = 1_000
	// maxStanding bounds those of them that hold until they are undone: five of each
	// agent of a large fleet.
	maxStanding = 10_000
	// maxOpen bounds those that have not ended.
	maxOpen = 500
	// stopWithin bounds a call of ECS with all its attempts.
	stopWithin = 15 * time.Second
)

// Store is what is needed of the store.
type Store interface {
	Workload(ctx context.Context, id string) (asset.Workload, error)
	AppendAudit(ctx context.Context, a access.Audit) error
	Incidents(ctx context.Context, q store.IncidentQuery) ([]threat.Incident, error)
	Incident(ctx context.Context, id int64) (threat.Incident, error)
	BehaviourGroups(ctx context.Context, q store.BehaviourQuery) ([]store.BehaviourGroup, error)
	store.Response
}

// Directions tell agents; *direct.Hub does.
type Directions interface {
	Listening() []string
	AskRespond(agentID string, d response.Deed)
	EndRespond(agentID, deed string)
}

// Tasks stops tasks of ECS.
type Tasks interface {
	// Stop stops a task, by its ARN, in a cluster.
	Stop(ctx context.Context, cluster, task, reason string) error
	// Runs returns nil for a task that goes on. NotFound when it has ended, or there is
	// none.
	Runs(ctx context.Context, cluster, task string) error
}

// Options are what a Service is made of.
type Options struct {
	Store      Store
	Directions Directions
	// Tree returns the processes of a workload, if they are known.
	Tree  func(workload string) ([]event.Running, bool)
	Tasks Tasks // nil: ECS is not asked; tasks are stopped through their engines
	// Sessions nil: IAM is not asked.
	Sessions Sessions
	// Theme returns that of a rule of detection; nil: themes are not known.
	Theme func(ctx context.Context, rule string) string
	// Detections returns the rules of detection; nil: which there are is not known.
	Detections func(ctx context.Context) []*threat.Rule
	Notifier   Notifier // nil: rules can't have anybody told
	// Noted is told what was done to a workload, by whom, about an incident, or with 0
	// about whichever the workload has; nil: nobody is.
	Noted func(ctx context.Context, incident int64, workload, by, text string) error
	// Snapshots is the folder that they are kept in, which is made when there is none;
	// empty: they are on their hosts alone.
	Snapshots string
	// SignedBy reads an archive and returns the agent that signed it by a certificate of
	// this server's authority, empty for nobody; nil: nobody looks.
	SignedBy func(archive io.Reader) (agent string, err error)
	// Bucket gets them, too; nil: they are only here.
	Bucket Bucket
	// Condition shows that a part is not well, or, with nil, that it is again.
	Condition func(ctx context.Context, part string, err error)
	Clock     func() time.Time
	Log       *slog.Logger
}

// Service has deeds done. It is safe for concurrent use.
type Service struct {
	Options

	mu    sync.Mutex
	all   map[string]*kept // by id of the deed
	order []string         // of all, the oldest first
	rates respond.Rates    // of what AWS is asked
	// memory is what rules did lately, held how often each was held back, undoing what
	// they did that is being undone, late what could not be.
	memory        respond.Memory
	held          map[string]heldBack
	undoing, late map[int64]bool

	remembering sync.Mutex
	remembered  bool                 // what was done before this start is in all; under remembering
	saving      sync.Mutex           // held while one of all is stored, so that the newest stays
	looked      map[string]time.Time // when agents last looked at what they hold, by their clocks

	snapping sync.Mutex    // held while the folder of snapshots is used
	upload   chan struct{} // one token when there may be one to upload

	loading sync.Mutex
	now     atomic.Pointer[standing] // nil until it is read

	waiting chan considered
	room    chan struct{}  // has a token for each decision that is being carried out
	doing   sync.WaitGroup // of those, and of what is undone; of Run
	missed  atomic.Int64   // threats that were not held against the rules
	told    int64          // of missed, when it was last said; of Run
	toldAt  time.Time
}

// kept is one response, and who waits for its end.
type kept struct {
	Response
	over chan struct{} // closed when it has ended
	once sync.Once     // that is
}

// Response is a deed with what came of it.
type Response = store.ResponseDeed

// Ask is what somebody wants done. Exactly one workload is named.
type Ask struct {
	Kind     response.Kind
	Workload string // the container's id
	// Process is whom Kill ends, as "pid-start"; a pid alone is the process that has it
	// now. Empty is the whole container.
	Process string
	Freeze  bool
	Packets time.Duration
	Values  bool
	Files   bool
	DryRun  bool
	Reason  string
}

// New returns a service that knows of no response.
func New(o Options) *Service {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Condition == nil {
		o.Condition = func(context.Context, string, error) {}
	}
	return &Service{
		Options: o, all: map[string]*kept{}, looked: map[string]time.Time{}, held: map[string]heldBack{}, undoing: map[int64]bool{}, late: map[int64]bool{},
		waiting: make(chan considered, maxWaiting), room: make(chan struct{}, maxDoing), upload: make(chan struct{}, 1),
	}
}

// Ask has a deed done and returns at once, with a response that is asked for or,
// where only ECS was to be asked, has ended; see Wait. It needs
// access.ManageResponse. Errors: Invalid for a deed that is none, NotFound for a
// workload that is not known, Unavailable when its agent is away: nothing is done
// later that somebody wanted done now. A response rule asks as an identity of its own.
func (s *Service) Ask(ctx context.Context, who access.Identity, q Ask) (Response, error) {
	if err := who.Need(access.ManageResponse); err != nil {
		return Response{}, err
	}
	if err := s.remember(ctx); err != nil {
		return Response{}, err
	}
	w, d, err := s.deed(ctx, who, q)
	if err != nil {
		return Response{}, err
	}
	r := Response{Deed: d, AgentID: w.AgentID, Group: w.Group, Name: w.Name, Answer: response.Answer{ID: d.ID, State: response.Asked}}
	if why := respond.Untouchable(w, ""); why != "" && d.Kind != response.Snapshot && d.Kind != response.Release && d.Kind != response.Reinstate {
		err := fault.New(fault.Denied, "nothing is done to container %s: %s", asset.ShortID(w.ID), why)
		return Response{}, errors.Join(err, s.audit(ctx, who.Actor, who.Address, r, "refused", err.Error()))
	}
	byTask := d.Kind == response.Stop && w.ECS.TaskARN != ""
	if !byTask && !d.Kind.AtServer() && !slices.Contains(s.Directions.Listening(), w.AgentID) {
		return Response{}, fault.New(fault.Unavailable, "the agent of that workload's host is not connected").
			With("do it on the host itself: castellan respond " + string(d.Kind) + " " + asset.ShortID(w.ID) + " --host")
	}
	if err := s.keep(r); err != nil {
		return Response{}, err
	}
	err = s.audit(ctx, who.Actor, who.Address, r, "asked", d.Reason)
	if err == nil {
		err = s.save(ctx, d.ID)
	}
	if err != nil {
		s.forget(d.ID) // what nobody can read about later is not done
		return Response{}, err
	}
	switch {
	case byTask:
		return s.stopTask(ctx, r, w)
	case d.Kind.AtServer():
		return s.ofRole(ctx, r, w)
	}
	s.Directions.AskRespond(w.AgentID, d)
	return r, nil
}

// deed makes a deed of what is asked.
func (s *Service) deed(ctx context.Context, who access.Identity, q Ask) (w asset.Workload, d response.Deed, err error) {
	now := s.Clock().UTC()
	d = response.Deed{
		ID: rand.Text(), Kind: q.Kind, Workload: q.Workload, Freeze: q.Freeze, Packets: q.Packets, Values: q.Values, Files: q.Files,
		DryRun: q.DryRun, Reason: q.Reason, By: who.Actor, Asked: now, Until: now.Add(within),
	}
	if !asset.IsContainerID(q.Workload) {
		return w, d, fault.New(fault.Invalid, "%q is no container id: want 64 hex digits", q.Workload[:min(len(q.Workload), 64)])
	}
	if w, err = s.Store.Workload(ctx, q.Workload); err != nil {
		return w, d, fmt.Errorf("look for the workload: %w", err)
	}
	if q.Process != "" {
		if d.Process, err = s.process(w.ID, q.Process); err != nil {
			return w, d, err
		}
	}
	return w, d, d.Check()
}

// process reads a process key, or finds the process that has a pid now.
func (s *Service) process(workload, text string) (event.Key, error) {
	var k event.Key
	if strings.Contains(text, "-") {
		if err := k.UnmarshalText([]byte(text)); err != nil || k.IsZero() {
			return k, fault.New(fault.Invalid, "process: want pid-start or a pid")
		}
		return k, nil
	}
	running, known := s.Tree(workload)
	for _, p := range running {
		if fmt.Sprint(p.Process.Key.PID) == text && p.Ended == nil {
			return p.Process.Key, nil
		}
	}
	if !known {
		return k, fault.New(fault.Unavailable, "the processes of that workload are not known yet").With("name it as pid-start, or wait a few seconds")
	}
	return k, fault.New(fault.NotFound, "no process %q of that workload runs", text[:min(len(text), 20)]).With("castellan workloads ID shows them, with their pid on the host")
}

// stopTask stops a whole task through ECS, which else would start its container
// anew; where that fails the engine of its host is asked.
func (s *Service) stopTask(ctx context.Context, r Response, w asset.Workload) (Response, error) {
	a := response.Answer{ID: r.Deed.ID, State: response.Done}
	err := error(fault.New(fault.Unsupported, "this server does not speak with ECS"))
	switch {
	case s.Tasks != nil && r.Deed.DryRun:
		err = s.wouldStop(ctx, w, &a)
	case s.Tasks != nil:
		s.mu.Lock()
		held := s.rates.Take(&r.Deed, w.Group, s.Clock())
		s.mu.Unlock()
		if held != nil {
			r.Answer = response.Answer{ID: r.Deed.ID, State: response.Refused, Error: held.Error(), Remedy: fault.Remedy(held)}
			return r, s.end(ctx, r, r.Deed.By)
		}
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		err = s.Tasks.Stop(within, w.ECS.Cluster, w.ECS.TaskARN, reasonOf(&r.Deed))
		cancel()
		a.Did = []string{"stopped task " + w.ECS.TaskARN + " through ECS"}
	}
	if err == nil {
		r.Answer = a
		return r, s.end(ctx, r, r.Deed.By)
	}
	if !slices.Contains(s.Directions.Listening(), w.AgentID) {
		r.Answer = response.Answer{ID: r.Deed.ID, State: response.Failed, Error: "ECS did not stop its task, and the agent of its host is not connected: " + err.Error(), Remedy: fault.Remedy(err)}
		return r, s.end(ctx, r, r.Deed.By)
	}
	lack := "its task is not stopped through ECS, which may start the container anew: "
	if fault.Is(err, fault.NotFound) {
		lack = "ECS has no such task that could be stopped: "
	}
	r.Answer.Lacks, r.Answer.Remedy = []string{lack + err.Error()}, fault.Remedy(err)
	s.mu.Lock()
	s.all[r.Deed.ID].Answer = r.Answer
	s.mu.Unlock()
	if err := s.save(ctx, r.Deed.ID); err != nil {
		s.Log.Error("that ECS did not stop a task is not kept", "deed", r.Deed.ID, "error", err) // its agent is asked even so
	}
	s.Directions.AskRespond(w.AgentID, r.Deed)
	return r, nil
}

// wouldStop says what stopping a task through ECS would come to. Its error is why it would
// come to nothing.
func (s *Service) wouldStop(ctx context.Context, w asset.Workload, a *response.Answer) error {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err := s.Tasks.Runs(within, w.ECS.Cluster, w.ECS.TaskARN)
	switch {
	case fault.Is(err, fault.Denied): // it may be permitted to stop what it may not look at
		a.Lacks, a.Remedy = []string{"whether the task goes on could not be looked at: " + err.Error()}, fault.Remedy(err)
	case err != nil:
		return err
	}
	a.Did = []string{"would stop task " + w.ECS.TaskARN + " through ECS"}
	a.Lacks = append(a.Lacks, "whether ECS permits that is known only when it is done: the server needs ecs:StopTask")
	return nil
}

// reasonOf is what ECS shows as why a task was stopped; it takes 255 bytes.
func reasonOf(d *response.Deed) string {
	const most = 255
	reason := strings.ToValidUTF8("Castellan, "+d.By+": "+d.Reason, "")
	return strings.ToValidUTF8(reason[:min(len(reason), most)], "")
}

// Responded is link.Responses: it takes what an agent says came of a deed.
func (s *Service) Responded(ctx context.Context, a link.Responded) error {
	if err := s.remember(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	k := s.all[a.ID]
	if k == nil || k.AgentID != a.AgentID || k.Answer.State.Ended() {
		s.mu.Unlock()
		return fault.New(fault.Conflict, "no deed with that id is this agent's, or it was answered")
	}
	r := k.Response
	s.mu.Unlock()
	a.Bound()
	if !a.State.Ended() {
		return fault.New(fault.Invalid, "an answer says how a deed ended")
	}
	a.Lacks = append(slices.Clone(r.Answer.Lacks), a.Lacks...)
	a.Remedy = cmp.Or(a.Remedy, r.Answer.Remedy)
	if a.Kept != nil {
		a.Kept.Sent = s.hasSnapshot(a.ID)
	}
	r.Answer = a.Answer
	return s.end(ctx, r, "agent:"+a.AgentID)
}

// end notes how a response ended, by whose word.
func (s *Service) end(ctx context.Context, r Response, by string) error {
	s.Directions.EndRespond(r.AgentID, r.Deed.ID)
	if r.Answer.Ended.IsZero() {
		r.Answer.Ended = s.Clock().UTC()
	}
	detail := strings.Join(append(slices.Clone(r.Answer.Did), r.Answer.Lacks...), "; ")
	if r.Answer.Error != "" {
		detail = strings.TrimPrefix(detail+"; "+r.Answer.Error, "; ")
	}
	if k := r.Answer.Kept; k != nil {
		detail += fmt.Sprintf("; kept in %s, %d bytes, %s", k.File, k.Size, k.Digest)
	}
	err := s.audit(ctx, by, "", r, string(r.Answer.State), detail)
	s.settled(context.WithoutCancel(ctx), r)
	s.tellOf(ctx, &r)
	if !respond.IsRule(r.Deed.By) && !r.Deed.DryRun {
		s.note(ctx, 0, r.Deed.Workload, r.Deed.By, string(r.Deed.Kind)+", "+string(r.Answer.State)+": "+detail)
	}
	changed := []string{r.Deed.ID}
	s.mu.Lock()
	k := s.all[r.Deed.ID]
	if k != nil && !k.Answer.State.Ended() {
		k.Response = r
	}
	if r.Answer.State == response.Done && !r.Deed.DryRun {
		changed = append(changed, s.undone(&r.Deed)...)
	}
	s.mu.Unlock()
	err = errors.Join(err, s.save(ctx, changed...))
	if k != nil {
		k.end() // last: whoever waits for it may look at what is stored
	}
	return err
}

// note has an incident tell what was done about it. That it can't takes nothing back.
func (s *Service) note(ctx context.Context, incident int64, workload, by, text string) {
	if s.Noted == nil {
		return
	}
	ctx, cancel := audit.Outlive(ctx)
	defer cancel()
	if err := s.Noted(ctx, incident, workload, by, text); err != nil {
		s.Log.Error("what was done is not noted in its incident", "incident", incident, "workload", workload, "by", by, "error", err)
	}
}

// undone marks what a deed takes back, and returns its ids; mu is held.
func (s *Service) undone(by *response.Deed) (changed []string) {
	for id, k := range s.all {
		if k.Deed.Workload == by.Workload && k.Deed.Kind.Undo() == by.Kind && k.step(respond.Undo) {
			changed = append(changed, id)
		}
	}
	return changed
}

// step has something happen to a response that has ended, and reports whether that
// changed anything; the service's mu is held.
func (k *kept) step(what respond.InputKind) (changed bool) {
	a := &k.Answer
	was := respond.Life{State: a.State, Kind: k.Deed.Kind, Dry: k.Deed.DryRun, Part: a.Holds() && a.State != response.Done}
	now, _ := respond.Step(was, respond.Input{What: what})
	a.State = now.State
	return now != was
}

// end lets go of who waits for the end of a response, once.
func (k *kept) end() { k.once.Do(func() { close(k.over) }) }

// Response returns one of those in memory, as it is now. It needs
// access.ReadResponse.
func (s *Service) Response(ctx context.Context, who access.Identity, id string) (Response, error) {
	if err := errors.Join(s.need(who), s.remember(ctx)); err != nil {
		return Response{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.all[id]
	if k == nil {
		return Response{}, fault.New(fault.NotFound, "no response has that id").With("the oldest are in the audit log alone: castellan audit --text ID")
	}
	return s.aged(k), nil
}

// Wait is Response once it has ended, or when ctx has.
func (s *Service) Wait(ctx context.Context, who access.Identity, id string) (Response, error) {
	s.mu.Lock()
	k := s.all[id]
	s.mu.Unlock()
	if k != nil {
		select {
		case <-k.over:
		case <-ctx.Done():
		}
	}
	return s.Response(ctx, who, id)
}

// Responses returns those in memory, the newest first, of a workload or, with "", of
// all: those that stand, and the newest of the others. It needs access.ReadResponse.
func (s *Service) Responses(ctx context.Context, who access.Identity, workload string) ([]Response, error) {
	if err := errors.Join(s.need(who), s.remember(ctx)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Response
	for _, id := range slices.Backward(s.order) {
		if k := s.all[id]; workload == "" || k.Deed.Workload == workload {
			out = append(out, s.aged(k))
		}
	}
	return out, nil
}

func (s *Service) need(who access.Identity) error {
	if who.May(access.ManageResponse) {
		return nil
	}
	return who.Need(access.ReadResponse)
}

// aged is a response, which has failed if nobody answered in time; mu is held.
func (s *Service) aged(k *kept) Response {
	if !k.Answer.State.Ended() && s.Clock().Sub(k.Deed.Asked) > answerIn {
		k.Answer.State, k.Answer.Error = response.Failed, "its agent has not answered: whether it was done is not known"
		k.Answer.Remedy = "look at the workload, and at the log of its host's agent"
		k.Answer.Ended = s.Clock().UTC()
		k.end()
		s.Directions.EndRespond(k.AgentID, k.Deed.ID)
	}
	return k.Response
}

// keep notes a response.
func (s *Service) keep(r Response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := 0
	for _, k := range s.all {
		if a := s.aged(k); !a.Answer.State.Ended() {
			open++
		}
	}
	if open >= maxOpen {
		return fault.New(fault.Exhausted, "%d responses have not ended, which is the most", open).With("wait until some have")
	}
	if len(s.order) >= maxKept+maxStanding {
		return fault.New(fault.Exhausted, "%d responses hold and none of them was undone, which is the most", maxStanding).With("undo some: castellan respond list --standing")
	}
	s.put(r)
	return nil
}

// put adds a response, the newest, in the place of the oldest that does not stand if
// there are many of them; mu is held.
func (s *Service) put(r Response) *kept {
	if len(s.order) >= maxKept {
		if i := slices.IndexFunc(s.order, func(id string) bool { return !s.all[id].Standing() }); i >= 0 {
			delete(s.all, s.order[i])
			s.order = slices.Delete(s.order, i, i+1)
		}
	}
	k := &kept{Response: r, over: make(chan struct{})}
	s.all[r.Deed.ID] = k
	s.order = append(s.order, r.Deed.ID)
	return k
}

func (s *Service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
	s.order = slices.DeleteFunc(s.order, func(o string) bool { return o == id })
}

func (s *Service) audit(ctx context.Context, actor, address string, r Response, outcome, detail string) error {
	action := "respond." + string(r.Deed.Kind)
	if r.Deed.DryRun {
		action += ".dry-run"
	}
	if !r.Deed.Process.IsZero() {
		detail = fmt.Sprintf("process %s: %s", r.Deed.Process, detail)
	}
	return s.log().Add(ctx, access.Identity{Actor: actor, Address: address}, action, "workload:"+r.Deed.Workload, outcome,
		fmt.Sprintf("%s (%s, deed %s)", detail, r.Group, r.Deed.ID))
}

// log is the audit log.
func (s *Service) log() audit.Log { return audit.Log{Store: s.Store, Clock: s.Clock} }
