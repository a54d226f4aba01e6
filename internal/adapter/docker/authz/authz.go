// Package authz is the door that a Docker engine asks before it does anything:
// an authorization plugin. The engine sends each call of its interface here first
// and does what it was asked only if the answer is yes.
//
// A call is one of a table of routes (route.go). What only reads, ends or removes
// passes at once. Everything that makes something run or changes what runs is read
// as the engine will read it, or refused where two readings are possible
// (strict.go); made a request in Castellan's words (create.go, task.go, inspect.go);
// and decided by the Decider. What starts is decided twice: when a container is
// made, by what is asked for, and when it starts, by what is really there.
// Anything that is in no table is refused.
//
// It is not for deciding, and not for changing what the engine does: it can only
// say yes or no. What an authorization plugin cannot see is told in
// docs/admission-docker.md.
package authz

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Decider decides on a request. An error says that it could not.
type Decider interface {
	Decide(ctx context.Context, r admission.Request) (admission.Verdict, error)
}

// Engine tells what the engine has. Answers are those of Docker's interface;
// errors are of kind NotFound when there is no such thing and of kind Invalid when
// there can be none of that name. It is asked while a call waits: it must not wait
// for calls that are decided.
type Engine interface {
	Container(ctx context.Context, name string) (json.RawMessage, error)
	// Containers lists all containers, running or not.
	Containers(ctx context.Context) (json.RawMessage, error)
	Exec(ctx context.Context, id string) (json.RawMessage, error)
	Image(ctx context.Context, name string) (json.RawMessage, error)
	Volume(ctx context.Context, name string) (json.RawMessage, error)
	Network(ctx context.Context, name string) (json.RawMessage, error)
	Info(ctx context.Context) (json.RawMessage, error)
}

// Bounds of what is done at once and for how long.
const (
	// DefaultLimit is how long a call may wait for its verdict: less than any
	// client waits (the ECS agent gives a start 3 minutes), more than a scan's facts
	// from a server need.
	DefaultLimit = 10 * time.Second
	// maxAtOnce is how many calls are decided at the same time; more wait for
	// their turn within their limit. A task of ECS starts ten containers at most.
	maxAtOnce = 64
	// maxReports is how many verdicts may wait to be reported; more are counted
	// and lost, because a report must never hold up a container.
	maxReports = 1024
)

// Options say how a plugin answers. The zero value denies what it cannot decide.
type Options struct {
	// Allow says whether the declared answer, where nobody could decide, is yes; nil:
	// it is no. What cannot be read is refused in any case: whoever asks chooses that.
	Allow func() bool
	// Limit is how long a call may wait for its verdict; zero: DefaultLimit.
	Limit time.Duration
	// Name is what the engine knows the plugin by: no plugin of the engine's own may
	// be called that, because the engine would ask that one.
	Name string
	// Host is the id of the agent, for the requests.
	Host string
	// Trusted are ids of images ("sha256:…") whose containers pass without being
	// decided as long as they ask for nothing of the host, such as the ECS agent's
	// pause container. An id is the content of an image: nothing else can have it.
	Trusted []string
	// AgentImages are ids of images of the ECS agent, whose container needs the
	// host's network, the engine's socket and more: it passes if it runs what its
	// image says, unprivileged.
	AgentImages []string
	// Judge has the scanner say what is wrong with the containers of a request
	// (Faults), which has all their variables, secrets too, and leave out what it
	// takes for secrets. Nil: it is not known what is wrong. Values that may be secrets
	// are left out in any case before a request goes on.
	Judge func(*admission.Request)
	// TrustTags says that a tag is believed where the engine can't tell from where an
	// image came: where containerd keeps the images, before API 1.53.
	TrustTags bool
	// Agents are subjects of client certificates that are the ECS agent's.
	Agents []string
	// Cluster tells to which cluster of ECS this host belongs, as it knows itself;
	// the zero value if it does not. It goes before what labels say, which anybody on
	// the engine's socket may set. Nil: nobody knows.
	Cluster func(ctx context.Context) admission.Place
	// Task tells of which task of ECS a container is, by its id or, before it has one,
	// by the name that it is to get. The zero value: it is not known; labels says
	// whether those of the container are believed then. Nil: they are.
	Task func(ctx context.Context, id, name string) (of asset.ECS, labels bool)
	// Starting is told of a container that passes and is about to start, while the
	// engine waits: by id, name and labels. It has what is left of the limit, and no say.
	// Nil: nobody wants to know.
	Starting func(ctx context.Context, id, name string, labels map[string]string)
	// Resolve tells where a path of the host leads when all symbolic links are
	// followed; nil where that cannot be known.
	Resolve func(path string) (string, error)
	// Report is told each verdict, one after the other, with its request; nil for
	// nobody. It may take its time.
	Report func(admission.Request, admission.Verdict)
}

