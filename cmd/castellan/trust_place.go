package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// imagesHelp says in help texts what an image may be.
const imagesHelp = `
IMAGE is an image of a registry, by tag or digest; oci:PATH[:TAG|@DIGEST] for an
OCI image layout, a folder or a tar archive, of which nothing leaves the disk;
docker:NAME for what the local engine has, by the digest it was pulled by.`

// placeFlags are how images are reached.
type placeFlags struct {
	plainHTTP  bool
	caFile     string
	dockerHost string
	as         string
}

func (p *placeFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&p.plainHTTP, "plain-http", false, "speak to registries on other machines without encryption")
	f.StringVar(&p.caFile, "registry-ca", "", "further certificate authorities of registries (PEM)")
	f.StringVar(&p.dockerHost, "docker-host", "", "container engine, as in DOCKER_HOST")
	f.StringVar(&p.as, "as", "", "repository that an image of a layout on disk is taken for, as ghcr.io/acme/shop")
}

// places opens images wherever they are. It is closed by its user.
type places struct {
	placeFlags
	log      *slog.Logger
	registry *oci.Registry
}

func (g *globals) openPlaces(f placeFlags) (*places, error) {
	log, err := g.logger()
	if err != nil {
		return nil, err
	}
	ecr := aws.NewECR(log.With("door", "aws"))
	r, err := oci.NewRegistry(oci.Options{Credentials: ecr.Credentials, PlainHTTP: f.plainHTTP, CAFile: f.caFile}, log.With("door", "oci"))
	if err != nil {
		return nil, err
	}
	return &places{f, log, r}, nil
}

// Close gives back what was opened.
func (p *places) Close() {
	if err := p.registry.Close(); err != nil {
		p.log.Warn("registry not closed", "error", err)
	}
}

// shelf is where an image is kept, with its signatures beside it.
type shelf interface {
	Resolve(ctx context.Context, name string) (signature.Subject, error)
	Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error)
	Attach(ctx context.Context, s signature.Subject, e signature.Envelope) (string, error)
	// Platforms are the manifests that a name means, by platform.
	Platforms(ctx context.Context, name string, p inventory.Platform) ([]inventory.Image, error)
}

// named is an image that somebody named.
type named struct {
	shelf
	name       string // as its shelf knows it
	repository string // "" for a layout that is taken for nothing
	digest     string // "" if a tag was named
	path       string // of a layout; "" for a registry
}

// find says what a user means by an image. It asks nobody but the engine, for
// what is in that.
func (p *places) find(ctx context.Context, image string) (named, error) {
	if err := otherWords(image); err != nil {
		return named{}, err
	}
	meant, err := scan.ParseTarget(image, osFiles{})
	if err != nil {
		return named{}, err
	}
	if p.as != "" && meant.Kinds[0] != scan.TargetLayout {
		return named{}, usagef("--as is for layouts on disk: %s has a repository of its own", image)
	}
	switch {
	case slices.Contains(meant.Kinds, scan.TargetRegistry):
		return p.inRegistry(meant.Value), nil
	case meant.Kinds[0] == scan.TargetLayout:
		n := named{shelf: layoutShelf{meant.Value, p.as}, name: meant.Name, path: meant.Value, repository: p.as}
		if isImageDigest(meant.Name) {
			n.digest = meant.Name
		}
		return n, nil
	case meant.Kinds[0] == scan.TargetEngine:
		e, err := docker.New(docker.Options{Host: p.dockerHost}, p.log.With("door", "docker"))
		if err != nil {
			return named{}, err
		}
		local, err := e.Images(ctx)
		if err != nil {
			return named{}, err
		}
		pulled, err := pulledAs(meant.Value, local)
		return p.inRegistry(pulled), err
	case meant.Kinds[0] == scan.TargetArchive:
		return named{}, fault.New(fault.Unsupported, "%s: an archive of docker save has neither digests nor signatures", image).
			With("name the image in its registry; or make an OCI image layout of it, a folder, and name that: skopeo copy docker-archive:FILE oci:FOLDER:TAG")
	}
	return named{}, usagef("%s is no image of a registry, an engine or an OCI image layout; for an image of that name write registry:%s", image, image)
}

