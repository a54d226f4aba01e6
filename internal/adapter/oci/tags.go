package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// images returns what a repository holds. With an error there may be some that
// were found all the same.
func (r *Registry) images(ctx context.Context, w asset.Registry, repository string, want func(tag string) bool) ([]asset.RegistryImage, error) {
	h, registry, err := r.watch(w)
	if err != nil {
		return nil, err
	}
	repo, err := place(registry, repository)
	if err != nil {
		return nil, err
	}
	in, err := r.look(ctx, h, repo, repo.Scope(transport.PullScope))
	if err != nil {
		return nil, err
	}
	tags, err := r.tags(ctx, in, want)
	digests, err2 := r.digests(ctx, in, tags)
	var images []asset.RegistryImage
	at := map[string]int{}
	for i, digest := range digests {
		if digest == "" {
			continue
		}
		n, known := at[digest]
		if !known {
			n = len(images)
			at[digest] = n
			images = append(images, asset.RegistryImage{Repository: repository, Digest: digest})
		}
		images[n].Tags = append(images[n].Tags, tags[i])
	}
	return images, errors.Join(err, err2)
}

// digests returns what tags name, in their order; empty for what is gone or no
// image. It goes on when a tag cannot be read, unless the others would fail
// alike.
func (r *Registry) digests(ctx context.Context, in *repository, tags []string) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	digests := make([]string, len(tags))
	next := make(chan int)
	var failed failures
	var all sync.WaitGroup
	for range min(listers, len(tags)) {
		all.Go(func() {
			for i := range next {
				digest, err := r.digest(ctx, in, tags[i])
				if err != nil {
					if failed.add(fmt.Errorf("tag %s: %w", tags[i], err)) {
						cancel()
					}
					continue
				}
				digests[i] = digest
			}
		})
	}
	for i := range tags {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	all.Wait()
	return digests, failed.err(ctx)
}

// failures are the tags that could not be read.
type failures struct {
	mu    sync.Mutex
	first error
	count int
	over  bool
}

// add counts an error and says whether to give up.
func (f *failures) add(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return true // of a request that was given up
	}
	f.count++
	switch kind := fault.Of(err); {
	case kind == fault.Exhausted, kind == fault.Unauthenticated, kind == fault.Denied, f.count > maxUnlisted:
		f.over = true
		f.first = err
	case f.first == nil:
		f.first = err
	}
	return f.over
}

// err returns the first error, or the one that ended it all.
func (f *failures) err(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		return ctx.Err()
	}
	if f.count > 1 {
		return fmt.Errorf("%w (and %d more tags failed)", f.first, f.count-1)
	}
	return f.first
}

// digest returns the digest of what a tag names; empty for what is gone or no
// image.
func (r *Registry) digest(ctx context.Context, in *repository, tag string) (string, error) {
	digest, mediaType, err := in.peek(ctx, tag)
	if err != nil {
		return "", err
	}
	if digest == "" {
		return r.read(ctx, in, tag)
	}
	switch mediaType {
	case typeIndex, typeDockerList, typeDockerManifest, typeSchema1, typeSchema1Signed:
		return digest, nil
	case typeManifest, "", "application/json", "text/plain", "application/octet-stream":
		// What it is, only its content says.
	default:
		return "", nil // a type of its own, as artifacts had before they were manifests
	}
	if image, known := r.verdict(digest); known {
		if !image {
			return "", nil
		}
		return digest, nil
	}
	return r.read(ctx, in, digest)
}

// peek asks for a tag's digest and media type without its content. The digest is
// empty when it must be read to be known.
func (r *repository) peek(ctx context.Context, tag string) (digest, mediaType string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.address("manifests", tag).String(), nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Accept", accepted)
	resp, err := r.client.Do(req)
	if err != nil {
		return "", "", r.explain("ask registry "+r.name.RegistryStr(), err)
	}
	_ = resp.Body.Close() // of a HEAD there is none
	digest = resp.Header.Get("Docker-Content-Digest")
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return "", "", r.refusal(resp)
	case resp.StatusCode != http.StatusOK, inventory.CheckDigest(digest) != nil:
		return "", "", nil // whatever it is, the answer to a GET has the words for it
	}
	return digest, mediaTypeOf(resp.Header.Get("Content-Type")), nil
}

// read fetches what a tag or digest names and returns its digest; empty for what
// is gone or no image.
func (r *Registry) read(ctx context.Context, in *repository, id string) (string, error) {
	d, b, err := in.head(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return "", nil // deleted since it was listed
	}
	if err != nil {
		return "", err
	}
	var other *notAnImage
	_, err = parseDocument(b, d.MediaType)
	// A manifest that is wrong otherwise is found wrong by whoever opens it.
	image := !errors.As(err, &other)
	r.judge(d.Digest, image)
	if !image {
		return "", nil
	}
	return d.Digest, nil
}

// verdict says whether a digest is of an image, if that is known.
func (r *Registry) verdict(digest string) (image, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	image, known = r.verdicts[digest]
	return image, known
}

// judge remembers whether a digest is of an image.
func (r *Registry) judge(digest string, image bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.verdicts) >= maxVerdicts {
		clear(r.verdicts) // whatever is still there is looked up again
	}
	r.verdicts[strings.Clone(digest)] = image
}
