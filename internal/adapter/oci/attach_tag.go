package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxAmends is how often a tag is written that others write, too.
	maxAmends = 12
	// settle is the least time before a tag that was written is read again: whoever
	// read it before us writes it in that time. It is longer where the registry is
	// slow.
	settle = 150 * time.Millisecond
)

// amend changes what a tag names. Registries know no condition under which a tag
// is written, so two who write at once may each overwrite what the other wrote:
// after a pause in which the other must have written, it is read again, and
// written again if our change is lost. change is given what the tag names now,
// nil for nothing, and returns what it is to name, or nil if nothing is missing.
func (r *Registry) amend(ctx context.Context, in *repository, tag string, change func(now []byte) (next []byte, mediaType string, err error)) error {
	for range maxAmends {
		began := r.now()
		now, err := in.content(ctx, tag)
		if err != nil {
			return fmt.Errorf("read tag %s: %w", tag, err)
		}
		next, mediaType, err := change(now)
		if err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
		if next == nil {
			return nil
		}
		if _, err := in.publish(ctx, tag, mediaType, next); err != nil {
			return fmt.Errorf("write tag %s: %w", tag, immutable(err, tag))
		}
		pause := max(settle, 3*r.now().Sub(began))
		if err := r.sleep(ctx, pause+time.Duration(rand.Float64()*float64(pause))); err != nil {
			return err
		}
	}
	return fault.New(fault.Conflict, "tag %s was overwritten by others %d times in a row", tag, maxAmends).
		With("try again when fewer attach to the same image at once")
}

// content reads what a tag names; nil for nothing.
func (r *repository) content(ctx context.Context, tag string) ([]byte, error) {
	_, b, err := r.head(ctx, tag)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return b, err
}

// immutable says what to do about a repository whose tags cannot be written
// twice.
func immutable(err error, tag string) error {
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest && refused.StatusCode != http.StatusConflict &&
		refused.StatusCode != http.StatusPreconditionFailed && refused.StatusCode != http.StatusForbidden {
		return err
	}
	return fault.New(fault.Denied, "%w", err).
		With("if the repository's tags are immutable, exempt those that begin with sha256- (" + tag + "), or use a registry that lists referrers")
}

// amendIndex adds the manifest to the index that stands in for a list of
// referrers.
func (a *attaching) amendIndex(now []byte) ([]byte, string, error) {
	if now != nil && digestOf(now, a.subject.Digest) == a.subject.Digest {
		return nil, "", fault.New(fault.Unsupported, "the registry has no lists of referrers, and takes the tag that stands in for one for the image's digest").
			With("have the registry brought up to date, or sign in the form of older cosign")
	}
	entry, err := a.entry()
	if err != nil {
		return nil, "", err
	}
	next, err := withEntry(now, entry, maxManifests, nil)
	return next, typeIndex, err
}

// withEntry returns an index that has the entry, with all that it had before but
// for what replaces says; nil if it has it. Without one before it begins one.
func withEntry(now []byte, entry fullDescriptor, limit int, replaces func(fullDescriptor) bool) ([]byte, error) {
	all := map[string]json.RawMessage{}
	if now != nil {
		if _, _, err := parseReferrers(now); err != nil {
			return nil, invalid("it is no list: %w", err)
		}
		if err := json.Unmarshal(now, &all); err != nil {
			return nil, err
		}
	}
	entries, err := list[json.RawMessage](all["manifests"], limit, "manifests")
	if err != nil {
		return nil, err
	}
	has := false
	entries = slices.DeleteFunc(entries, func(raw json.RawMessage) bool {
		var d fullDescriptor
		if json.Unmarshal(raw, &d) != nil {
			return false // somebody else's
		}
		same := d.Digest == entry.Digest && d.Annotations[annotationName] == entry.Annotations[annotationName]
		has = has || same
		return !same && replaces != nil && replaces(d)
	})
	if has {
		return nil, nil
	}
	if len(entries) == limit {
		return nil, fault.New(fault.Exhausted, "it has %d entries, and no more are read", limit).With("remove what is no longer needed")
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}
	if all["manifests"], err = json.Marshal(append(entries, raw)); err != nil {
		return nil, err
	}
	all["schemaVersion"] = json.RawMessage("2")
	all["mediaType"] = json.RawMessage(`"` + typeIndex + `"`)
	return json.Marshal(all)
}