// otherWords says what is called otherwise here than by other tools.
func otherWords(image string) error {
	for prefix, remedy := range map[string]string{
		"docker-archive:": "an archive of docker save has neither digests nor signatures: make an OCI image layout of it, skopeo copy IMAGE oci:FOLDER:TAG, and name oci:FOLDER",
		"oci-archive:":    "name it as oci:REST; to sign, unpack it into a folder and name that",
		"docker://":       "name it without docker://: REST",
		"docker-daemon:":  "name it as docker:REST",
	} {
		if rest, ok := strings.CutPrefix(image, prefix); ok {
			return usageError{fault.New(fault.Invalid, "%s is not known here", prefix).With(strings.NewReplacer("IMAGE", image, "REST", rest).Replace(remedy))}
		}
	}
	return nil
}

func (p *places) inRegistry(reference string) named {
	n := named{shelf: registryShelf{p.registry}, name: reference, repository: reference}
	if before, digest, ok := strings.Cut(reference, "@"); ok {
		n.repository, n.digest = before, digest
	}
	if colon := strings.LastIndexByte(n.repository, ':'); colon > strings.LastIndexByte(n.repository, '/') {
		n.repository = n.repository[:colon]
	}
	return n
}

func isImageDigest(s string) bool { return strings.HasPrefix(s, "sha256:") }

// subject is what the name means now. A digest is taken as it is: whoever looks
// for its signatures is told soon enough that there is no such image, and is
// spared a request if there is.
func (n named) subject(ctx context.Context) (signature.Subject, error) {
	if n.digest != "" && n.path == "" {
		return signature.Subject{Repository: n.repository, Digest: n.digest}, nil
	}
	return n.whole(ctx)
}

// whole is the subject with its media type and size, looked up.
func (n named) whole(ctx context.Context) (signature.Subject, error) {
	s, err := n.Resolve(ctx, n.name)
	if n.path != "" {
		s.Repository = n.repository
	}
	return s, err
}

// of are the images to decide on: what the name means itself without a
// platform, else its manifests for that platform, or for all.
func (n named) of(ctx context.Context, platform string) ([]trust.Image, error) {
	if platform == "" {
		s, err := n.subject(ctx)
		return []trust.Image{{Subject: s}}, err
	}
	var want inventory.Platform
	var err error
	if platform != allPlatforms {
		if want, err = scan.ParsePlatform(platform); err != nil {
			return nil, usageError{err}
		}
	}
	index, err := n.subject(ctx)
	if err != nil {
		return nil, err
	}
	// By its digest, so that what the tag means is looked up once.
	found, err := n.Platforms(ctx, n.at(index.Digest), want)
	if err != nil {
		return nil, err
	}
	var out []trust.Image
	for _, i := range found {
		if i.Digest == index.Digest {
			return []trust.Image{{Subject: index}}, nil
		}
		out = append(out, trust.Image{Subject: signature.Subject{Repository: index.Repository, Digest: i.Digest}, Index: &index})
	}
	return out, nil
}

// at is the name of another digest on the same shelf.
func (n named) at(digest string) string {
	if n.path != "" {
		return digest
	}
	return n.repository + "@" + digest
}

// String is how users name the image by its digest.
func (n named) String() string {
	if n.path == "" {
		return n.name
	}
	name := "oci:" + n.path
	switch {
	case n.digest != "":
		name += "@" + n.digest
	case n.name != "":
		name += ":" + n.name
	}
	return name
}

// pinned is how users name an image by its digest.
func (n named) pinned(digest string) string {
	if n.path != "" {
		return "oci:" + n.path + "@" + digest
	}
	return n.repository + "@" + digest
}

