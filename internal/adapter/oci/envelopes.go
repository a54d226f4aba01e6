package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// Resolve says what a reference means now: the digest, the media type and the
// size of an image's manifest or index, checked against its bytes. Tags are
// resolved nowhere else, so that what is verified is what was signed.
func (r *Registry) Resolve(ctx context.Context, reference string) (signature.Subject, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return signature.Subject{}, err
	}
	repos, err := r.places(ref.Context())
	if err != nil {
		return signature.Subject{}, err
	}
	ctx = briskly(ctx)
	var failed error
	for _, repo := range repos {
		s, err := r.resolveIn(ctx, repo, ref.Identifier())
		if err == nil {
			s.Repository = ref.Context().Name()
			return s, nil
		}
		failed = errors.Join(failed, fmt.Errorf("resolve %s in %s: %w", shown(reference), repo.RegistryStr(), err))
		if ctx.Err() != nil || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Corrupt) {
			break
		}
	}
	return signature.Subject{}, failed
}

func (r *Registry) resolveIn(ctx context.Context, repo name.Repository, id string) (signature.Subject, error) {
	in, err := r.enter(ctx, repo)
	if err != nil {
		return signature.Subject{}, err
	}
	d, b, err := in.head(ctx, id)
	if err != nil {
		return signature.Subject{}, err
	}
	return subjectOf(d, b)
}

// subjectOf describes a manifest or index. What is no image can be signed, too.
func subjectOf(d descriptor, b []byte) (signature.Subject, error) {
	var other *notAnImage
	if _, err := parseDocument(b, d.MediaType); err != nil && !errors.As(err, &other) {
		return signature.Subject{}, refuse("manifest "+short(d.Digest), err)
	}
	var inside struct{ MediaType string }
	if d.MediaType == "" {
		if err := json.Unmarshal(b, &inside); err != nil {
			return signature.Subject{}, refuse("manifest "+short(d.Digest), err)
		}
		d.MediaType = mediaTypeOf(inside.MediaType)
	}
	return signature.Subject{Digest: d.Digest, MediaType: cut(d.MediaType, maxShown), Size: int64(len(b))}, nil
}

// Envelopes finds the signatures and attestations that are attached to an image:
// in the registry's list of its referrers, in the tag that stands in for that
// list where the registry has none, and in the tags of older cosign. Of the
// subject only the repository and the digest are needed. What is attached to
// what is attached is not looked at, and nothing is said of what they are worth.
//
// Without an error these are all there are. With one, a *signature.Incomplete
// says what was left out and why, and those that were found come with it. A
// mirror that has none is no answer: its registry is asked, too.
func (r *Registry) Envelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	return r.find(ctx, s, current|old, r.options.MaxEnvelopes)
}

// EnvelopesWithin is Envelopes with other bounds than Options.MaxEnvelopes.
func (r *Registry) EnvelopesWithin(ctx context.Context, s signature.Subject, most int64) ([]signature.Envelope, error) {
	return r.find(ctx, s, current|old, most)
}

// CurrentEnvelopes is Envelopes without those in the tags of older cosign.
func (r *Registry) CurrentEnvelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	return r.find(ctx, s, current, r.options.MaxEnvelopes)
}

// OldEnvelopes is Envelopes with nothing but those.
func (r *Registry) OldEnvelopes(ctx context.Context, s signature.Subject) ([]signature.Envelope, error) {
	return r.find(ctx, s, old, r.options.MaxEnvelopes)
}

// half is where envelopes are looked for.
type half int

const (
	current half = 1 << iota // by the list of referrers, or the tag that stands in for it
	old                      // by the tags of older cosign
)

func (r *Registry) find(ctx context.Context, s signature.Subject, in half, most int64) ([]signature.Envelope, error) {
	repo, err := repositoryOf(s)
	if err != nil {
		return nil, err
	}
	repos, err := r.places(repo)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(briskly(ctx), findWithin)
	defer cancel()
	var envelopes []signature.Envelope
	for _, repo := range repos {
		if envelopes, err = r.envelopesIn(ctx, repo, s, in, most); err == nil && len(envelopes) > 0 || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("find signatures of %s@%s: %w", repo.Name(), s.Digest, err)
	}
	return envelopes, err
}

// repositoryOf is where a subject is.
func repositoryOf(s signature.Subject) (name.Repository, error) {
	if err := checkDigest(s.Digest, "subject"); err != nil {
		return name.Repository{}, err
	}
	ref, err := parseReference(s.Repository + "@" + s.Digest)
	if err != nil {
		return name.Repository{}, err
	}
	return ref.Context(), nil
}

func (r *Registry) envelopesIn(ctx context.Context, repo name.Repository, s signature.Subject, of half, most int64) ([]signature.Envelope, error) {
	in, err := r.enter(ctx, repo)
	if err != nil {
		return nil, &signature.Incomplete{Left: []error{err}}
	}
	f := newFinder(in, s)
	if most > 0 {
		f.most = min(f.most, most)
		f.budget = f.most
	}
	if of&current != 0 {
		f.all.Go(func() { in.referrers(ctx, f) })
	}
	if of&old != 0 {
		for _, suffix := range []string{suffixSignatures, suffixAttestations} {
			f.all.Go(func() { in.cosigned(ctx, f, referrersTag(s.Digest)+suffix) })
		}
	}
	return f.result()
}

