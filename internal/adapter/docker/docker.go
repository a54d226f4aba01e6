// Package docker is the door to the container engine of this host: it follows
// what containers there are and what becomes of them, from Docker 20.10 (API
// 1.41; older ones answer too) to today's.
//
// It subscribes to the engine's events before it lists containers, so nothing
// falls in between, and it records a container that is gone before it could be
// inspected from what the events said. Everything the engine passes on from
// whoever made a container (names, labels, settings) is untrusted: answers are
// bounded in size, text in length, lists in count; see limit.go.
//
// It also opens the images that the engine has, as streams of their layers: see
// OpenImage.
//
// It stops a container only when asked to (Stop), and never makes, starts or changes
// one. It never reads their environment variables, which is where secrets are; those
// of an image are part of it.
package docker

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/pace"
)

// Pauses between attempts to reach an engine: short at first, because an engine
// that is being upgraded is back in a second; bounded, because a container may
// start the moment it is back.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Options say which engine to follow.
type Options struct {
	// Host is where the engine listens: unix:///path or tcp://host:port. Empty
	// means DOCKER_HOST, and without that unix:///var/run/docker.sock. For tcp,
	// DOCKER_CERT_PATH and DOCKER_TLS_VERIFY mean what they mean to the docker
	// command.
	Host string
}

// Engine is one container engine. It holds no connection until Watch is called.
type Engine struct {
	host host
	log  *slog.Logger
	made func(asset.Workload) // nil: nobody wants to know
	look Onlooker             // nil: nobody looks on
}

// Onlooker is told, with a container's whole id, that Watch is about to ask the engine
// for it. What it returns is called with the answer as it came, or with nil if there is
// none. Several may be under way at the same time.
type Onlooker func(id string) func(answer json.RawMessage)

// Announce has made called with each container that the engine makes while Watch
// follows it, at the moment that its event is read: before it is looked into, so that
// all that is known are its id, its name and the task that its labels say. It must
// not wait, or events are lost; it may be called while see is. Call it before Watch.
func (e *Engine) Announce(made func(asset.Workload)) { e.made = made }

// Share has on look at what Watch reads of containers, so that it needs not ask for the
// same. Call it before Watch.
func (e *Engine) Share(on Onlooker) { e.look = on }

// New returns the engine that o names. It does not ask whether one runs there:
// an engine that is away is waited for by Watch. The error is of kind Invalid,
// for a host that cannot be one.
func New(o Options, log *slog.Logger) (*Engine, error) {
	h, err := parseHost(o.Host)
	if err != nil {
		return nil, err
	}
	return &Engine{host: h, log: log}, nil
}

// Watch follows the engine until ctx ends and returns ctx's error. Each time it
// connects it first calls see with a Complete inventory, then with what
// changes; each time it loses the engine, or cannot reach it for another
// reason than before, it calls see with Engine.Connected false and the reason.
// Calls come one at a time, from the goroutine that called Watch.
//
// The one inventory that is not Complete when it connects is that of an engine
// with more than maxContainers containers, which the log says.
func (e *Engine) Watch(ctx context.Context, see func(asset.Inventory)) error {
	var (
		wait   backoff
		since  = time.Now() // what happened from here on is wanted, connected or not
		reason string
	)
	for ctx.Err() == nil {
		s := &session{host: e.host, log: e.log, see: see, made: e.made, look: e.look, since: since}
		err := s.run(ctx)
		if ctx.Err() != nil {
			break
		}
		since = s.since
		if why := explain(e.host, err); why != reason || s.connected {
			see(asset.Inventory{Engine: asset.Engine{Error: why}})
			reason = why
		}
		if s.connected && time.Since(s.began) > lastPause {
			wait = backoff{}
		}
		pace.Wait(ctx, wait.next(rand.Float64()))
	}
	return ctx.Err()
}

// backoff counts out the pauses between attempts. The zero value starts at
// firstPause.
type backoff struct{ pause time.Duration }

// next returns the pause before the next attempt: twice the one before, spread
// by chance (in [0, 1)) over the half around it, so that a fleet's agents don't
// come back in step.
func (b *backoff) next(chance float64) time.Duration {
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	spread := time.Duration((chance - 0.5) / 2 * float64(b.pause))
	return min(b.pause+spread, lastPause)
}
