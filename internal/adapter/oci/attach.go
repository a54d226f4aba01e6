package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

const (
	// inlined bounds an envelope that the manifest carries itself, beside the
	// blob: whoever verifies it is spared a request. Signatures have three to
	// nine kilobytes.
	inlined = 16 << 10
	// unasked bounds a blob that is sent without asking first whether the
	// repository has it: asking would take as long.
	unasked = 64 << 10
	// listAttempts is how often a registry is asked whether it lists what it took;
	// some do so a moment later.
	listAttempts = 4
	// attachWithin bounds the time of it all.
	attachWithin = 2 * time.Minute
)

// attaching is an envelope on its way to the image it is about.
type attaching struct {
	subject  signature.Subject
	envelope signature.Envelope
	payload  fullDescriptor
	config   []byte
	manifest []byte
	digest   string // of the manifest
}

// prepare makes the manifest with which an envelope is attached: of the same
// envelope always the same bytes, so that it is there once however often it is
// attached.
func prepare(s signature.Subject, e signature.Envelope) (*attaching, error) {
	if err := checkDigest(s.Digest, "subject"); err != nil {
		return nil, err
	}
	if !isEnvelope(e.MediaType) {
		return nil, fault.New(fault.Unsupported, "media type %q is of no signature or attestation that is known", shown(e.MediaType)).
			With("attach what castellan trust made, or cosign or notation")
	}
	if n := len(e.Payload); n == 0 || n > maxEnvelope {
		return nil, fault.New(fault.Invalid, "a signature or attestation of %d bytes, and they have between 1 and %d", n, maxEnvelope).
			With("attach less: what is larger would not be read again")
	}
	a := &attaching{subject: s, envelope: e, config: []byte(emptyConfig)}
	a.payload = fullDescriptor{MediaType: e.MediaType, Digest: digestOf(e.Payload, ""), Size: int64(len(e.Payload))}
	if len(e.Payload) <= inlined {
		a.payload.Data = e.Payload
	}
	var err error
	if a.manifest, err = a.document(); err != nil {
		return nil, err
	}
	a.digest = digestOf(a.manifest, "")
	return a, nil
}

