// Package respond does deeds about threats on the host of a container: it kills
// processes, cuts networks, stops containers and takes snapshots, within limits,
// and says what came of it.
//
// The answer to a deed never says more than was done: what this kernel or engine
// cannot do is told, with what helps. A deed with a process names it by pid and
// start, so that nobody else who got the pid is hit. It is not for deciding that
// something is a threat, nor for asking: see internal/server/respond and
// cmd/castellan.
package respond

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
)

// Processes ends processes of containers.
type Processes interface {
	// Kill ends a process if it is still the one that key names and in the container,
	// and returns its name. NotFound when it has ended, Denied when it is another's.
	Kill(ctx context.Context, container string, key event.Key, dry bool) (name string, err error)
	// KillAll ends all processes of a container and returns how many there were.
	// Unless dry it returns when none is left. NotFound for a container that doesn't run.
	KillAll(ctx context.Context, container string, dry bool) (int, error)
	// SendsRaw reports whether a process of the container may send frames past what
	// cuts its network.
	SendsRaw(ctx context.Context, container string) (bool, error)
}

// Freezer stops processes where they are.
type Freezer interface {
	// Freeze returns when all processes of the container stand still, with how many
	// they are. Unsupported where the kernel has no means.
	Freeze(ctx context.Context, container string, dry bool) (int, error)
	// Thaw lets them go on. It is no error if they do already.
	Thaw(ctx context.Context, container string) error
	// Frozen reports whether they are to stand still. NotFound when it does not run.
	Frozen(container string) (bool, error)
	// AllFrozen returns the containers of which that is so, whoever did it.
	AllFrozen(ctx context.Context) ([]string, error)
}

// Cgroups knows where containers are in the kernel's tree of them.
type Cgroups interface {
	// Unified returns the container's folder in the unified hierarchy of cgroups:
	// Unsupported when it is in version 1 alone, NotFound when it does not run.
	Unified(container string) (string, error)
}

// Network cuts containers off.
type Network interface {
	// Cut has every packet to and from the sockets of a cgroup dropped from now on,
	// and new connections refused, whether or not this program runs. It is no error if
	// that is so already. With dry it only tries whether the kernel would have it.
	Cut(container, cgroup string, dry bool) error
	// Restore takes Cut back. It is no error if nothing was cut.
	Restore(container string) error
	// Cuts returns the containers that are cut off, whoever did it, those included that
	// are gone since.
	Cuts() ([]string, error)
}

// Engine stops containers.
type Engine interface {
	// Stop returns when the container does not run any more; with dry it only asks
	// whether there is one. NotFound when there is none.
	Stop(ctx context.Context, container string, dry bool) error
	// Paused reports whether the engine itself has a container stand still (docker
	// pause). NotFound when there is none.
	Paused(ctx context.Context, container string) (bool, error)
}

// Camera takes snapshots.
type Camera interface {
	// Snapshot writes what a container is and does into an archive. lacks says what
	// is missing in it.
	Snapshot(ctx context.Context, d response.Deed, w asset.Workload) (kept response.Kept, lacks []string, err error)
}

// Options are what a Responder is made of.
type Options struct {
	Processes Processes
	Freezer   Freezer
	Cgroups   Cgroups
	Network   Network
	Engine    Engine
	Camera    Camera // nil: no snapshots are taken here
	// Own is the container that this program runs in; empty for none.
	Own string
	// File keeps what is quarantined, so that it stays so when a container starts
	// anew; empty: only until then.
	File  string
	Clock func() time.Time
	Log   *slog.Logger
}

// Responder does deeds on one host, one at a time, snapshots beside the others. It is safe for concurrent use.
type Responder struct {
	o Options

	doing    sync.Mutex // held while something is done
	shooting sync.Mutex // held while a snapshot is taken

	mu    sync.Mutex
	rates Rates
	known map[string]response.Answer // by id of the deed
	order []string                   // of known, the oldest first

	held  map[string]Held      // by container; under doing
	asked map[string]time.Time // when the engine was asked whether a container of held is there still; under doing
	// problems say of a container of held why it is not as it should be; under doing.
	problems map[string]string
	adopted  bool // what is cut off was looked for; under doing
	// suspects were found frozen at the start and are not held: by the engine, or by an
	// agent that has lost what it wrote down; under doing.
	suspects []string

	// standing is what is held, as it was last looked at; nil before Adopt.
	standing atomic.Pointer[asset.Quarantine]
}

// maxKnown bounds the answers that are kept so that a deed that is asked for twice is
// done once.
const maxKnown = 1_000

// New returns a responder, which takes up what Options.File says is quarantined.
func New(o Options) (*Responder, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	r := &Responder{o: o, known: map[string]response.Answer{}, asked: map[string]time.Time{}, problems: map[string]string{}}
	var err error
	r.held, err = readHeld(o.File)
	return r, err
}

