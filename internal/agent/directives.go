package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/pace"
	"github.com/castellan-security/castellan/internal/response"
)

// Tuner works by what the server's operators decided. The sensors are it.
type Tuner interface {
	// Apply makes s hold from now on, instead of what held before; the zero
	// value is what the agent's own flags say. It never switches on what the
	// flags switch off. On an error what held before still holds.
	Apply(ctx context.Context, s asset.AgentSettings) error
}

const (
	// refusedPause is between tries of an agent that the server does not want:
	// it was revoked, and only a person changes that.
	refusedPause = time.Minute
	// steadyAfter a stream counts as having worked: what ended it then is new.
	steadyAfter = time.Minute
)

// pauses grow from firstPause to lastPause, each with up to half of it at
// random, so that a fleet does not come back as one. The zero value is ready;
// one goroutine uses it.
type pauses struct{ last time.Duration }

func (p *pauses) next() time.Duration {
	p.last = min(max(2*p.last, firstPause), lastPause)
	return jitter(p.last)
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// directives listens to what the server wants of this agent, and obeys.
type directives struct {
	server link.Server
	tuner  Tuner // nil: nothing here can be tuned
	wake   func()
	scan   func(w link.ScanWish, issued time.Time)
	verify func(w link.VerifyWish, issued time.Time)
	// respond takes what is to be done about a threat.
	respond func(d response.Deed, issued time.Time)
	// admission is told by what deployments are decided; nil: nothing is here.
	admission func(link.AdmissionWish)
	// behaviour is told by what containers are held; nil: none is here.
	behaviour func(link.BehaviourWish)
	// detect is told that rules of detection are others; nil: none are held here.
	detect func(link.DetectWish)
	log    *slog.Logger

	mu       sync.Mutex
	inForce  asset.AgentSettings
	answered string // ID of the last snapshot that was asked for
	snapshot bool   // everything is to be sent anew
}

func newDirectives(p Parts, wake func(), scan func(link.ScanWish, time.Time), log *slog.Logger) *directives {
	return &directives{server: p.Server, tuner: p.Tuner, wake: wake, scan: scan, log: log}
}

// run listens until ctx ends, connecting again whenever the stream is lost.
func (d *directives) run(ctx context.Context, who link.Caller) {
	var p pauses
	var said fault.Kind // of the error that was logged
	for {
		began := time.Now()
		err := d.server.Directives(ctx, who, func(w link.Directive) { d.obey(ctx, w) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steadyAfter {
			p, said = pauses{}, fault.Unknown
		}
		if kind := fault.Of(err); kind != said || kind == fault.Unknown {
			said = kind
			d.log.Warn("directives of the server not received", "error", err, "remedy", fault.Remedy(err))
		}
		pause := p.next()
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
			pause = jitter(refusedPause)
		}
		if !pace.Wait(ctx, pause) {
			return
		}
	}
}

func (d *directives) obey(ctx context.Context, w link.Directive) {
	switch {
	case w.Kind == link.DirectiveSettings && w.Settings != nil:
		d.tune(ctx, *w.Settings)
	case w.Kind == link.DirectiveSnapshot:
		d.mu.Lock()
		d.snapshot = d.snapshot || w.ID != d.answered
		d.answered = w.ID
		d.mu.Unlock()
		d.wake()
	case w.Kind == link.DirectiveScan && w.Scan != nil:
		d.scan(*w.Scan, w.Issued)
	case w.Kind == link.DirectiveVerify && w.Verify != nil:
		d.verify(*w.Verify, w.Issued)
	case w.Kind == link.DirectiveAdmission && w.Admission != nil:
		if d.admission != nil {
			d.admission(*w.Admission)
		}
	case w.Kind == link.DirectiveBehaviour && w.Behaviour != nil:
		if d.behaviour != nil {
			d.behaviour(*w.Behaviour)
		}
	case w.Kind == link.DirectiveDetect && w.Detect != nil:
		if d.detect != nil {
			d.detect(*w.Detect)
		}
	case w.Kind == link.DirectiveRespond && w.Respond != nil:
		d.respond(*w.Respond, w.Issued)
	default:
		d.log.Warn("directive not understood: the server is newer than this agent", "directive_kind", w.Kind)
	}
}

// tune applies settings unless they are in force: they come anew at each
// connection, and most often there are none.
func (d *directives) tune(ctx context.Context, s asset.AgentSettings) {
	d.mu.Lock()
	same := isSame(s, d.inForce)
	d.mu.Unlock()
	if same || d.tuner == nil {
		return
	}
	if err := d.tuner.Apply(ctx, s); err != nil {
		d.log.Error("settings of the server not applied", "error", err, "remedy", fault.Remedy(err))
		return
	}
	d.mu.Lock()
	d.inForce = s
	d.mu.Unlock()
	d.log.Info("settings of the server applied", "sensors_off", s.SensorsOff, "sensitive_paths", len(s.SensitivePaths), "window", s.Window)
	d.wake() // so that people see it
}

func isSame(a, b asset.AgentSettings) bool {
	return slices.Equal(a.SensorsOff, b.SensorsOff) && slices.Equal(a.SensitivePaths, b.SensitivePaths) && a.Window == b.Window
}

// settings returns those that the agent works by.
func (d *directives) settings() asset.AgentSettings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inForce
}

// takeSnapshot reports, once, that everything is to be sent anew.
func (d *directives) takeSnapshot() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.snapshot
	d.snapshot = false
	return asked
}
