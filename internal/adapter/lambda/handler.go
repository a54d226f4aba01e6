package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// Tasks is what ECS tells of what shall run, or runs.
type Tasks interface {
	// Revision describes a service's revision: its service, with the task
	// definition.
	Revision(ctx context.Context, arn string) (admission.Document, error)
	// Definition describes a task definition, named by its ARN or as FAMILY:REVISION.
	Definition(ctx context.Context, name string) (admission.Document, error)
	// Task describes a task that is there, with what was overridden when it was
	// started, and says what started it: "service:web". One that has ended or is
	// ending is an error of the kind NotFound.
	Task(ctx context.Context, cluster, arn string) (d admission.Document, group string, err error)
}

// Stopper ends tasks.
type Stopper interface {
	Stop(ctx context.Context, cluster, task, reason string) error
}

// Roles finds out what a role permits.
type Roles interface {
	// Complete gives a role its policies. What cannot be read leaves it as it is,
	// which is not Known; an error is one that may pass.
	Complete(ctx context.Context, r *admission.Role) error
}

// Images finds out what a tag is.
type Images interface {
	// Digest returns the digest of an image, "" if whoever is asked does not know it;
	// an error is one that may pass.
	Digest(ctx context.Context, i admission.Image) (string, error)
}

// Decider decides.
type Decider interface {
	Decide(ctx context.Context, r *admission.Request) (admission.Verdict, error)
}

// OnError is the answer where nobody could decide. The zero value denies.
type OnError string

// The answers.
const (
	DenyOnError  OnError = "deny"
	AllowOnError OnError = "allow"
)

const (
	// DefaultWithin is how long a decision may take if nothing else is said:
	// CloudFormation waits 30 seconds for a hook, starting the function included.
	DefaultWithin = 20 * time.Second
	// DefaultAsks is how often ECS is told to ask again if nothing else is said: ten
	// minutes at its usual pace, in which images are scanned.
	DefaultAsks = 20
	// maxAsks bounds that: ECS gives up on a hook after a day.
	maxAsks = 2000
	// templateAsks is how often CloudFormation calls a hook at most.
	templateAsks = 3
	// maxRequests bounds the tasks and repositories of one invocation, maxRoles the
	// different roles of theirs that are read, and maxImages the tags that are looked
	// up: a stack has 500 resources at most, and those of one with as many tasks are
	// put into several.
	maxRequests = 100
	maxRoles    = 40
	maxImages   = 200

	leastDelay, usualDelay, mostDelay = 5 * time.Second, 30 * time.Second, 5 * time.Minute

	// askedDetail is where ECS keeps for us how often it was told to ask again.
	askedDetail = "castellanAsked"
)

// Handler answers invocations. Its fields are set before the first one.
type Handler struct {
	Tasks   Tasks
	Roles   Roles  // nil: what roles permit stays unknown
	Images  Images // nil: tags stay what they are
	Read    func(ctx context.Context, d admission.Document) ([]admission.Request, error)
	Decider Decider
	Objects Objects // where payloads of stacks and change sets are
	Log     *slog.Logger

	OnError OnError
	Within  time.Duration // for one invocation; 0: DefaultWithin
	Asks    int           // how often ECS is told to ask again; 0: DefaultAsks, less: never

	// Stopper ends tasks that are refused; nil: it is only told. Spared are the
	// patterns of cluster/service, or cluster/family of tasks without a service, that
	// are left alone.
	Stopper Stopper
	Spared  []string

	once  sync.Once
	stops *stops
}