// Do does a deed to a workload and says what came of it. A deed with an id that was
// done before is not done again: the answer is the former one.
func (r *Responder) Do(ctx context.Context, d response.Deed, w asset.Workload) response.Answer {
	unlock, err := r.turn(d.Kind)
	defer unlock()
	if a, ok := r.knownAnswer(d.ID); ok {
		return a
	}
	a := response.Answer{ID: d.ID}
	life := Life{State: response.Asked, Kind: d.Kind, Dry: d.DryRun}
	if err == nil {
		err = r.refusal(&d, w)
	}
	life, next := Step(life, Input{What: Begin, Err: err})
	for len(next) > 0 && next[0] == Act {
		err = r.act(ctx, &d, w, &a)
		life, next = Step(life, Input{What: End, Err: err})
	}
	a.State, a.Ended = life.State, r.o.Clock().UTC()
	if err != nil {
		a.Error, a.Remedy = err.Error(), fault.Remedy(err)
	}
	a.Bound()
	r.remember(a)
	if d.Kind != response.Snapshot { // which holds another lock, and changes nothing
		r.publish()
	}
	r.o.Log.Info("response", "deed", d.Kind, "id", d.ID, "container", asset.ShortID(d.Workload), "by", d.By, "dry_run", d.DryRun,
		"state", a.State, "error", a.Error)
	return a
}

// turn waits until a deed of a kind may be done. A snapshot takes its time and
// changes nothing: others are done meanwhile.
func (r *Responder) turn(k response.Kind) (unlock func(), err error) {
	if k != response.Snapshot {
		return r.lock()
	}
	r.shooting.Lock()
	return r.shooting.Unlock, nil
}

// refusal says why a deed is not even begun.
func (r *Responder) refusal(d *response.Deed, w asset.Workload) error {
	if err := d.Check(); err != nil {
		return err
	}
	if _, held := r.held[d.Workload]; w.ID != d.Workload && !(held && d.Kind == response.Release) { // one that is gone, too, is let go
		return fault.New(fault.NotFound, "there is no container %s on this host", asset.ShortID(d.Workload))
	}
	now := r.o.Clock()
	if now.After(d.Until) {
		return fault.New(fault.Conflict, "its time was over before it could begin").With("ask again, if it is still wanted")
	}
	if why := Untouchable(w, r.o.Own); why != "" && d.Kind != response.Snapshot && d.Kind != response.Release {
		return fault.New(fault.Denied, "nothing is done to container %s: %s", asset.ShortID(w.ID), why)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rates.Take(d, w.Group, now)
}

// act does a deed.
func (r *Responder) act(ctx context.Context, d *response.Deed, w asset.Workload, a *response.Answer) error {
	switch d.Kind {
	case response.Kill:
		return r.kill(ctx, d, a)
	case response.Quarantine:
		return r.quarantine(ctx, d, w, a)
	case response.Release:
		return r.release(ctx, d, a)
	case response.Stop:
		return r.stop(ctx, d, a)
	case response.Snapshot:
		return r.snapshot(ctx, d, w, a)
	}
	return fault.New(fault.Unsupported, "%s is done by a server, through AWS, and not on a host", d.Kind).With("ask without --host")
}

func (r *Responder) kill(ctx context.Context, d *response.Deed, a *response.Answer) error {
	if !d.Process.IsZero() {
		name, err := r.o.Processes.Kill(ctx, d.Workload, d.Process, d.DryRun)
		if err != nil {
			return err
		}
		a.Did = append(a.Did, fmt.Sprintf("%s process %d (%s)", did(d, "killed", "would kill"), d.Process.PID, name))
		return nil
	}
	n, err := r.o.Processes.KillAll(ctx, d.Workload, d.DryRun)
	if err != nil {
		return err
	}
	a.Did = append(a.Did, fmt.Sprintf("%s all of the container: %s", did(d, "killed", "would kill"), processes(n)))
	return nil
}

// quarantine freezes first, so that nobody acts on being cut off. A half that
// does not work does not take the other back: half a quarantine is better than none,
// and the answer says so. It is written down before anything is done: an agent that is
// killed meanwhile knows at its next start what it was about to hold.
func (r *Responder) quarantine(ctx context.Context, d *response.Deed, w asset.Workload, a *response.Answer) error {
	if d.DryRun {
		return r.enforce(ctx, d.Workload, d.Freeze, true, a)
	}
	before, was := r.held[w.ID]
	h := Held{Freeze: d.Freeze, Group: w.Group, By: d.By, Reason: d.Reason, At: r.o.Clock().UTC(), Deed: d.ID}
	if was && IsRule(d.By) && !IsRule(before.By) {
		h = before // it stays a person's, and ends when a person says
		h.Freeze, h.Found = before.Freeze || d.Freeze, false
	}
	r.held[w.ID] = h
	unkept := writeHeld(r.o.File, r.held) // it is done even so: a full disk must not keep anybody from it
	err := r.enforce(ctx, d.Workload, d.Freeze, false, a)
	if len(a.Did) == 0 {
		delete(r.held, w.ID)
		if was {
			r.held[w.ID] = before
		}
		return errors.Join(err, writeHeld(r.o.File, r.held))
	}
	a.Undo = response.Release
	if r.o.File == "" {
		a.Lacks = append(a.Lacks, "it ends when the container starts anew: this agent has no data folder")
	}
	return errors.Join(err, unkept)
}

// enforce puts a container into quarantine.
func (r *Responder) enforce(ctx context.Context, id string, freeze, dry bool, a *response.Answer) error {
	word := &response.Deed{DryRun: dry}
	var errs []error
	if freeze {
		n, err := r.o.Freezer.Freeze(ctx, id, dry)
		if err == nil {
			a.Did = append(a.Did, fmt.Sprintf("%s %s of the container", did(word, "froze", "would freeze"), processes(n)))
		}
		errs = append(errs, err)
	}
	dir, err := r.o.Cgroups.Unified(id)
	if err == nil {
		err = r.o.Network.Cut(id, dir, dry)
	}
	if err == nil {
		a.Did = append(a.Did, did(word, "cut", "would cut")+" its whole network: open connections, new ones, DNS, loopback")
		if !freeze {
			a.Lacks = append(a.Lacks, r.past(ctx, id)...)
		}
	}
	return errors.Join(append(errs, err)...)
}

// past says what a cut network does not hold back.
func (r *Responder) past(ctx context.Context, id string) []string {
	raw, err := r.o.Processes.SendsRaw(ctx, id)
	switch {
	case err != nil:
		return []string{"whether it can send raw frames past that is not known: " + err.Error()}
	case raw:
		return []string{"a process of it has CAP_NET_RAW and could send raw frames (AF_PACKET) past that: freeze it, or stop it, to be sure"}
	}
	return nil
}

func (r *Responder) release(ctx context.Context, d *response.Deed, a *response.Answer) error {
	held, was := r.held[d.Workload]
	if was && IsRule(d.By) && !IsRule(held.By) {
		return fault.New(fault.Denied, "%s has quarantined it, which no rule takes back", held.By).With("castellan respond release does, when a person says so")
	}
	if d.DryRun {
		a.Did = append(a.Did, "would give the container its network back and let its processes go on")
		if !was {
			a.Lacks = append(a.Lacks, "nobody has quarantined it from here")
		}
		return nil
	}
	errs := []error{r.o.Network.Restore(d.Workload)}
	if err := r.o.Freezer.Thaw(ctx, d.Workload); err != nil && !(fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported)) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.Did = append(a.Did, "the container has its network back, and its processes go on")
	if !was {
		a.Lacks = append(a.Lacks, "nobody had quarantined it from here")
		return nil
	}
	a.Did = append(a.Did, fmt.Sprintf("undid the quarantine by %s of %s", cmp.Or(held.By, "nobody known"), held.At.Format(time.RFC3339)))
	delete(r.held, d.Workload)
	r.undone(held.Deed)
	return writeHeld(r.o.File, r.held)
}

