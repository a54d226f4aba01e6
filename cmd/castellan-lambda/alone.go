package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
)

// refreshAfter is how long a bundle is taken as the newest there is. One that is
// put in its place holds from then on.
const refreshAfter = time.Minute

// fetcher fetches a bundle: nothing if it is the one that is known by its tag.
type fetcher interface {
	Get(ctx context.Context, name, known string, limit int64) (b []byte, tag string, err error)
}

// alone decides by a signed bundle, without a server.
type alone struct {
	name  string
	from  fetcher // nil: a file of the package
	check admit.BundleCheck
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	tag    string
	looked time.Time // when it was last looked for
	bundle *admit.Bundle
	policy *admit.Policy
}

// newAlone returns what decides by the bundle that the configuration names. Keys
// that are none are an error now; a bundle that cannot be had is one of each
// decision, since it may be there the next time.
func newAlone(c config, from fetcher, log *slog.Logger) (*alone, error) {
	keys, err := sealed.Keys(c.bundleKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envBundleKey, err)
	}
	a := &alone{name: c.bundle, check: admit.BundleCheck{Keys: keys, Least: c.least}, now: time.Now, log: log}
	if strings.HasPrefix(c.bundle, "s3://") {
		a.from = from
	}
	return a, nil
}

// Decide decides by the bundle that is in force.
func (a *alone) Decide(ctx context.Context, r *admission.Request) (admission.Verdict, error) {
	policy, bundle, err := a.current(ctx)
	if err != nil {
		return admission.Verdict{}, err
	}
	known := map[string]*admission.Facts{}
	for i := range r.Task.Containers {
		d := r.Task.Containers[i].Image.Digest
		if f, ok := bundle.Facts(d); ok {
			known[d] = &f
		}
	}
	return policy.Decide(ctx, r, admit.Given{Facts: known, Now: a.now().UTC()}), nil
}

// current returns the newest bundle that holds. While no newer one can be had the
// last one stands, until it expires.
func (a *alone) current(ctx context.Context) (*admit.Policy, *admit.Bundle, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.bundle == nil || a.from != nil && now.Sub(a.looked) >= refreshAfter {
		if err := a.refresh(ctx, now); err != nil {
			if a.bundle == nil {
				return nil, nil, err
			}
			a.log.Warn("bundle not renewed", "bundle", a.name, "version", a.bundle.Manifest.Version, "error", err, "remedy", fault.Remedy(err))
		}
		a.looked = now
	}
	if !now.Before(a.bundle.Manifest.Expires) {
		return nil, nil, fault.New(fault.Denied, "bundle %s has expired at %s", a.name, a.bundle.Manifest.Expires.Format(time.RFC3339)).
			With("put a new one in its place: castellan admit bundle create")
	}
	return a.policy, a.bundle, nil
}

// refresh takes a newer bundle, if there is one.
func (a *alone) refresh(ctx context.Context, now time.Time) error {
	b, tag, err := a.fetch(ctx)
	if err != nil {
		return err
	}
	if b == nil {
		return nil
	}
	check := a.check
	check.Now = now
	if a.bundle != nil { // what was replaced never comes back, as long as this instance lives
		check.Least = max(check.Least, a.bundle.Manifest.Version)
	}
	bundle, err := admit.ReadBundle(b, check)
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	policy, err := admit.Read(bundle.Policy, a.name)
	if err != nil {
		return err
	}
	a.bundle, a.policy, a.tag = bundle, policy, tag
	a.log.Info("bundle in force", "bundle", a.name, "version", bundle.Manifest.Version, "expires", bundle.Manifest.Expires, "images", bundle.Manifest.Images,
		"key", bundle.Key, "policy", policy.Digest())
	return nil
}

func (a *alone) fetch(ctx context.Context) ([]byte, string, error) {
	if a.from != nil {
		return a.from.Get(ctx, a.name, a.tag, admit.MaxBundle)
	}
	info, err := os.Stat(a.name)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > admit.MaxBundle) {
		err = fmt.Errorf("%s is no file of at most %d bytes", a.name, admit.MaxBundle)
	}
	if err != nil {
		return nil, "", fault.New(fault.NotFound, "read bundle: %w", err).With("put it into the function's package, or name it as s3://BUCKET/KEY")
	}
	b, err := os.ReadFile(a.name)
	return b, "", err
}
