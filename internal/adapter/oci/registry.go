package oci

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/fault"
)

// EnvMirrors names the environment variable that sends requests to mirrors
// first: REGISTRY=MIRROR, several with commas between. A mirror may have a
// prefix before its repositories: registry.example=mirror.example/hub. What a
// mirror doesn't have, or can't give, is asked of the registry itself.
const EnvMirrors = "CASTELLAN_REGISTRY_MIRRORS"

// Options say how registries are spoken to. The zero value does as docker does.
type Options struct {
	// Credentials is asked for registries of which neither the environment nor
	// the docker command's configuration knows a user; nil for nobody.
	Credentials Credentials
	// PlainHTTP permits plain HTTP for registries that are not on this machine.
	PlainHTTP bool
	// CAFile has certificate authorities to trust beside the system's, in PEM
	// form; empty for none.
	CAFile string
	// MaxEnvelopes is how many bytes of signatures and attestations of one image are
	// read at most; 0 for what is usual.
	MaxEnvelopes int64
}

// Registry is the door to all registries. It holds connections until it is
// closed, and can be used by several goroutines.
type Registry struct {
	options Options
	log     *slog.Logger
	base    *http.Transport
	brisk   *http.Transport   // base for small documents, many at once
	mirrors map[string]string // by registry
	sleep   func(context.Context, time.Duration) error
	stall   time.Duration // stallWithin
	now     func() time.Time

	mu    sync.Mutex
	repos map[string]*repository // by name, those that were entered
	lists map[string]*support    // by registry
	hosts map[string]*host       // by registry, those that are watched
	// verdicts say of digests whether they are of images, where that was looked up.
	verdicts map[string]bool
}

// NewRegistry returns the door. It asks nobody yet. The error is of kind
// Invalid, for a file or an environment variable that cannot be used.
func NewRegistry(o Options, log *slog.Logger) (*Registry, error) {
	base, err := dialer(o.CAFile)
	if err != nil {
		return nil, err
	}
	mirrors, err := parseMirrors(os.Getenv(EnvMirrors))
	if err != nil {
		return nil, err
	}
	return &Registry{options: o, log: log, base: base, brisk: brisk(base), mirrors: mirrors, sleep: sleep, stall: stallWithin, now: time.Now,
		repos: map[string]*repository{}, lists: map[string]*support{}, hosts: map[string]*host{}, verdicts: map[string]bool{}}, nil
}

// Close ends idle connections.
func (r *Registry) Close() error {
	r.base.CloseIdleConnections()
	r.brisk.CloseIdleConnections()
	return nil
}

// Open opens the image that reference and platform mean; see Choice for what
// the zero platform means. A tag is resolved once: what is opened is what its
// digest names.
func (r *Registry) Open(ctx context.Context, reference string, c Choice) (*Image, error) {
	return first(r.open(ctx, reference, c, false))
}

// OpenAll opens the images of all platforms; with a platform in c, all that
// suit it.
func (r *Registry) OpenAll(ctx context.Context, reference string, c Choice) ([]*Image, error) {
	return r.open(ctx, reference, c, true)
}

func (r *Registry) open(ctx context.Context, reference string, c Choice, all bool) ([]*Image, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return nil, err
	}
	c.Name = "" // the reference has it
	repos, err := r.places(ref.Context())
	if err != nil {
		return nil, err
	}
	var mirrored error
	for i, repo := range repos {
		images, err := r.openIn(ctx, repo, ref, c, all)
		switch {
		case err == nil:
			return images, nil
		case i == len(repos)-1 && mirrored != nil:
			return nil, fmt.Errorf("open image %s: %w (and its mirror: %w)", shown(reference), err, mirrored)
		case i == len(repos)-1:
			return nil, fmt.Errorf("open image %s: %w", shown(reference), err)
		case ctx.Err() != nil || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Corrupt):
			return nil, fmt.Errorf("open image %s from its mirror: %w", shown(reference), err)
		}
		r.log.Info("mirror does not have image, asking its registry", "mirror", repo.Name(), "error", err)
		mirrored = err
	}
	return nil, mirrored
}

// places are where a repository is looked for: at its mirror, if there is one,
// and then where it is.
func (r *Registry) places(repo name.Repository) ([]name.Repository, error) {
	mirror := r.mirrors[repo.RegistryStr()]
	if mirror == "" {
		return []name.Repository{repo}, nil
	}
	moved, err := at(mirror, repo)
	if err != nil {
		return nil, err
	}
	return []name.Repository{moved, repo}, nil
}