// stop stops a container. One that is frozen gets no chance to end by itself, nor does
// the engine: what it began there (docker exec, a health check) stands still, too, and
// it waits for that before it stops anything.
func (r *Responder) stop(ctx context.Context, d *response.Deed, a *response.Answer) error {
	if r.held[d.Workload].Freeze && !d.DryRun {
		n, err := r.o.Processes.KillAll(ctx, d.Workload, false)
		switch {
		case err == nil:
			a.Did = append(a.Did, fmt.Sprintf("killed %s of the container, which was frozen", processes(n)))
		case !fault.Is(err, fault.NotFound): // one that does not run may still be about to start
			a.Lacks = append(a.Lacks, "its frozen processes were not killed before: "+err.Error())
		}
	}
	if err := r.o.Engine.Stop(ctx, d.Workload, d.DryRun); err != nil {
		return err
	}
	a.Did = append(a.Did, did(d, "stopped", "would stop")+" the container through its engine")
	return nil
}

func (r *Responder) snapshot(ctx context.Context, d *response.Deed, w asset.Workload, a *response.Answer) error {
	if r.o.Camera == nil {
		return fault.New(fault.Unsupported, "no snapshots are taken here: the agent has no data folder").With("say --data-dir")
	}
	if d.DryRun {
		a.Did = append(a.Did, "would take a snapshot of the container")
		return nil
	}
	kept, lacks, err := r.o.Camera.Snapshot(ctx, *d, w)
	a.Lacks = append(a.Lacks, lacks...)
	if err != nil {
		return err
	}
	a.Kept = &kept
	a.Did = append(a.Did, "took a snapshot of the container")
	return nil
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

func did(d *response.Deed, done, would string) string {
	if d.DryRun {
		return would
	}
	return done
}

func (r *Responder) knownAnswer(id string) (response.Answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.known[id]
	return a, ok
}

func (r *Responder) remember(a response.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == maxKnown {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.known[a.ID] = a
	r.order = append(r.order, a.ID)
}