// document is the manifest. Bundles have the empty configuration and a type of
// their own, as cosign writes them; the Notary Project tells its type by the
// configuration's.
func (a *attaching) document() ([]byte, error) {
	config := fullDescriptor{MediaType: typeEmpty, Digest: digestOf(a.config, ""), Size: int64(len(a.config))}
	kind := cmp.Or(a.envelope.ArtifactType, a.envelope.MediaType)
	if t := mediaTypeOf(a.envelope.MediaType); t == typeJWS || t == typeCOSE {
		config.MediaType, kind = typeNotary, ""
	}
	annotations, layer := a.envelope.Annotations, a.payload
	if mediaTypeOf(layer.MediaType) == typeSimpleSigning {
		annotations, layer.Annotations = nil, annotations // cosign looks for the signature there
	}
	return json.Marshal(struct {
		Schema      int               `json:"schemaVersion"`
		MediaType   string            `json:"mediaType"`
		Type        string            `json:"artifactType,omitempty"`
		Config      fullDescriptor    `json:"config"`
		Layers      []fullDescriptor  `json:"layers"`
		Subject     fullDescriptor    `json:"subject"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}{
		Schema: 2, MediaType: typeManifest, Type: kind, Config: config, Layers: []fullDescriptor{layer},
		Subject:     fullDescriptor{MediaType: a.subject.MediaType, Digest: a.subject.Digest, Size: a.subject.Size},
		Annotations: annotations,
	})
}

// entry is how a list of referrers names the manifest.
func (a *attaching) entry() (fullDescriptor, error) {
	m, err := parseAttachment(a.manifest)
	if err != nil {
		return fullDescriptor{}, err
	}
	return fullDescriptor{MediaType: typeManifest, Digest: a.digest, Size: int64(len(a.manifest)), ArtifactType: m.kind(), Annotations: m.annotations}, nil
}

// Attach attaches an envelope to an image and returns the digest of the manifest
// that holds it: as a referrer, listed by the registry, or by the tag that stands
// in for its list where it has none; or, for an envelope whose way is ByCosignTag,
// under the tag where an older cosign looks. What is there stays there: two who
// attach at once to the same image both succeed. The same envelope twice is one.
//
// Of the envelope the media type, the payload and the annotations count; the
// artifact type goes without saying for the kinds that are known. The subject is
// completed if its media type or size is missing. Mirrors are not asked: what is
// attached goes where it was said.
func (r *Registry) Attach(ctx context.Context, s signature.Subject, e signature.Envelope) (string, error) {
	repo, err := repositoryOf(s)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(briskly(ctx), attachWithin)
	defer cancel()
	digest, err := func() (string, error) {
		in, err := r.enterTo(ctx, repo, transport.PushScope)
		if err != nil {
			return "", err
		}
		if s.MediaType == "" || s.Size == 0 {
			d, b, err := in.head(ctx, s.Digest)
			if err != nil {
				return "", err
			}
			full, err := subjectOf(d, b)
			if err != nil {
				return "", err
			}
			s.MediaType, s.Size = full.MediaType, full.Size
		}
		a, err := prepare(s, e)
		if err != nil {
			return "", err
		}
		if e.Way == signature.ByCosignTag {
			return r.attachByTag(ctx, in, a)
		}
		return a.digest, r.attachReferrer(ctx, in, a)
	}()
	if err != nil {
		return "", fmt.Errorf("attach to %s@%s: %w", repo.Name(), s.Digest, err)
	}
	return digest, nil
}

// attachReferrer pushes a manifest and sees to it that it is listed.
func (r *Registry) attachReferrer(ctx context.Context, in *repository, a *attaching) error {
	if err := in.deliver(ctx, a.config, a.envelope.Payload); err != nil {
		return err
	}
	header, err := in.publish(ctx, a.digest, typeManifest, a.manifest)
	if err != nil {
		return refusedManifest(err)
	}
	if header.Get("OCI-Subject") == a.subject.Digest {
		return nil // the registry says that it lists it
	}
	for attempt := range listAttempts {
		switch listed, err := in.isListed(ctx, a); {
		case errors.Is(err, errNoReferrers):
			return r.amend(ctx, in, referrersTag(a.subject.Digest), a.amendIndex)
		case err != nil || listed:
			return err
		}
		if err := r.sleep(ctx, firstPause<<attempt); err != nil {
			return err
		}
	}
	return fault.New(fault.Unavailable, "the registry took manifest %s and does not list it as a referrer", a.digest).
		With("ask whoever runs the registry; verification would not find it")
}

// isListed says whether the registry's list of referrers has the manifest.
func (r *repository) isListed(ctx context.Context, a *attaching) (bool, error) {
	listed := false
	err := r.referrersOf(ctx, a.subject.Digest, func(entries []fullDescriptor, _ []error) bool {
		listed = slices.ContainsFunc(entries, func(d fullDescriptor) bool { return d.Digest == a.digest })
		return !listed
	})
	return listed, err
}

// deliver sends blobs, all at once.
func (r *repository) deliver(ctx context.Context, all ...[]byte) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range all {
		group.Go(func() error {
			digest, size, open := digestOf(b, ""), int64(len(b)), reopened(b)
			if size > unasked {
				return r.upload(ctx, digest, size, open)
			}
			return r.transmit(ctx, digest, size, open)
		})
	}
	return group.Wait()
}

// reopened opens bytes that are in memory, as often as it takes.
func reopened(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// publish puts a manifest or an index and returns what else the registry says.
func (r *repository) publish(ctx context.Context, id, mediaType string, b []byte) (http.Header, error) {
	resp, err := r.send(ctx, http.MethodPut, r.address("manifests", id), mediaType, int64(len(b)), reopened(b))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return nil, r.refusal(resp)
	}
	return resp.Header, nil
}

// refusedManifest says what to do with a registry that refuses manifests of OCI
// 1.1 (ECR in some partitions, registries of before 2024).
func refusedManifest(err error) error {
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.StatusCode {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusNotFound:
		return fault.New(fault.Unsupported, "the registry refuses a manifest that is about another: %w", err).
			With("is the image in that repository? if so, the registry knows nothing of OCI 1.1: have it brought up to date, or sign in the form of older cosign, which needs only tags")
	}
	return err
}