// Handle answers one invocation. What is no payload that it knows is an error.
func (h *Handler) Handle(ctx context.Context, in Invocation) ([]byte, error) {
	within := h.Within
	if within <= 0 {
		within = DefaultWithin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	h.once.Do(func() { h.stops = newStops() })
	e, err := Read(in.Payload)
	if err != nil {
		return nil, err
	}
	switch {
	case e.Service != nil:
		if err := elsewhere(in, e.Service.At.Region, e.Service.At.Account); err != nil {
			return nil, err
		}
		return h.service(ctx, in, e.Service)
	case e.Template != nil:
		return h.template(ctx, in, e.Template)
	}
	if err := elsewhere(in, e.Task.At.Region, e.Task.At.Account); err != nil {
		return nil, err
	}
	return h.task(ctx, in, e.Task)
}

// elsewhere refuses what is of another account or region than the function: it
// asks its own, where names may mean something else.
func elsewhere(in Invocation, region, account string) error {
	part := strings.SplitN(in.Function, ":", 7)
	if len(part) < 6 || part[3] == region && part[4] == account {
		return nil
	}
	return fault.New(fault.Invalid, "asked about account %.20s in %.40s, and this function is of %.20s in %.40s", account, region, part[4], part[3]).
		With("deploy the function in each account and region that it is to guard")
}

// judgement is what came of one invocation's requests.
type judgement struct {
	outcome  admission.Outcome
	verdicts []admission.Verdict
	requests []admission.Request
	again    time.Duration
	// declared says that nobody decided, and err why; then outcome is what is
	// declared for that.
	declared bool
	err      error
}

// reasons are those of all verdicts, those that deny first.
func (j *judgement) reasons() []admission.Reason {
	var all []admission.Reason
	for _, deny := range []bool{true, false} {
		for i := range j.verdicts {
			for _, r := range j.verdicts[i].Reasons {
				if (r.Effect == admission.Denies) == deny {
					all = append(all, r)
				}
			}
		}
	}
	return all
}

// errTooMuch refuses what asks for more than is looked at: it is denied, whatever
// is declared for errors, since the asker could bring it about.
func errTooMuch(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).With("put it into several stacks")
}

// judge has a document judged: last says that the asker cannot be told to ask
// again.
func (h *Handler) judge(ctx context.Context, base admission.Request, describe func(context.Context) (admission.Document, error), last bool) judgement {
	j, err := h.decide(ctx, base, describe)
	switch {
	case err == nil && j.outcome != admission.Wait:
		return j
	case err == nil && !last:
		return j
	case err == nil:
		err = fault.New(fault.Unavailable, "what is to be known of it was not found out in time").
			With("is the scanner at work, and does it get the image?")
	case fault.Is(err, fault.Invalid):
		j.outcome, j.err = admission.Deny, err
		return j
	case !last && passing(err):
		j.outcome, j.err, j.again = admission.Wait, err, usualDelay
		return j
	}
	j.declared, j.err, j.outcome = true, err, admission.Deny
	if h.OnError == AllowOnError {
		j.outcome = admission.Allow
	}
	return j
}

// passing says that an error may be gone when asked again.
func passing(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Exhausted) || errors.Is(err, context.DeadlineExceeded)
}

// decide describes, completes and decides.
func (h *Handler) decide(ctx context.Context, base admission.Request, describe func(context.Context) (admission.Document, error)) (judgement, error) {
	var j judgement
	d, err := describe(ctx)
	if err != nil {
		return j, err
	}
	if d.Body == nil { // there is nothing in it that this is about
		j.outcome = admission.Allow
		return j, nil
	}
	j.requests, err = h.Read(ctx, d)
	if err != nil {
		return j, fmt.Errorf("read %s: %w", d.Name, err)
	}
	if len(j.requests) > maxRequests {
		return j, errTooMuch("%s has %d tasks and repositories, and at most %d are looked at", d.Name, len(j.requests), maxRequests)
	}
	for i := range j.requests {
		finish(&j.requests[i], &base, d.Digests, i)
	}
	if err := h.complete(ctx, j.requests); err != nil {
		return j, err
	}
	j.outcome = admission.Allow
	for i := range j.requests {
		v, err := h.Decider.Decide(ctx, &j.requests[i])
		if err != nil {
			return j, fmt.Errorf("decide on %s: %w", d.Name, err)
		}
		j.verdicts = append(j.verdicts, v)
		switch v.Outcome {
		case admission.Allow:
		case admission.Wait:
			j.again = max(j.again, v.Again)
			if j.outcome == admission.Allow {
				j.outcome = admission.Wait
			}
		default:
			j.outcome = admission.Deny
		}
	}
	return j, nil
}

