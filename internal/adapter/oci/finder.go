package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// Limits on what is read to find the envelopes of one image. Whoever may push
// to a repository may attach as much as he likes.
const (
	// maxReferrers bounds the entries of lists of referrers that are read, and
	// maxReferrerPages the pages they come in.
	maxReferrers     = 4096
	maxReferrerPages = 64
	// maxFetched bounds the manifests that are fetched to see what they hold:
	// images have up to some dozens. Those whose type promises an envelope come
	// first.
	maxFetched = 256
	// maxEnvelopes bounds the envelopes; cosign itself reads a thousand.
	maxEnvelopes = 1000
	// maxEnvelope bounds one: an attested bill of materials of a large image has
	// some megabytes, and a third more as it is encoded.
	maxEnvelope = 16 << 20
	// maxFound bounds all that is fetched, manifests included.
	maxFound = 64 << 20
	// finders is how many requests are under way at once, as many as connections
	// are kept open.
	finders = 8
	// findWithin bounds the time of it all, with the pauses that a busy registry
	// asks for: whoever deploys waits for the answer.
	findWithin = 30 * time.Second
	// maxLeft bounds the reasons that are told of what was left out.
	maxLeft = 20
)

// finder collects the envelopes of one image.
type finder struct {
	store
	subject signature.Subject
	slots   chan struct{}
	all     sync.WaitGroup

	mu      sync.Mutex
	seen    map[string]bool // manifests, by digest
	fetched int
	most    int64 // bytes that may be fetched
	budget  int64 // what is left of them
	found   []found
	left    signature.Incomplete
	ended   bool // that time is over was told
}

// found is an envelope with its place in its manifest.
type found struct {
	signature.Envelope
	layer int
}

func newFinder(s store, about signature.Subject) *finder {
	return &finder{store: s, subject: about, slots: make(chan struct{}, finders), seen: map[string]bool{}, budget: maxFound, most: maxFound}
}

// leave notes what was left out.
func (f *finder) leave(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if f.ended {
			return // everything that was under way ended with it
		}
		f.ended = true
	}
	if len(f.left.Left) == maxLeft {
		f.left.More++
		return
	}
	f.left.Left = append(f.left.Left, err)
}

// result waits for all that was begun and returns what was found, in the same
// order whoever answered first.
func (f *finder) result() ([]signature.Envelope, error) {
	f.all.Wait()
	slices.SortFunc(f.found, func(a, b found) int {
		return cmp.Or(cmp.Compare(order(a.Way), order(b.Way)), strings.Compare(a.Digest, b.Digest), cmp.Compare(a.layer, b.layer))
	})
	envelopes := make([]signature.Envelope, len(f.found))
	for i, e := range f.found {
		envelopes[i] = e.Envelope
	}
	if len(f.left.Left) == 0 {
		return envelopes, nil
	}
	return envelopes, &f.left
}

func order(w signature.Way) int {
	return slices.Index([]signature.Way{signature.ByReferrer, signature.ByReferrersTag, signature.ByCosignTag}, w)
}

// limited is the error for a limit of what is read.
func limited(format string, args ...any) error {
	return fault.New(fault.Exhausted, "%w", &tooMuch{fmt.Sprintf(format, args...)}).
		With("remove from the repository what is attached to the image and no longer needed")
}

// tooMuch says that more is attached to an image than is read of it.
type tooMuch struct{ text string }

func (t *tooMuch) Error() string { return t.text }

// TooMuch reports whether an error of Envelopes is one of the image's: more is
// attached to it than is read. An Exhausted one can be the registry's, too.
func TooMuch(err error) bool { return errors.As(err, new(*tooMuch)) }

// follow reads manifests in the background that a list has. Lists of referrers
// claim that all of theirs are about the subject.
func (f *finder) follow(ctx context.Context, entries []fullDescriptor, way signature.Way, claimed bool) {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b fullDescriptor) int { return promises(b.ArtifactType) - promises(a.ArtifactType) })
	var wanted []fullDescriptor
	var cut int
	for _, d := range entries {
		switch f.admit(d) {
		case wantedEntry:
			wanted = append(wanted, d)
		case surplusEntry:
			cut++
		}
	}
	if cut > 0 { // told first, so that it is among those that are told
		f.leave(limited("%d of the manifests attached to %s were not read: at most %d are", cut, short(f.subject.Digest), maxFetched))
	}
	for _, d := range wanted {
		f.all.Go(func() {
			b, err := f.read(ctx, d, maxManifest, "manifest", f.manifest)
			if err != nil {
				f.leave(err)
				return
			}
			f.open(ctx, b, d.Digest, way, claimed)
		})
	}
}