// support is what is known of lists of referrers.
type support struct{ atomic.Int32 }

const (
	unknownSupport = iota
	hasReferrers
	lacksReferrers
)

// maxSupported bounds the registries of which it is remembered that they have
// lists. An installation knows a few; names of others come from what is deployed.
const maxSupported = 1000

// listsOf is what is known of all of a registry. That one repository has lists is
// good for the others: where one has none all the same, its answer says so, and that
// costs one request more. The contrary is not: some registries answer for a
// repository that isn't there as if they had no lists, and who took their word
// would find no signature of any other.
func (r *Registry) listsOf(host string) *support {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists[host] == nil {
		if len(r.lists) >= maxSupported {
			clear(r.lists)
		}
		r.lists[host] = &support{}
	}
	return r.lists[host]
}

// errNoReferrers says that a registry keeps no lists of referrers.
var errNoReferrers = errors.New("the registry has no lists of referrers")

// referrers follows the list of a subject's referrers, or, where the registry
// has none, the tag that stands in for it. As long as it isn't known which, both
// are asked for at once, and a tag beside a list is not used: no client would.
func (r *repository) referrers(ctx context.Context, f *finder) {
	var tagged []fullDescriptor
	var failed []error
	var asked sync.WaitGroup
	known := r.lists.Load()
	if known == unknownSupport {
		known = r.all.Load()
	}
	if known != hasReferrers {
		asked.Go(func() { tagged, failed = r.tagged(ctx, f.subject.Digest) })
	}
	err := errNoReferrers
	if known != lacksReferrers {
		err = r.referrersOf(ctx, f.subject.Digest, func(entries []fullDescriptor, wrong []error) bool {
			for _, w := range wrong {
				f.leave(w)
			}
			f.follow(ctx, entries, signature.ByReferrer, true)
			return true
		})
	}
	asked.Wait()
	switch {
	case err == nil:
		r.lists.Store(hasReferrers)
		r.all.Store(hasReferrers)
		return
	case !errors.Is(err, errNoReferrers):
		f.leave(fmt.Errorf("list referrers: %w", err))
		return
	}
	if r.all.Load() != hasReferrers {
		r.lists.Store(lacksReferrers)
	}
	if known == hasReferrers {
		tagged, failed = r.tagged(ctx, f.subject.Digest) // it had them a moment ago
	}
	for _, err := range failed {
		f.leave(err)
	}
	f.follow(ctx, tagged, signature.ByReferrersTag, true)
}

// referrersOf asks for the list of a manifest's referrers page by page and calls
// each with every page, as long as it returns true. The error is errNoReferrers
// where the registry keeps no such lists.
func (r *repository) referrersOf(ctx context.Context, digest string, each func([]fullDescriptor, []error) bool) error {
	address := *r.address("referrers", digest)
	listed := 0
	for page := range maxReferrerPages {
		b, header, err := r.list(ctx, address, typeIndex)
		if page == 0 && (hasNone(err) || err == nil && mediaTypeOf(header.Get("Content-Type")) != typeIndex) {
			return errNoReferrers
		}
		if err != nil {
			return err
		}
		entries, wrong, err := parseReferrers(b)
		if err != nil {
			return fault.New(fault.Invalid, "parse the registry's answer: %w", err).With("is that a registry, and is nothing else in front of it?")
		}
		most := min(len(entries), maxReferrers-listed)
		if !each(entries[:most], wrong) {
			return nil
		}
		if most < len(entries) {
			return limited("the list of referrers has more than %d entries", maxReferrers)
		}
		listed += most
		next, err := nextPage(header.Values("Link"), address)
		if err != nil || next == "" {
			return err
		}
		address.RawQuery = next
	}
	return limited("the list of referrers has more than %d pages", maxReferrerPages)
}

// hasNone says whether an answer is that of a registry that knows no lists of
// referrers. Nobody agreed on it before there were any.
func hasNone(err error) bool {
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

// tagged reads the list of referrers that a tag stands in for.
func (r *repository) tagged(ctx context.Context, digest string) ([]fullDescriptor, []error) {
	tag := referrersTag(digest)
	d, b, err := r.head(ctx, tag)
	if fault.Is(err, fault.NotFound) || err == nil && d.Digest == digest {
		return nil, nil // some registries take the tag for the digest
	}
	if err != nil {
		return nil, []error{fmt.Errorf("read tag %s: %w", tag, err)}
	}
	entries, wrong, err := parseReferrers(b)
	if err != nil {
		return nil, []error{signature.Refuse(signature.Malformed, "tag %s is to be a list of referrers: %v", tag, err)}
	}
	return entries, wrong
}

// cosigned opens the manifest that an older cosign kept under a tag.
func (r *repository) cosigned(ctx context.Context, f *finder, tag string) {
	d, b, err := r.head(ctx, tag)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		f.leave(fmt.Errorf("read tag %s: %w", tag, err))
	default:
		f.open(ctx, b, d.Digest, signature.ByCosignTag, true)
	}
}
