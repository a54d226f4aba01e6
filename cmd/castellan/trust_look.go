package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// lookAtOnce is how many images are looked at at a time.
	lookAtOnce = 4
	// maxLooked bounds the signatures of one image that are opened: a draft with
	// more is nothing that people read.
	maxLooked = 100
)

// looker finds out who has signed images, and which of them were named.
type looker struct {
	places  *places
	openers map[signature.Kind]trust.Opener
	named   []*trust.Signer   // by their place in the draft
	over    map[string]string // keys of the ring that count no more, by fingerprint
	at      time.Time
}

// openLooker opens the doors with the roots that the flags name, and with the keys
// of the ring. The caller closes places.
func (i *initFlags) openLooker(g *globals, d trust.Draft, folder string) (*looker, error) {
	l := &looker{at: time.Now(), over: map[string]string{}}
	b, n, err := namedPolicy(d)
	if err != nil {
		return nil, err
	}
	p, err := trust.Read(b, "the command line", trust.Folder(folder))
	if err != nil {
		return nil, ofFlags(err)
	}
	l.named = make([]*trust.Signer, n)
	for _, s := range p.Signers {
		place, err := strconv.Atoi(strings.TrimPrefix(s.Name, "named-"))
		if err != nil || place < 1 || place > n {
			return nil, fmt.Errorf("a signer %s in a policy that was just made", s.Name)
		}
		l.named[place-1] = s
	}
	if l.openers, err = openers(p.Roots(), nil); err != nil {
		return nil, err
	}
	ring, err := i.ring(g).List(l.at)
	if err != nil {
		return nil, err
	}
	for _, k := range ring {
		if k.State == trust.KeyLost || k.State == trust.KeyRetired {
			l.over[k.Fingerprint] = fmt.Sprintf("the key %s of the ring, which is %s", k.ID(), k.State)
		}
	}
	l.places, err = g.openPlaces(i.placeFlags)
	return l, err
}

// namedPolicy is a policy whose signers are those of a draft, each by its place
// there, from 1 on. It decides nothing: its roots and signers are what is wanted.
func namedPolicy(d trust.Draft) (b []byte, n int, err error) {
	keys, signers, stores := doc{}, doc{}, doc{}
	add := func(by doc) { n++; signers[fmt.Sprintf("named-%d", n)] = by }
	for i, k := range d.Keys {
		name := fmt.Sprintf("key-%d", i+1)
		if keys[name] = (doc{"file": k.File}); k.PEM != "" {
			keys[name] = doc{"pem": k.PEM}
		}
		add(doc{"key": name})
	}
	for _, k := range d.Keyless {
		add(doc{"keyless": doc{"issuer": k.Issuer, "subject": k.Subject}})
	}
	for i, c := range d.Certificates {
		name := fmt.Sprintf("store-%d", i+1)
		if c.Profile != "" {
			stores[name] = doc{"kind": "signingAuthority", "file": c.File}
			add(doc{"awsSigner": doc{"store": name, "profile": c.Profile}})
			continue
		}
		stores[name] = doc{"kind": "ca", "file": c.File}
		add(doc{"certificate": doc{"store": name, "subject": c.Subject}})
	}
	roots := doc{"keys": keys, "stores": stores}
	if d.TrustedRoot != "" {
		roots["sigstore"] = []string{d.TrustedRoot}
	}
	b, err = json.Marshal(doc{"version": 1, "roots": roots, "signers": signers, "images": []doc{{"match": "**", "deny": "nothing is decided by this"}}})
	return b, n, err
}

// look says what is attached to an image. An error is one that leaves unknown
// whether it is signed.
func (l *looker) look(ctx context.Context, name string) (trust.DraftFound, error) {
	n, err := l.places.find(ctx, name)
	if err == nil && n.repository == "" {
		err = fault.New(fault.Invalid, "%s is of no repository, so that no rule could be for it", name).With("say for which repository it is taken: --as ghcr.io/acme/shop")
	}
	if err != nil {
		return trust.DraftFound{}, err
	}
	s, err := n.whole(ctx)
	if err != nil {
		return trust.DraftFound{}, err
	}
	out := trust.DraftFound{Pattern: repositoryPattern(n.repository), Image: n.pinned(s.Digest)}
	if n.path != "" {
		out.Image = n.repository + "@" + s.Digest
	}
	all, err := n.Envelopes(ctx, s)
	var some *signature.Incomplete
	switch {
	case errors.As(err, &some) && ctx.Err() == nil:
		out.Notes = append(out.Notes, err.Error())
	case err != nil:
		return out, err
	}
	if len(all) > maxLooked {
		out.Notes = append(out.Notes, fmt.Sprintf("%d signatures and attestations, of which %d were looked at", len(all), maxLooked))
		all = all[:maxLooked]
	}
	for _, e := range all {
		saw, err := l.sighted(ctx, e, s)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if err != nil {
			out.Notes = append(out.Notes, "not believed: "+err.Error())
			continue
		}
		out.Signed = append(out.Signed, saw)
	}
	slices.SortStableFunc(out.Signed, func(a, b trust.DraftSighting) int {
		return cmp.Or(cmp.Compare(b.Named, a.Named), order(b.Held)-order(a.Held), strings.Compare(a.Who(), b.Who()))
	})
	return out, nil
}

// sighted says whose an envelope is: as the roots vouch for it, else as it claims.
func (l *looker) sighted(ctx context.Context, e signature.Envelope, s signature.Subject) (trust.DraftSighting, error) {
	kind, claimed := signature.Sigstore, sigstore.Claimed
	if e.MediaType == notary.JWS || e.MediaType == notary.COSE {
		kind, claimed = signature.Notary, notary.Claimed
	}
	signed, err := l.openers[kind].Open(ctx, e, s, l.at)
	var refused *signature.Refusal
	if errors.As(err, &refused) && refused.Reason == signature.NoRoot {
		c, err := claimed(e, s)
		if k := l.over[c.Identity.Key]; err == nil && k != "" {
			err = errors.New("it says that it was signed with " + k)
		}
		return trust.DraftSighting{Claim: c}, err
	}
	if err != nil {
		return trust.DraftSighting{}, err
	}
	out := trust.DraftSighting{Claim: signature.Claim{Kind: kind, Identity: signed.Identity}, Held: true}
	if signed.Statement != nil {
		out.Attests = signed.Statement.Predicate
	}
	out.Named = 1 + slices.IndexFunc(l.named, func(who *trust.Signer) bool { return who.Is(signed.Identity) })
	return out, nil
}

// order has what is true after what is not.
func order(is bool) int {
	if is {
		return 1
	}
	return 0
}

// looked is what became of one image.
type looked struct {
	name  string
	found trust.DraftFound
	err   error
}

// lookAt looks at images, several at a time.
func (l *looker) lookAt(ctx context.Context, names []string) []looked {
	all := make([]looked, len(names))
	var group errgroup.Group
	group.SetLimit(lookAtOnce)
	for i, name := range names {
		group.Go(func() error {
			all[i].name = name
			all[i].found, all[i].err = l.look(ctx, name)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	return all
}
