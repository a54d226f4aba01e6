package oci

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Configure has a registry be asked from now on as it is configured: no faster
// than its rate, and without TLS if that is permitted. What lists it does so by
// itself; what opens its images needs it when nothing was listed before.
func (r *Registry) Configure(w asset.Registry) error {
	_, _, err := r.watch(w)
	return err
}

// Repositories yields the names of all repositories that a registry's catalogue
// has, each once, in pages as the registry gives them. Names that no repository
// can have are left out and logged. After an error nothing follows; it is of kind
// Unsupported when the registry shows no catalogue, as Docker Hub and GitHub
// don't.
//
// The registry itself is asked, never a mirror, which has only what passed
// through it.
func (r *Registry) Repositories(ctx context.Context, w asset.Registry) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		h, registry, err := r.watch(w)
		if err == nil {
			var in *repository
			// Credentials are looked up by repository; the catalogue is of none.
			if in, err = r.look(ctx, h, registry.Repo("_catalog"), registry.Scope("")); err == nil {
				err = r.catalog(ctx, in, func(name string) bool { return yield(name, nil) })
			}
			err = hidden(err, in)
		}
		if err != nil {
			yield("", fmt.Errorf("list repositories of %s: %w", shown(w.Host), err))
		}
	}
}

// Images yields what one repository holds of tags that want says yes to, each
// image once with all those tags. What is no image is left out: tags of
// signatures and the like by their name, other artifacts by their manifest.
//
// The registry is asked once for each tag, several at a time, and once more for
// a digest that it has not seen before and that may be of an artifact. It isn't
// told when images were pushed, nor which have no tag: the distribution API
// knows neither.
//
// An error says that the list is not whole; what was found all the same comes
// before it. It is of kind NotFound when there is no such repository.
func (r *Registry) Images(ctx context.Context, w asset.Registry, repository string, want func(tag string) bool) iter.Seq2[asset.RegistryImage, error] {
	return func(yield func(asset.RegistryImage, error) bool) {
		images, err := r.images(ctx, w, repository, want)
		for _, i := range images {
			if !yield(i, nil) {
				return
			}
		}
		if err != nil {
			yield(asset.RegistryImage{}, fmt.Errorf("list images of %s/%s: %w", shown(w.Host), shown(repository), err))
		}
	}
}

// watch returns a registry that is watched, with the way it is asked.
func (r *Registry) watch(w asset.Registry) (*host, name.Registry, error) {
	registry, err := name.NewRegistry(w.Host, name.StrictValidation)
	if err != nil {
		return nil, name.Registry{}, fault.New(fault.Invalid, "registry %q: %w", shown(w.Host), err).
			With("write its host, with a port where it has one: registry.example:5000")
	}
	if ref, err := parseReference(w.Host + "/app"); err == nil && ref.Context().RegistryStr() != registry.RegistryStr() {
		return nil, name.Registry{}, fault.New(fault.Invalid, "registry %q: it has neither a dot nor a port, and %s/app is an image of Docker Hub", shown(w.Host), shown(w.Host)).
			With("configure it with its port, as in registry:443 or registry:5000")
	}
	return r.host(registry.RegistryStr(), w), registry, nil
}

// place returns a repository of a registry.
func place(registry name.Registry, repository string) (name.Repository, error) {
	if !asset.IsRepository(repository) {
		return name.Repository{}, fault.New(fault.Invalid, "%q is no repository's name", shown(repository)).
			With("write it in lower case and without the registry: shop/web")
	}
	if registry.RegistryStr() == name.DefaultRegistry && !strings.Contains(repository, "/") {
		repository = "library/" + repository // Docker Hub's own images
	}
	return registry.Repo(repository), nil
}

// look returns a repository with the right to do what a scope names, for one
// listing. It asks the registry how it wants to be entered less often than enter
// does, and keeps nothing of each repository.
func (r *Registry) look(ctx context.Context, h *host, repo name.Repository, scope string) (*repository, error) {
	in, registry, way, err := r.approach(ctx, repo)
	if err != nil {
		return nil, err
	}
	challenge, err := h.challenge(ctx, registry, way, r.now())
	if err != nil {
		return in, in.explain("enter registry "+repo.RegistryStr(), err)
	}
	if challenge.Insecure {
		in.scheme = "http"
	}
	if way, err = bearer(ctx, registry, in.credential, way, scope, challenge); err != nil {
		return in, in.explain("enter registry "+repo.RegistryStr(), err)
	}
	in.byToken = strings.EqualFold(challenge.Scheme, "bearer")
	in.admit(way)
	return in, nil
}
