// Package gate decides on deployments for the doors of a host: by the host's own
// policy file or else the fleet's policy, with what is known of the images. It goes
// on by the last good policy and the last known facts while the server is away or a
// new policy can't be read.
//
// It fetches nothing: package brief keeps what the server said. How a request
// reaches it is the door's to know.
package gate

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/agent/brief"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// Fleet is what the server said: brief.Keeper is it.
type Fleet interface {
	// Standing returns the fleet's policy and exceptions; false until the server has
	// said once.
	Standing() (brief.Standing, bool)
	// Facts returns what is known of images, in their order. What it points to is never
	// changed.
	Facts(ctx context.Context, images []link.AskedImage) []*admission.Facts
	// Decided has a verdict told to the server. It never waits.
	Decided(r admission.Request, v admission.Verdict)
}

// maxImages bounds the images of one request of which facts are asked for.
const maxImages = 64

// Options are what a Gate needs: a file, a fleet or both.
type Options struct {
	// File is the host's own policy. It goes before the fleet's, and is read again
	// when it changes.
	File  string
	Fleet Fleet            // nil without a server
	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger
}

// Gate decides. It is safe for concurrent use.
type Gate struct {
	o Options

	mu     sync.Mutex
	policy *admit.Policy // nil: there is none, and everything is denied
	of     string        // stamp of the file or the standing that was read last, good or not
}

// Open returns a gate. A file that can't be read is an error here: whoever starts
// with it is there to mend it. Later the last good one holds.
func Open(o Options) (*Gate, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	g := &Gate{o: o}
	if o.File == "" {
		return g, nil
	}
	info, err := os.Stat(o.File)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read admission policy: %w", err).With("name a policy that is there with --admission-policy")
	}
	if g.policy, err = admit.Load(o.File); err != nil {
		return nil, fault.New(fault.Invalid, "read admission policy: %w", err).With("castellan admit test says what is wrong with it")
	}
	g.of = stamp(info)
	return g, nil
}

// stamp tells one version of a file from another.
func stamp(info fs.FileInfo) string {
	return info.ModTime().Format(time.RFC3339Nano) + "/" + strconv.FormatInt(info.Size(), 10)
}

// Policy returns what is decided by now; nil when there is none.
func (g *Gate) Policy() *admit.Policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.o.File != "" {
		g.reload()
	} else if g.o.Fleet != nil {
		g.follow()
	}
	return g.policy
}

// reload reads the file if it is another than before.
func (g *Gate) reload() {
	info, err := os.Stat(g.o.File)
	now := "gone"
	if err == nil {
		now = stamp(info)
	}
	if now == g.of {
		return
	}
	g.of = now
	var p *admit.Policy
	if err == nil {
		p, err = admit.Load(g.o.File)
	}
	if err != nil {
		g.o.Log.Error("admission policy not read: the one before holds", "file", g.o.File, "error", err)
		return
	}
	g.policy = p
	g.o.Log.Info("another admission policy holds", "file", g.o.File, "digest", p.Digest())
}

// follow takes over the fleet's policy if it is another than before.
func (g *Gate) follow() {
	s, ok := g.o.Fleet.Standing()
	if !ok || "policy "+s.Digest == g.of {
		return
	}
	g.of = "policy " + s.Digest // of none, too: that is said once
	if len(s.Policy) == 0 {
		g.policy = nil
		g.o.Log.Warn("the fleet has no admission policy: all is denied here", "remedy", "castellan admit policy set FILE")
		return
	}
	p, err := admit.Read(s.Policy, "the fleet's policy")
	if err != nil {
		g.o.Log.Error("admission policy of the fleet not read: the one before holds", "version", s.Version, "error", err)
		return
	}
	g.policy = p
	g.o.Log.Info("another admission policy holds", "version", s.Version, "digest", p.Digest())
}

// Decide decides on a request of a door of this host. It never fails: what can't
// be decided is answered as the policy declares.
func (g *Gate) Decide(ctx context.Context, r admission.Request) (admission.Verdict, error) {
	p := g.Policy()
	given := admit.Given{Now: g.o.Clock().UTC()}
	if g.o.Fleet != nil {
		if s, ok := g.o.Fleet.Standing(); ok {
			given.Exceptions = s.Exceptions
		}
		given.Facts, given.Lasting = g.facts(ctx, &r), true
	}
	return p.Decide(ctx, &r, given), nil
}

// Allows says whether the policy lets pass at this door what nobody could decide.
func (g *Gate) Allows(d admission.Door) bool { return g.Policy().OnError(d) == admission.Allow }

// Decided has a verdict told to the server, if there is one.
func (g *Gate) Decided(r admission.Request, v admission.Verdict) {
	if g.o.Fleet != nil {
		g.o.Fleet.Decided(r, v)
	}
}

// facts are what is known of a request's images, by digest or, of those that have
// none, by the engine's id.
func (g *Gate) facts(ctx context.Context, r *admission.Request) map[string]*admission.Facts {
	var images []link.AskedImage
	for n := range r.Task.Containers {
		for _, i := range r.Task.Containers[n].Images() {
			asked := link.AskedImage{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest, ID: i.ID}
			if (i.Digest != "" || i.ID != "") && !slices.Contains(images, asked) && len(images) < maxImages {
				images = append(images, asked)
			}
		}
	}
	if len(images) == 0 {
		return nil
	}
	known := g.o.Fleet.Facts(ctx, images)
	out := map[string]*admission.Facts{}
	for n := range min(len(known), len(images)) {
		// One digest under two names: what speaks against it counts.
		name := cmp.Or(images[n].Digest, images[n].ID)
		if was := out[name]; was == nil || was.Trust.Allowed && !known[n].Trust.Allowed {
			out[name] = known[n]
		}
	}
	return out
}
