package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// ResolvePath says which image a name means in an OCI image layout, a folder or a
// tar archive: a tag, a reference or a digest, as the layout has it; without a
// name it is the only one. Of an image of several platforms it is the index.
func ResolvePath(ctx context.Context, path, name string) (signature.Subject, error) {
	s, err := inLayout(ctx, path, func(l *layoutStore) (signature.Subject, error) { return l.resolve(ctx, name) })
	if err != nil {
		return signature.Subject{}, fmt.Errorf("resolve %s: %w", Choice{Name: name}.in(shown(path)), err)
	}
	return s, nil
}

// PathEnvelopes finds the signatures and attestations in an OCI image layout
// that are about the subject: manifests that say so, the tags that stand in for
// lists of referrers, and what cosign saved. It is otherwise like
// Registry.Envelopes.
func PathEnvelopes(ctx context.Context, path string, s signature.Subject) ([]signature.Envelope, error) {
	if err := checkDigest(s.Digest, "subject"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, findWithin)
	defer cancel()
	envelopes, err := inLayout(ctx, path, func(l *layoutStore) ([]signature.Envelope, error) { return l.envelopes(ctx, s) })
	if err != nil {
		err = fmt.Errorf("find signatures of %s in %s: %w", s.Digest, shown(path), err)
	}
	return envelopes, err
}

// layoutStore is a layout with the entries of its index.
type layoutStore struct {
	blobs
	entries []fullDescriptor
	wrong   []error
}

// inLayout opens a layout for as long as do takes.
func inLayout[T any](ctx context.Context, path string, do func(*layoutStore) (T, error)) (T, error) {
	var none T
	f, err := openLayout(ctx, path)
	if err != nil {
		return none, err
	}
	l, err := readLayout(f)
	if err != nil {
		return none, errors.Join(err, f.Close())
	}
	got, err := do(l)
	if e := f.Close(); err == nil {
		err = e
	}
	return got, err
}

func readLayout(f files) (*layoutStore, error) {
	if err := checkLayout(f); err != nil {
		return nil, err
	}
	b, err := small(f, fileIndex, maxManifest)
	if err != nil {
		return nil, err
	}
	entries, wrong, err := parseReferrers(b)
	if err != nil {
		return nil, refuse(fileIndex, err)
	}
	if len(entries) > maxManifests {
		return nil, invalid("more than %d manifests", maxManifests)
	}
	return &layoutStore{blobs{f}, entries, wrong}, nil
}

// isImage says whether an entry of the index may be what was attached to rather
// than what is attached.
func (d fullDescriptor) isImage() bool {
	switch mediaTypeOf(d.MediaType) {
	case typeManifest, typeIndex, typeDockerManifest, typeDockerList:
		kind := d.Annotations[annotationKind]
		return !isArtifact(d.ArtifactType) && kind != cosignSigs && kind != cosignAtts && !strings.HasPrefix(d.tag(), "sha256-")
	}
	return false
}

// names are what the layout calls an entry.
func (d fullDescriptor) names() []string {
	var names []string
	for _, key := range []string{annotationName, "io.containerd.image.name"} {
		if n := d.Annotations[key]; n != "" {
			names = append(names, n)
		}
	}
	return names
}

// tag is the tag that an entry has, alone or at the end of a reference.
func (d fullDescriptor) tag() string {
	n := d.Annotations[annotationName]
	if at := strings.LastIndexByte(n, ':'); at >= 0 && !strings.Contains(n[at:], "/") {
		return n[at+1:]
	}
	return n
}

// isCalled says whether a name means the entry; every image is meant by none.
func (d fullDescriptor) isCalled(name string) bool {
	if name == "" {
		return d.isImage()
	}
	return d.Digest == name || slices.ContainsFunc(d.names(), func(n string) bool { return sameName(n, name) })
}

