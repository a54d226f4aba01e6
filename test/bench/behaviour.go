package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/profile"
	behaviour "github.com/castellan-security/castellan/internal/watch"
)

// behaviourRounds bounds the rounds of this section: each has all kinds of work three
// times, and two starts of an agent.
const behaviourRounds = 7

// behaved is a container with a learned profile, and what watches it.
type behaved struct {
	o       options
	image   *image
	box     *contained
	engine  *standIn
	sink    *sink
	address string // of nginx
	port    int    // that storms connect to
	rules   link.BriefRules
}

// benchBehaviour measures an agent that learns a container's behaviour, and one
// whose kernel holds it to that.
func benchBehaviour(ctx context.Context, o options) (rows []row, err error) {
	o.rounds = min(o.rounds, behaviourRounds)
	b := &behaved{o: o}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(); err != nil {
		return nil, err
	}
	if err := b.learn(ctx); err != nil {
		return nil, fmt.Errorf("learn what the container does: %w", err)
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]row, error)
	}{{"pairs", b.pairs}, {"known", b.known}, {"path", b.path}, {"town", b.town}} {
		if o.part != "" && o.part != part.name {
			continue
		}
		more, err := part.run(ctx)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (b *behaved) open() (err error) {
	if b.image, err = openImage(b.o); err != nil {
		return err
	}
	if b.engine, err = openStandIn(b.o); err != nil {
		return err
	}
	b.o.engine = b.engine.socket
	if b.sink, err = openSink(b.o); err != nil {
		return err
	}
	if b.box, err = b.image.container(0, "box"); err != nil {
		return err
	}
	b.engine.runs(b.box)
	if b.address, err = freeAddress(); err != nil {
		return err
	}
	to, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	if b.port, err = strconv.Atoi(port); err != nil {
		return err
	}
	conf := filepath.Join(b.box.root, insideNginx, "nginx.conf")
	return os.WriteFile(conf, []byte(nginxConf(insideNginx, b.address)), 0o644)
}

func (b *behaved) close() error {
	var errs []error
	if b.box != nil {
		errs = append(errs, b.box.close())
	}
	if b.engine != nil {
		errs = append(errs, b.engine.close())
	}
	if b.sink != nil {
		errs = append(errs, b.sink.close())
	}
	if b.image != nil {
		errs = append(errs, b.image.close())
	}
	return errors.Join(errs...)
}

// deeds are what the container does, with the aims of their ratios.
var deeds = []struct {
	what string
	job  job // none: nginx answers
	aim  string
}{
	{"nginx under wrk", job{}, "≥ 0.98"},
	{"opens for reading on all cores", job{what: workRead}, "≥ 0.97"},
	{"execs of /bin/true on all cores", job{what: workExec, program: "/bin/true"}, "≥ 0.95"},
	{"opens for writing of 1,000 files", job{what: workWrite}, ""},
	{"connections made and closed", job{what: workConnect}, ""},
}

// did is how much was done a second, and the processor time of each piece in
// nanoseconds, of the container alone.
type did struct{ perSecond, cpuEach float64 }

// do does the nth deed.
func (b *behaved) do(ctx context.Context, n int) (did, error) {
	j := deeds[n].job
	if j.what == "" {
		return b.serve(ctx)
	}
	if j.what == workConnect {
		j.port = b.port
	}
	s, err := b.box.storm(b.o, j)
	return did{s.perSecond, s.cpuEach()}, err
}

// serve has nginx answer for a span.
func (b *behaved) serve(ctx context.Context) (did, error) {
	before, err := b.box.cpu()
	if err != nil {
		return did{}, err
	}
	begin := time.Now()
	perSecond, err := requests(ctx, b.o, b.address)
	if err != nil {
		return did{}, err
	}
	took := time.Since(begin)
	after, err := b.box.cpu()
	return did{perSecond, float64(after-before) / (perSecond * took.Seconds())}, err
}

func (b *behaved) all(ctx context.Context) (out []did, err error) {
	for n := range deeds {
		d, err := b.do(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", deeds[n].what, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (b *behaved) group() asset.Group {
	return asset.Group(townCluster + "/" + townFamily + "/" + b.box.group)
}

// settling is how long an agent may take to tell what it has sensed.
const settling = time.Second

// learn makes the rules of what the container does.
func (b *behaved) learn(ctx context.Context) (err error) {
	events, err := b.sensed(ctx, func() error {
		if err := b.box.boot(ctx); err != nil {
			return err
		}
		if _, err := b.box.obey(order{Args: []string{"/usr/sbin/nginx", "-p", insideNginx, "-c", filepath.Join(insideNginx, "nginx.conf")}, Stay: true}); err != nil {
			return err
		}
		if err := poll(ctx, func() bool { return answers(b.address) }); err != nil {
			return fmt.Errorf("nginx does not answer: %w", err)
		}
		_, err := b.all(ctx)
		return err
	})
	if err != nil {
		return err
	}
	b.rules, err = rulesOf(learned(events, b.box.id, b.group()), "1")
	return err
}

// sensed does something under an agent that only watches, and returns what it saw.
func (b *behaved) sensed(ctx context.Context, do func() error) (events []event.Event, err error) {
	b.sink.hold()
	w, err := watch(ctx, b.o, b.sink)
	if err != nil {
		return nil, err
	}
	b.sink.keeping(true)
	defer b.sink.keeping(false)
	if err = do(); err == nil {
		err = rest(ctx, settling)
	}
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	return b.sink.take(), nil
}

// learned is the profile of a container, of what an agent told.
func learned(events []event.Event, id string, g asset.Group) *profile.Profile {
	l := behaviour.NewLearner(g)
	w := asset.Workload{ID: id, Group: g, Image: asset.Image{Reference: "bench:1", ID: standInImage}}
	for i := range events {
		e := &events[i]
		if e.WorkloadID != id {
			continue
		}
		if c := e.Connection; c != nil && c.Remote.Addr().IsLoopback() {
			c.Peer.Kind = event.PeerSelf // as a server would say
		}
		l.Take(e, &w)
	}
	p := l.Profile()
	p.Group, p.Revision = g, 1
	// The rest of the limits are files of cgroups, which cost the container nothing.
	p.Limits = profile.Limits{NewConnections: 1 << 20}
	return p
}

// rulesOf are the rules by which a host protects a group.
func rulesOf(p *profile.Profile, stamp string) (link.BriefRules, error) {
	r, _, err := behaviour.Compile(p, behaviour.CompileOptions{Mode: profile.Protect})
	if err != nil {
		return link.BriefRules{}, err
	}
	packed, err := link.PackRules(&r)
	return link.BriefRules{Group: p.Group, Stamp: stamp, Mode: profile.Protect, Packed: packed}, err
}

// under does something while an agent holds the container to its rules, or only
// learns from it.
func (b *behaved) under(ctx context.Context, protect bool, do func(*watcher) error) (err error) {
	b.sink.hold()
	if protect {
		b.sink.hold(b.rules)
	}
	w, err := watch(ctx, b.o, b.sink)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := poll(ctx, func() bool { return b.box.isHeld(ctx) == protect }); err != nil {
		return fmt.Errorf("container is not held as it should be (%+v): %w\n%s", b.sink.heldNow(), err, w.log.String())
	}
	return do(w)
}

// sides are the figures of one kind of work: each round's ratios of what was done a
// second and of the processor time of each, and the absolute ones without an agent.
type sides struct{ done, cpu, off []float64 }

func (s *sides) add(off, on did) {
	s.done = append(s.done, on.perSecond/off.perSecond)
	s.cpu = append(s.cpu, off.cpuEach/on.cpuEach)
	s.off = append(s.off, off.perSecond)
}

// pairs does each kind of work without an agent, with one that learns, with one that
// holds, and with empty programs, in turn, and every second round the other way round.
func (b *behaved) pairs(ctx context.Context) (rows []row, err error) {
	o := b.o
	b.o.span = max(o.span/3, time.Second)
	defer func() { b.o = o }()
	learns, holds, floors := make([]sides, len(deeds)), make([]sides, len(deeds)), make([]sides, len(deeds))
	var costs []cost
	var lost uint64
	for round := range b.o.rounds {
		var off, learning, holding, empty []did
		turns := []func() error{
			func() (err error) { off, err = b.all(ctx); return err },
			func() error {
				return b.under(ctx, false, func(*watcher) (err error) { learning, err = b.all(ctx); return err })
			},
			func() error {
				return b.under(ctx, true, func(w *watcher) error {
					c, n, err := b.costing(ctx, w, func() (err error) { holding, err = b.all(ctx); return err })
					costs, lost = append(costs, c), lost+n
					return err
				})
			},
			func() error {
				return emptily(func() (err error) { empty, err = b.all(ctx); return err })
			},
		}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			if err := turn(); err != nil {
				return nil, err
			}
		}
		for n := range deeds {
			learns[n].add(off[n], learning[n])
			holds[n].add(off[n], holding[n])
			floors[n].add(off[n], empty[n])
		}
	}
	for n, d := range deeds {
		rows = append(rows,
			row{d.what + ", protected: on ÷ off", spread(holds[n].done), d.aim},
			row{"  the same by processor time of the container", spread(holds[n].cpu), ""},
			row{"  with empty programs at both ends of system calls", spread(floors[n].done), ""},
			row{"  the same by processor time of the container", spread(floors[n].cpu), ""},
			row{"  while it is learned", spread(learns[n].done), ""},
			row{"  the same by processor time of the container", spread(learns[n].cpu), ""},
			row{"  a second without the agent", fmt.Sprintf("%.0f", median(holds[n].off)), ""})
	}
	of := b.o
	of.span *= time.Duration(len(deeds))
	return append(rows, agentRows(of, costs, lost, "")...), nil
}

// costing does something and returns what it cost the agent, and what it lost.
func (b *behaved) costing(ctx context.Context, w *watcher, do func() error) (c cost, lost uint64, err error) {
	before, err := costOf(w.cmd.Process.Pid)
	if err != nil {
		return c, 0, err
	}
	if err := do(); err != nil {
		return c, 0, err
	}
	after, err := costOf(w.cmd.Process.Pid)
	if err != nil {
		return c, 0, err
	}
	a, err := b.sink.heard(ctx)
	return cost{cpu: after.cpu - before.cpu, peak: after.peak}, a.Lost(), err
}