// cosignSuffix is the ending of the tag under which an older cosign looks for an
// envelope.
func cosignSuffix(mediaType string) (string, error) {
	switch mediaTypeOf(mediaType) {
	case typeSimpleSigning:
		return suffixSignatures, nil
	case typeDSSE:
		return suffixAttestations, nil
	}
	return "", fault.New(fault.Unsupported, "an older cosign knows nothing of %s", shown(mediaType)).With("attach it as a referrer")
}

// attachByTag adds an envelope to those that an older cosign finds, and returns
// the digest of the manifest that holds them all.
func (r *Registry) attachByTag(ctx context.Context, in *repository, a *attaching) (string, error) {
	suffix, err := cosignSuffix(a.envelope.MediaType)
	if err != nil {
		return "", err
	}
	if err := in.deliver(ctx, a.envelope.Payload); err != nil {
		return "", err
	}
	var digest string
	err = r.amend(ctx, in, referrersTag(a.subject.Digest)+suffix, func(now []byte) ([]byte, string, error) {
		next, config, err := a.withLayer(now)
		if err != nil || next == nil {
			if now != nil {
				digest = digestOf(now, "")
			}
			return nil, "", err
		}
		return next, typeManifest, in.deliver(ctx, config)
	})
	return digest, err
}

// withLayer returns a manifest of an older cosign that has the envelope, with
// all that it had before, and its configuration; nil if it has it.
func (a *attaching) withLayer(now []byte) (next, config []byte, err error) {
	layer := a.payload
	layer.Data, layer.Annotations = nil, a.envelope.Annotations
	var layers []fullDescriptor
	var annotations map[string]string
	if now != nil {
		m, err := parseAttachment(now)
		if err != nil || len(m.layers) == 0 || m.subject != nil && m.subject.Digest != a.subject.Digest {
			return nil, nil, errors.Join(invalid("it names something else than signatures of the image"), err)
		}
		layers, annotations = m.layers, m.annotations
	}
	for _, l := range layers {
		if l.Digest == layer.Digest && l.MediaType == layer.MediaType && maps.Equal(l.Annotations, layer.Annotations) {
			return nil, nil, nil
		}
	}
	if len(layers) == maxLayers {
		return nil, nil, fault.New(fault.Exhausted, "it has %d signatures, and no more are read", maxLayers).With("remove what is no longer needed")
	}
	layers = append(layers, layer)
	if config, err = imageConfig(layers); err != nil {
		return nil, nil, err
	}
	next, err = json.Marshal(struct {
		Schema      int               `json:"schemaVersion"`
		MediaType   string            `json:"mediaType"`
		Config      fullDescriptor    `json:"config"`
		Layers      []fullDescriptor  `json:"layers"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}{2, typeManifest, fullDescriptor{MediaType: typeConfig, Digest: digestOf(config, ""), Size: int64(len(config))}, layers, annotations})
	return next, config, err
}

// imageConfig is the configuration of an image whose layers are not compressed
// and no file systems: cosign kept its signatures as one.
func imageConfig(layers []fullDescriptor) ([]byte, error) {
	ids := make([]string, len(layers))
	steps := make([]struct {
		Created string `json:"created"`
	}, len(layers))
	for i, l := range layers {
		ids[i], steps[i].Created = l.Digest, "0001-01-01T00:00:00Z"
	}
	type rootfs struct {
		Type string   `json:"type"`
		IDs  []string `json:"diff_ids"`
	}
	return json.Marshal(struct {
		Architecture string   `json:"architecture"`
		Created      string   `json:"created"`
		OS           string   `json:"os"`
		History      any      `json:"history"`
		Root         rootfs   `json:"rootfs"`
		Config       struct{} `json:"config"`
	}{Created: "0001-01-01T00:00:00Z", History: steps, Root: rootfs{"layers", ids}})
}