// openIn opens images of a repository.
func (r *Registry) openIn(ctx context.Context, repo name.Repository, ref name.Reference, c Choice, all bool) ([]*Image, error) {
	in, err := r.enter(ctx, repo)
	if err != nil {
		return nil, err
	}
	d, b, err := in.head(ctx, ref.Identifier())
	if err != nil {
		return nil, err
	}
	s := newResolver(in, c)
	candidates, err := s.candidates(ctx, d, b, 0)
	if err != nil {
		return nil, err
	}
	var found []*resolved
	if all {
		found, err = s.each(ctx, candidates)
	} else {
		var one *resolved
		one, err = s.one(ctx, candidates)
		found = []*resolved{one}
	}
	if err != nil {
		return nil, err
	}
	images := make([]*Image, len(found))
	for i, got := range found {
		got.image.Reference = ref.String()
		images[i] = &Image{info: got.image, opened: func(ctx context.Context, n int) (io.ReadCloser, error) {
			return in.blob(ctx, got.layers[n])
		}}
	}
	return images, nil
}

// enter returns a repository with the right to read it.
func (r *Registry) enter(ctx context.Context, repo name.Repository) (*repository, error) {
	if in := r.entered(repo); in != nil {
		return in, nil
	}
	in, registry, way, err := r.approach(ctx, repo)
	if err != nil {
		return nil, err
	}
	if e := r.eagerly(in, registry, way); e != nil {
		in.admit(e)
	} else if in, err = r.enterBy(ctx, in, registry, way, transport.PullScope); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repos[repo.Name()] = in
	return in, nil
}

// enterTo returns a repository with the right to do what a scope names.
func (r *Registry) enterTo(ctx context.Context, repo name.Repository, scope string) (*repository, error) {
	in, registry, way, err := r.approach(ctx, repo)
	if err != nil {
		return nil, err
	}
	return r.enterBy(ctx, in, registry, way, scope)
}

// enterBy asks a registry how it wants to be entered, and enters a repository so.
func (r *Registry) enterBy(ctx context.Context, in *repository, registry name.Registry, way http.RoundTripper, scope string) (*repository, error) {
	way, err := transport.NewWithContext(ctx, registry, in.credential, way, []string{in.name.Scope(scope)})
	if err != nil {
		return nil, in.explain("enter registry "+in.name.RegistryStr(), err)
	}
	in.admit(way)
	return in, nil
}

// approach returns a repository that isn't entered yet, with its registry and the
// way to it.
func (r *Registry) approach(ctx context.Context, repo name.Repository) (*repository, name.Registry, http.RoundTripper, error) {
	host := repo.RegistryStr()
	in := &repository{name: repo, scheme: "https", stall: r.stall, until: r.now().Add(enteredFor), all: r.listsOf(host)}
	plain := r.options.PlainHTTP || isLoopback(host)
	if h := r.watched(host); h != nil {
		plain = plain || h.isPlain()
	}
	registry := repo.Registry
	if plain {
		insecure, err := name.NewRegistry(host, name.Insecure)
		if err != nil {
			return nil, name.Registry{}, nil, err
		}
		registry = insecure
	}
	var err error
	if in.credential, err = (keychain{more: r.options.Credentials, log: r.log}).of(ctx, repo); err != nil {
		return nil, name.Registry{}, nil, err
	}
	way := paced{registry: r, next: guard{next: r.base, brisk: r.brisk, plain: plain}}
	return in, registry, transport.NewUserAgent(patient{next: way, log: r.log, sleep: r.sleep}, "castellan"), nil
}

// admit has a repository spoken to by a way that leads into it.
func (r *repository) admit(way http.RoundTripper) {
	r.client = &http.Client{Transport: way, CheckRedirect: redirects(r.name.RegistryStr())}
}

// entered returns a repository that was entered lately, and forgets those that
// were entered too long ago.
func (r *Registry) entered(repo name.Repository) *repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	maps.DeleteFunc(r.repos, func(_ string, in *repository) bool { return !now.Before(in.until) })
	return r.repos[repo.Name()]
}

// parseMirrors reads EnvMirrors.
func parseMirrors(text string) (map[string]string, error) {
	mirrors := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		of, mirror, ok := strings.Cut(pair, "=")
		registry, err := name.NewRegistry(strings.TrimSpace(of))
		if mirror = strings.TrimSpace(mirror); !ok || err != nil || mirror == "" {
			return nil, fault.New(fault.Invalid, "%s: %q is not REGISTRY=MIRROR", EnvMirrors, shown(pair)).
				With("write hosts without https://, as in registry.example=mirror.example/prefix")
		}
		mirrors[registry.RegistryStr()] = mirror
	}
	return mirrors, nil
}
