package lambda

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// maxReason bounds the reason with which a task is stopped: ECS takes 255
	// characters.
	maxReason = 255
	// stopsOfGroup bounds the tasks of one service that are stopped in stopsWithin,
	// stopsInAll those of all: a service starts its tasks anew, and one that is
	// refused would otherwise be started and stopped without end at its full pace.
	// What exceeds it is stopped later: Lambda asks again after a minute and after two
	// more.
	stopsOfGroup = 5
	stopsInAll   = 50
	stopsWithin  = time.Minute
	// rememberedStops bounds the tasks that are known to have been stopped.
	rememberedStops = 2000
	// finalAge is how old an event is when Lambda will hardly ask again: it asks
	// twice more, after a minute and after two.
	finalAge = 150 * time.Second
)

// TaskAnswer is what came of a change of a task's state. Nobody but the log reads
// it.
type TaskAnswer struct {
	Task   string `json:"task"`
	Action string `json:"action"` // stopped, refused, spared, allowed, ignored, gone
	Reason string `json:"reason,omitempty"`
}

// What is done with a task.
const (
	taskStopped = "stopped"
	taskRefused = "refused" // and not stopped, since nobody has said that tasks are to be
	taskSpared  = "spared"
	taskAllowed = "allowed"
	taskIgnored = "ignored" // it is ending
	taskGone    = "gone"
)

// task reacts to a change of a task's state. The event is taken as a hint alone:
// the task is asked for, and what is then there is judged. An error has Lambda ask
// again, twice, and then goes to the queue of what failed.
func (h *Handler) task(ctx context.Context, in Invocation, t *TaskChange) ([]byte, error) {
	answer := func(action, reason string, j *judgement) ([]byte, error) {
		h.tell(in, admission.EventBridge, t.At.TaskARN, action, j)
		return json.Marshal(TaskAnswer{Task: t.At.TaskARN, Action: action, Reason: reason})
	}
	allowed := judgement{outcome: admission.Allow}
	if t.Desired != "RUNNING" {
		return answer(taskIgnored, "", &allowed)
	}
	if h.stops.done(t.At.TaskARN) {
		return answer(taskIgnored, "it was stopped before", &allowed)
	}
	base := admission.Request{ID: firstOf(t.ID, in.ID), Door: admission.EventBridge, Action: admission.Run, At: time.Now().UTC(),
		Place: admission.Place{Account: t.At.Account, Region: t.At.Region, Cluster: t.At.Cluster}, Task: admission.Task{ARN: t.At.TaskARN}}
	d, group, err := h.Tasks.Task(ctx, t.Cluster, t.At.TaskARN)
	if fault.Is(err, fault.NotFound) {
		return answer(taskGone, "", &allowed)
	}
	if service, ok := strings.CutPrefix(group, "service:"); ok {
		base.Place.Service = service
	}
	last := !h.again(t)
	j := h.judge(ctx, base, func(context.Context) (admission.Document, error) { return d, err }, last)
	switch {
	case j.outcome == admission.Allow:
		return answer(taskAllowed, "", &j)
	case j.outcome == admission.Wait:
		h.tell(in, admission.EventBridge, t.At.TaskARN, "asked again later", &j)
		return nil, fault.New(fault.Unavailable, "task %s is not judged yet", t.At.TaskARN).With("Lambda asks again")
	case h.undecided(&j) && h.OnError != DenyOnError && h.OnError != "":
		return answer(taskAllowed, "nobody could decide", &j)
	case h.spared(t.At.Cluster, group):
		return answer(taskSpared, "", &j)
	case h.Stopper == nil:
		return answer(taskRefused, "", &j)
	}
	if !h.stops.take(t.At.Cluster+"/"+group, time.Now()) {
		h.tell(in, admission.EventBridge, t.At.TaskARN, "stopped later", &j)
		return nil, fault.New(fault.Exhausted, "task %s is refused, and is not stopped yet: too many are", t.At.TaskARN).
			With("its service starts it anew each time: roll the service back, or set its desired count to 0")
	}
	reason := stopReason(&j)
	if err := h.Stopper.Stop(ctx, t.Cluster, t.At.TaskARN, reason); err != nil && !fault.Is(err, fault.NotFound) {
		h.tell(in, admission.EventBridge, t.At.TaskARN, "not stopped", &j)
		return nil, err
	}
	h.stops.remember(t.At.TaskARN)
	return answer(taskStopped, reason, &j)
}

// undecided says that the refusal is what somebody declared for errors, here or in
// the policy, or of something that could not be read.
func (h *Handler) undecided(j *judgement) bool {
	if j.declared || j.err != nil {
		return true
	}
	for i := range j.verdicts {
		if v := &j.verdicts[i]; !v.Allowed() && !v.Declared {
			return false
		}
	}
	return len(j.verdicts) > 0
}

// again says whether Lambda will ask again if it is told that this failed.
func (h *Handler) again(t *TaskChange) bool {
	at, err := time.Parse(time.RFC3339, t.Time)
	return err == nil && time.Since(at) < finalAge
}

// spared says whether somebody has put a task's service out of reach.
func (h *Handler) spared(cluster, group string) bool {
	_, name, _ := strings.Cut(group, ":")
	for _, pattern := range h.Spared {
		if ok, err := path.Match(pattern, cluster+"/"+name); ok && err == nil {
			return true
		}
	}
	return false
}

// stopReason is why a task is stopped, for its stopped reason in ECS.
func stopReason(j *judgement) string {
	text := "Castellan: "
	var all []string
	for _, r := range j.reasons() {
		if r.Effect == admission.Denies {
			all = append(all, shown(r.Rule)+": "+shown(r.Message))
		}
	}
	switch {
	case len(all) > 0:
		text += strings.Join(all, "; ")
	case j.err != nil:
		text += "could not decide: " + shown(j.err.Error())
	default:
		text += "the policy refuses it"
	}
	return clipped(text, maxReason)
}

// clipped is a text of at most n bytes, in which it is seen that something is left
// out.
func clipped(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "…"
	return untrusted.Clip(s, n-len(more)) + more
}

// stops are the tasks that were stopped by this instance of the function. With
// more instances than one there is as much of each.
type stops struct {
	mu     sync.Mutex
	groups map[string][]time.Time
	tasks  map[string]bool
	order  []string // of tasks, the oldest first
}

func newStops() *stops {
	return &stops{groups: map[string][]time.Time{}, tasks: map[string]bool{}}
}

// take says whether one more task of a group may be stopped now, and counts it.
func (s *stops) take(group string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for g, times := range s.groups {
		for len(times) > 0 && now.Sub(times[0]) >= stopsWithin {
			times = times[1:]
		}
		if s.groups[g] = times; len(times) == 0 {
			delete(s.groups, g)
		}
		all += len(times)
	}
	if len(s.groups[group]) >= stopsOfGroup || all >= stopsInAll {
		return false
	}
	s.groups[group] = append(s.groups[group], now)
	return true
}

func (s *stops) done(task string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[task]
}

func (s *stops) remember(task string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks[task] {
		return
	}
	if len(s.order) == rememberedStops {
		delete(s.tasks, s.order[0])
		s.order = s.order[1:]
	}
	s.tasks[task] = true
	s.order = append(s.order, task)
}
