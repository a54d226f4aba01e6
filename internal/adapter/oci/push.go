package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/fault"
)

// PushArtifact puts an artifact into a repository under a tag, and returns the
// digest of its manifest. What the repository has already is not sent again.
// Mirrors are not asked: what is pushed goes where it was said.
func (r *Registry) PushArtifact(ctx context.Context, reference string, a Artifact) (string, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return "", err
	}
	b, err := a.document()
	if err != nil {
		return "", err
	}
	digest := digestOf(b, "")
	if d, ok := ref.(name.Digest); ok && d.DigestStr() != digest {
		return "", fault.New(fault.Invalid, "the artifact has the digest %s and cannot be pushed as %s", digest, shown(reference)).With("name a tag")
	}
	in, err := r.enterTo(ctx, ref.Context(), transport.PushScope)
	if err != nil {
		return "", fmt.Errorf("push to %s: %w", shown(reference), err)
	}
	err = in.upload(ctx, digestOf([]byte(emptyConfig), ""), int64(len(emptyConfig)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader([]byte(emptyConfig))), nil
	})
	if err == nil {
		err = in.upload(ctx, a.Digest, a.Size, a.Open)
	}
	if err == nil {
		err = in.put(ctx, in.address("manifests", ref.Identifier()), typeManifest, int64(len(b)), func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b)), nil
		})
	}
	if err != nil {
		return "", fmt.Errorf("push to %s: %w", shown(reference), err)
	}
	return digest, nil
}

// OpenArtifact finds the artifact of that kind that a reference means, at its
// mirror if there is one and it has it.
func (r *Registry) OpenArtifact(ctx context.Context, reference string, kind ArtifactKind) (*StoredArtifact, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return nil, err
	}
	repos, err := r.places(ref.Context())
	if err != nil {
		return nil, err
	}
	var failed error
	for _, repo := range repos {
		a, err := r.artifactIn(ctx, repo, ref, kind)
		if err == nil {
			return a, nil
		}
		failed = errors.Join(failed, fmt.Errorf("open artifact %s in %s: %w", shown(reference), repo.RegistryStr(), err))
		if ctx.Err() != nil || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Corrupt) {
			break
		}
	}
	return nil, failed
}

func (r *Registry) artifactIn(ctx context.Context, repo name.Repository, ref name.Reference, kind ArtifactKind) (*StoredArtifact, error) {
	in, err := r.enter(ctx, repo)
	if err != nil {
		return nil, err
	}
	d, b, err := in.head(ctx, ref.Identifier())
	if err != nil {
		return nil, err
	}
	a, file, err := parseArtifact(b, kind)
	if err != nil {
		return nil, err
	}
	a.Manifest = d.Digest
	a.open = func(ctx context.Context) (io.ReadCloser, error) { return in.blob(ctx, file) }
	return a, nil
}

// address is where a part of the repository is.
func (r *repository) address(kind, id string) *url.URL {
	return &url.URL{Scheme: r.scheme, Host: r.name.RegistryStr(), Path: "/v2/" + r.name.RepositoryStr() + "/" + kind + "/" + id}
}

// upload sends a blob, unless the repository has it.
func (r *repository) upload(ctx context.Context, digest string, size int64, open func() (io.ReadCloser, error)) error {
	resp, err := r.send(ctx, http.MethodHead, r.address("blobs", digest), "", 0, nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // of a HEAD there is none
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return r.transmit(ctx, digest, size, open)
}

// transmit sends a blob.
func (r *repository) transmit(ctx context.Context, digest string, size int64, open func() (io.ReadCloser, error)) error {
	resp, err := r.send(ctx, http.MethodPost, r.address("blobs/uploads", ""), "", 0, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return r.refusal(resp)
	}
	to, err := r.uploadTo(resp)
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", digest)
	to.RawQuery = query.Encode()
	if err := r.put(ctx, to, "application/octet-stream", size, open); err != nil {
		return fmt.Errorf("send blob %s: %w", short(digest), err)
	}
	return nil
}

// uploadTo returns where a registry wants a blob sent: with it or outside, but
// not from outside to an address inside.
func (r *repository) uploadTo(resp *http.Response) (*url.URL, error) {
	to, err := resp.Location()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "registry %s doesn't say where to send a blob: %w", r.name.RegistryStr(), err).
			With("ask whoever runs the registry")
	}
	if from := resp.Request.URL.Hostname(); to.Hostname() != from && isInside(to.Hostname()) && !isInside(from) {
		return nil, fault.New(fault.Denied, "%s wants a blob sent to %s, which is inside", r.name.RegistryStr(), to.Host).
			With("use the registry's own address if it is meant to be inside")
	}
	return to, nil
}

// put sends a body, which the registry must answer with Created.
func (r *repository) put(ctx context.Context, to *url.URL, mediaType string, size int64, open func() (io.ReadCloser, error)) error {
	resp, err := r.send(ctx, http.MethodPut, to, mediaType, size, open)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return r.refusal(resp)
	}
	return nil
}

// send sends a request. The caller closes the body of the answer, whatever its
// status.
func (r *repository) send(ctx context.Context, method string, to *url.URL, mediaType string, size int64, open func() (io.ReadCloser, error)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), nil)
	if err != nil {
		return nil, err
	}
	if open != nil {
		if req.Body, err = open(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = open, size
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.explain("ask registry "+r.name.RegistryStr(), err)
	}
	return resp, nil
}