// Plugin is an authorization plugin. Serve makes it answer.
type Plugin struct {
	decider Decider
	engine  Engine
	options Options
	log     *slog.Logger

	slots   chan struct{} // one is held by each call that is being decided
	reports chan report
	lost    losses
	names   names
	images  images
	usual   usual
	seen    seen
	table   []route
}

// report is a verdict that waits to be told.
type report struct {
	request admission.Request
	verdict admission.Verdict
}

// New returns a plugin that asks decider, and engine for what it has.
func New(decider Decider, engine Engine, o Options, log *slog.Logger) *Plugin {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	return &Plugin{
		decider: decider, engine: engine, options: o, log: log,
		slots:   make(chan struct{}, maxAtOnce),
		reports: make(chan report, maxReports),
		names:   names{held: map[string]hold{}},
		images:  images{byID: map[string]knownImage{}, byName: map[string]knownImage{}},
		table:   routes(),
		seen:    newSeen(),
	}
}

// allows is the declared answer.
func (p *Plugin) allows() bool { return p.options.Allow != nil && p.options.Allow() }

// tell reports verdicts until stop is closed, and then those that still wait.
func (p *Plugin) tell(stop <-chan struct{}) {
	for {
		select {
		case r := <-p.reports:
			p.report(r)
			continue
		case <-stop:
		}
		for {
			select {
			case r := <-p.reports:
				p.report(r)
			default:
				if n := p.lost.rest(); n > 0 {
					p.log.Warn("verdicts not reported: too many waited", "count", n)
				}
				return
			}
		}
	}
}

func (p *Plugin) report(r report) {
	if p.options.Report == nil {
		return
	}
	err := p.contained(func() error {
		p.options.Report(r.request, r.verdict)
		return nil
	})
	if err != nil {
		p.log.Error("verdict not reported", "request_id", r.request.ID, "error", err)
	}
}

// note gives a verdict to tell, or counts it as lost.
func (p *Plugin) note(r admission.Request, v admission.Verdict) {
	select {
	case p.reports <- report{r, v}:
	default:
		if n := p.lost.add(time.Now()); n > 0 {
			p.log.Warn("verdicts not reported: too many wait", "count", n)
		}
	}
}

// losses counts what is lost, for a log that is not to be flooded with it.
type losses struct {
	mu    sync.Mutex
	count int
	said  time.Time
}

// lossEvery is how often losses are said at most.
const lossEvery = time.Minute

// add counts one, and returns how many are to be said now, 0 for not yet.
func (l *losses) add(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if !l.said.IsZero() && now.Sub(l.said) < lossEvery {
		return 0
	}
	return l.take(now)
}

// rest returns how many have not been said.
func (l *losses) rest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(time.Time{})
}

func (l *losses) take(now time.Time) (n int) {
	n, l.count, l.said = l.count, 0, now
	return n
}

// refused is an error that names what is wrong with a call, and its remedy.
func refused(remedy, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).With(remedy)
}