// finish gives a request what its door knows.
func finish(r, base *admission.Request, digests map[string]string, nth int) {
	// What is asked again is another request: its facts may have changed.
	r.ID = fmt.Sprintf("%s.%s/%d", base.ID, strconv.FormatInt(base.At.UnixMilli(), 36), nth)
	r.Door, r.At, r.By = base.Door, base.At, base.By
	r.Action = base.Action
	if base.Door == admission.CloudFormation && r.Place.Service != "" {
		r.Action = admission.Run // tasks start with it
	}
	if r.Action == "" {
		r.Action = admission.Register
	}
	for _, p := range []struct {
		to   *string
		from string
	}{{&r.Place.Account, base.Place.Account}, {&r.Place.Region, base.Place.Region},
		{&r.Place.Cluster, base.Place.Cluster}, {&r.Place.Service, base.Place.Service}, {&r.Task.ARN, base.Task.ARN}} {
		if p.from != "" {
			*p.to = p.from
		}
	}
	r.Unknown = slices.DeleteFunc(r.Unknown, func(u string) bool { // the door knows
		return u == "place.cluster" && base.Place.Cluster != "" || u == "place.service" && base.Place.Service != ""
	})
	for i := range r.Task.Containers {
		c := &r.Task.Containers[i]
		if d := digests[c.Name]; d != "" && !c.Image.Pinned {
			c.Image.Digest = d
		}
	}
}

// complete finds out what roles permit and what tags are, once each.
func (h *Handler) complete(ctx context.Context, requests []admission.Request) error {
	roles, images := map[string]admission.Role{}, map[string]string{}
	for i := range requests {
		t := &requests[i].Task
		for k := range t.Roles {
			r := &t.Roles[k]
			if h.Roles == nil || r.Known || r.ARN == "" {
				continue
			}
			known, ok := roles[r.ARN]
			if !ok && len(roles) < maxRoles {
				known = *r
				if err := h.Roles.Complete(ctx, &known); err != nil {
					return err
				}
				roles[r.ARN], ok = known, true
			}
			if ok {
				r.Policies, r.Known, r.Bounded, r.Boundary = known.Policies, known.Known, known.Bounded, known.Boundary
			}
		}
		for k := range t.Containers {
			m := &t.Containers[k].Image
			if h.Images == nil || m.Digest != "" || m.Reference == "" {
				continue
			}
			digest, ok := images[m.Reference]
			if !ok && len(images) < maxImages {
				var err error
				if digest, err = h.Images.Digest(ctx, *m); err != nil {
					return err
				}
				images[m.Reference] = digest
			}
			m.Digest = digest
		}
	}
	return nil
}

// delay is when to ask again.
func (j *judgement) delay() time.Duration {
	if j.again <= 0 {
		return usualDelay
	}
	return min(max(j.again, leastDelay), mostDelay)
}

// tell logs what was answered and why: one line a request, and one where there is
// none.
func (h *Handler) tell(in Invocation, door admission.Door, what, answer string, j *judgement) {
	level := slog.LevelInfo
	if j.outcome != admission.Allow || j.declared {
		level = slog.LevelWarn
	}
	said := []any{"request_id", in.ID, "door", string(door), "what", shown(what), "outcome", string(j.outcome), "answer", answer}
	if j.err != nil {
		said = append(said, "error", shown(j.err.Error()), "remedy", fault.Remedy(j.err), "declared", j.declared)
	}
	h.Log.Log(context.Background(), level, "answered", said...)
	for i := range j.verdicts {
		v, r := &j.verdicts[i], &j.requests[i]
		reasons := v.Reasons[:min(len(v.Reasons), maxLogged)]
		var images []string
		for k := range r.Task.Containers {
			c := &r.Task.Containers[k]
			images = append(images, shown(c.Image.Reference)+" "+shown(c.Image.Digest))
		}
		h.Log.Log(context.Background(), level, "decided", "request_id", in.ID, "request", r.ID, "door", string(door),
			"outcome", string(v.Outcome), "declared", v.Declared, "policy", v.Policy, "account", r.Place.Account, "region", r.Place.Region,
			"cluster", shown(r.Place.Cluster), "service", shown(r.Place.Service), "family", shown(r.Task.Family), "revision", shown(r.Task.Revision),
			"images", images[:min(len(images), maxLogged)], "reasons", json.RawMessage(reasonLog(reasons)), "more_reasons", len(v.Reasons)-len(reasons))
	}
}

// maxLogged bounds the reasons and images of one line: one of CloudWatch has
// 256 KiB at most.
const maxLogged = 50

// reasonLog is reasons as a log has them.
func reasonLog(reasons []admission.Reason) []byte {
	short := make([]admission.Reason, len(reasons))
	for i, r := range reasons {
		r.Message, r.Remedy, r.Container, r.Image, r.Unknown = shown(r.Message), shown(r.Remedy), shown(r.Container), shown(r.Image), shown(r.Unknown)
		short[i] = r
	}
	b, err := json.Marshal(short)
	if err != nil {
		return []byte("null")
	}
	return b
}