// resolve finds the image that a name means.
func (l *layoutStore) resolve(ctx context.Context, name string) (signature.Subject, error) {
	read := newResolver(l, Choice{})
	var all []candidate
	var chosen []signature.Subject
	for _, d := range l.entries {
		if d.isImage() {
			all = append(all, candidate{descriptor: d.brief(), names: d.names()})
		}
		if !d.isCalled(name) || slices.ContainsFunc(chosen, func(s signature.Subject) bool { return s.Digest == d.Digest }) {
			continue
		}
		b, err := read.document(ctx, d.brief(), maxManifest, "manifest", l.manifest)
		if err != nil {
			return signature.Subject{}, err
		}
		if a, err := parseAttachment(b); err == nil && a.subject != nil && name == "" {
			continue // it is attached to one
		}
		s, err := subjectOf(d.brief(), b)
		if err != nil {
			return signature.Subject{}, err
		}
		chosen = append(chosen, s)
	}
	switch {
	case len(chosen) == 1:
		return chosen[0], nil
	case len(chosen) > 1:
		return signature.Subject{}, fault.New(fault.Invalid, "several images are in it: %s", listing(all)).With("name one of them, by its digest if need be")
	}
	if checkDigest(name, "image") == nil {
		if s, ok, err := l.below(ctx, read, name); ok || err != nil {
			return s, err
		}
	}
	return signature.Subject{}, fault.New(fault.NotFound, "there is no image %q in it; there is %s", shown(name), listing(all)).With("name one of those")
}

// below finds the manifest of one platform, which only its index names.
func (l *layoutStore) below(ctx context.Context, read *resolver, digest string) (signature.Subject, bool, error) {
	for _, d := range l.entries {
		if t := mediaTypeOf(d.MediaType); !d.isImage() || t != typeIndex && t != typeDockerList {
			continue
		}
		b, err := read.document(ctx, d.brief(), maxManifest, "index", l.manifest)
		if err != nil {
			return signature.Subject{}, false, err
		}
		all, err := read.candidates(ctx, d.brief(), b, 1)
		if err != nil {
			return signature.Subject{}, false, err
		}
		for _, k := range all {
			if k.Digest != digest {
				continue
			}
			if b, err = read.document(ctx, k.descriptor, maxManifest, "manifest", l.manifest); err != nil {
				return signature.Subject{}, false, err
			}
			s, err := subjectOf(k.descriptor, b)
			return s, true, err
		}
	}
	return signature.Subject{}, false, nil
}

// envelopes finds what is about the subject.
func (l *layoutStore) envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	f := newFinder(l, s)
	for _, err := range l.wrong {
		f.leave(err)
	}
	tag := referrersTag(s.Digest)
	var others, tagged, cosigned []fullDescriptor
	for _, d := range l.entries {
		kind := d.Annotations[annotationKind]
		switch named := d.tag(); {
		case named == tag && mediaTypeOf(d.MediaType) == typeIndex:
			tagged = append(tagged, d)
		case named == tag+suffixSignatures, named == tag+suffixAttestations, kind == cosignSigs, kind == cosignAtts:
			cosigned = append(cosigned, d)
		case d.Platform == nil:
			others = append(others, d)
		}
	}
	f.follow(ctx, others, signature.ByReferrer, false)
	f.follow(ctx, cosigned, signature.ByCosignTag, true)
	for _, d := range tagged {
		b, err := newResolver(l, Choice{}).document(ctx, d.brief(), maxManifest, "index", l.manifest)
		var entries []fullDescriptor
		var wrong []error
		if err == nil {
			entries, wrong, err = parseReferrers(b)
		}
		if err != nil {
			f.leave(signature.Refuse(signature.Malformed, "tag %s is to be a list of referrers: %v", tag, err))
			continue
		}
		for _, err := range wrong {
			f.leave(err)
		}
		f.follow(ctx, entries, signature.ByReferrersTag, true)
	}
	return f.result()
}