// registryShelf is a registry.
type registryShelf struct{ *oci.Registry }

// Platforms is shelf.
func (r registryShelf) Platforms(ctx context.Context, name string, p inventory.Platform) ([]inventory.Image, error) {
	if p != (inventory.Platform{}) {
		i, err := r.Open(ctx, name, oci.Choice{Platform: p})
		if err != nil {
			return nil, err
		}
		return described([]*oci.Image{i}, nil)
	}
	return described(r.OpenAll(ctx, name, oci.Choice{}))
}

// layoutShelf is an image layout on disk.
type layoutShelf struct{ path, as string }

// Resolve is shelf.
func (l layoutShelf) Resolve(ctx context.Context, name string) (signature.Subject, error) {
	return oci.ResolvePath(ctx, l.path, name)
}

// Envelopes is shelf.
func (l layoutShelf) Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	return oci.PathEnvelopes(ctx, l.path, s)
}

// Attach is shelf.
func (l layoutShelf) Attach(ctx context.Context, s signature.Subject, e signature.Envelope) (string, error) {
	return oci.AttachPath(ctx, l.path, s, e)
}

// Platforms is shelf.
func (l layoutShelf) Platforms(ctx context.Context, name string, p inventory.Platform) ([]inventory.Image, error) {
	if p != (inventory.Platform{}) {
		i, err := oci.OpenPath(ctx, l.path, oci.Choice{Name: name, Platform: p})
		if err != nil {
			return nil, err
		}
		return described([]*oci.Image{i}, nil)
	}
	return described(oci.OpenPathAll(ctx, l.path, oci.Choice{Name: name}))
}

// described closes images and returns what they are.
func described(images []*oci.Image, err error) ([]inventory.Image, error) {
	if err != nil {
		return nil, err
	}
	var out []inventory.Image
	var errs []error
	for _, i := range images {
		out = append(out, i.Image())
		errs = append(errs, i.Close())
	}
	return out, errors.Join(errs...)
}

// pulledAs is the reference by which the engine pulled an image: a tag of it may
// mean another one by now.
func pulledAs(name string, local []docker.LocalImage) (string, error) {
	for _, i := range local {
		if !isLocal(name, i) {
			continue
		}
		repository, _, _ := strings.Cut(name, "@")
		if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
			repository = repository[:colon]
		}
		for _, d := range i.Digests {
			if from, _, _ := strings.Cut(d, "@"); from == familiar(repository) || len(i.Digests) == 1 {
				return d, nil
			}
		}
		if len(i.Digests) == 0 {
			return "", fault.New(fault.NotFound, "image %s was built or loaded here, and has no digest of a registry that could be signed", name).
				With("push it (docker push), and name it as its registry does")
		}
		return "", fault.New(fault.Invalid, "image %s was pulled by several names: %s", name, strings.Join(i.Digests, ", ")).With("name one of those")
	}
	return "", fault.New(fault.NotFound, "the engine has no image %s", name).With("docker images lists what it has; without docker: the registry is asked")
}

// isLocal says whether the engine calls an image so.
func isLocal(name string, i docker.LocalImage) bool {
	const shortID = 12
	if id := strings.TrimPrefix(name, "sha256:"); len(id) >= shortID && strings.HasPrefix(strings.TrimPrefix(i.ID, "sha256:"), id) {
		return true
	}
	name = familiar(name)
	if slices.Contains(i.Digests, name) {
		return true
	}
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		name += ":latest"
	}
	return slices.Contains(i.Names, name)
}

// familiar is a name as engines shorten it.
func familiar(name string) string {
	for _, hub := range []string{"docker.io/", "index.docker.io/"} {
		if rest, ok := strings.CutPrefix(name, hub); ok {
			return strings.TrimPrefix(rest, "library/")
		}
	}
	return name
}