// admission is what becomes of an entry of a list.
type admission int

const (
	skippedEntry admission = iota // it cannot hold envelopes, or was read before
	wantedEntry                   // it is read
	surplusEntry                  // there are too many
)

// admit counts a manifest that is to be read. Only image manifests hold
// envelopes, so no list leads to another, and none to itself.
func (f *finder) admit(d fullDescriptor) admission {
	if t := mediaTypeOf(d.MediaType); t != typeManifest && t != typeDockerManifest || d.Digest == f.subject.Digest {
		return skippedEntry
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[d.Digest] {
		return skippedEntry
	}
	f.seen[d.Digest] = true
	if f.fetched == maxFetched {
		return surplusEntry
	}
	f.fetched++
	return wantedEntry
}

// open looks into a manifest whose digest is right, and fetches in the background
// what envelopes it has.
func (f *finder) open(ctx context.Context, manifest []byte, digest string, way signature.Way, claimed bool) {
	a, err := parseAttachment(manifest)
	if err != nil {
		f.leave(signature.Refuse(signature.Malformed, "manifest %s: %v", short(digest), err))
		return
	}
	if !claimed && (a.subject == nil || a.subject.Digest != f.subject.Digest) {
		return // one of the others in a layout
	}
	layers := a.envelopes()
	if len(layers) == 0 {
		return
	}
	if err := a.about(digest, f.subject, way != signature.ByCosignTag); err != nil {
		f.leave(err)
		return
	}
	for n, l := range layers {
		f.all.Go(func() {
			payload, err := f.read(ctx, l, maxEnvelope, "signature", f.blob)
			if err != nil {
				f.leave(fmt.Errorf("manifest %s: %w", short(digest), err))
				return
			}
			annotations := maps.Clone(a.annotations)
			if annotations == nil {
				annotations = map[string]string{}
			}
			maps.Copy(annotations, l.Annotations)
			f.keep(found{layer: n, Envelope: signature.Envelope{
				Digest: digest, ArtifactType: cut(a.kind(), maxShown), MediaType: cut(l.MediaType, maxShown),
				Annotations: annotations, Payload: payload, Way: way,
			}})
		})
	}
}

func (f *finder) keep(e found) {
	f.mu.Lock()
	full := len(f.found) == maxEnvelopes
	if !full {
		f.found = append(f.found, e)
	}
	f.mu.Unlock()
	if full {
		f.leave(limited("more than %d signatures are attached to %s", maxEnvelopes, short(f.subject.Digest)))
	}
}

// read returns what a descriptor names: what it carries, or what is kept
// elsewhere.
func (f *finder) read(ctx context.Context, d fullDescriptor, limit int64, what string, open func(context.Context, descriptor) (io.ReadCloser, error)) ([]byte, error) {
	if err := d.brief().check(what); err != nil {
		return nil, signature.Refuse(signature.Malformed, "%v", err)
	}
	if d.Size > limit {
		return nil, signature.Refuse(signature.TooLarge, "%s %s has %d bytes, and at most %d are read", what, short(d.Digest), d.Size, limit)
	}
	if d.Size == 0 {
		return nil, signature.Refuse(signature.Malformed, "%s %s is empty", what, short(d.Digest))
	}
	if len(d.Data) > 0 {
		if int64(len(d.Data)) != d.Size || digestOf(d.Data, d.Digest) != d.Digest {
			return nil, signature.Refuse(signature.Malformed, "%s %s: its descriptor carries other bytes than it names", what, short(d.Digest))
		}
		return d.Data, nil
	}
	if err := f.spend(d.Size); err != nil {
		return nil, err
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	body, err := open(ctx, d.brief())
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", what, short(d.Digest), err)
	}
	b, err := readVerified(body, d.brief(), limit, what)
	return b, errors.Join(err, body.Close())
}

// spend takes from what may be fetched.
func (f *finder) spend(n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > f.budget {
		return limited("more than %d bytes are attached to %s", f.most, short(f.subject.Digest))
	}
	f.budget -= n
	return nil
}
