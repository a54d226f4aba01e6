package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/store"
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
	named   []*trust.Signer // by their place in the draft
	at      time.Time
}

// openLooker opens the doors with the roots that the flags name, and with the keys
// of the ring. The caller closes places.
func (i *initFlags) openLooker(ctx context.Context, g *globals, d trust.Draft, folder string) (*looker, error) {
	keys, signers, stores := doc{}, doc{}, doc{}
	n := 0
	add := func(by doc) { n++; signers[fmt.Sprintf("named-%d", n)] = by }
	for j, k := range d.Keys {
		name := fmt.Sprintf("key-%d", j+1)
		keys[name] = doc{"file": k.File}
		add(doc{"key": name})
	}
	for _, k := range d.Keyless {
		add(doc{"keyless": doc{"issuer": k.Issuer, "subject": k.Subject}})
	}
	for j, c := range d.Certificates {
		name := fmt.Sprintf("store-%d", j+1)
		stores[name] = doc{"kind": "ca", "file": c.File}
		add(doc{"certificate": doc{"store": name, "subject": c.Subject}})
	}
	roots := doc{"keys": keys, "stores": stores}
	if d.TrustedRoot != "" {
		roots["sigstore"] = []string{d.TrustedRoot}
	}
	b, err := json.Marshal(doc{"version": 1, "roots": roots, "signers": signers, "images": []doc{{"match": "**", "deny": "nothing is decided by this"}}})
	if err != nil {
		return nil, err
	}
	p, err := trust.Read(b, "the command line", trust.Folder(folder))
	if err != nil {
		return nil, ofFlags(err)
	}
	l := &looker{at: time.Now(), named: make([]*trust.Signer, n)}
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
	l.places, err = g.openPlaces(i.placeFlags)
	return l, err
}

// look says what is attached to an image. An error is one that leaves unknown
// whether it is signed.
func (l *looker) look(ctx context.Context, name string) (trust.DraftFound, error) {
	n, err := l.places.find(ctx, name)
	if err != nil {
		return trust.DraftFound{}, err
	}
	s, err := n.whole(ctx)
	if err != nil {
		return trust.DraftFound{}, err
	}
	out := trust.DraftFound{Pattern: repositoryPattern(n.repository), Image: n.pinned(s.Digest)}
	if n.path != "" {
		out.Pattern = "**"
		if n.repository != "" {
			out.Pattern, out.Image = n.repository, n.repository+"@"+s.Digest
		}
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

// initSeen drafts a policy from the signatures that images have already.
func (g *globals) initSeen(ctx context.Context, names []string, i initFlags) error {
	for _, name := range names {
		if strings.Contains(name, "*") {
			return usagef("--look needs images and no patterns: %s; name some that are signed, as ghcr.io/acme/shop:2", name)
		}
	}
	if i.running {
		more, err := g.runningImages(ctx, i.askOptions)
		if err != nil {
			return err
		}
		names = append(names, more...)
	}
	if len(names) > maxTaskImages {
		return usagef("%d images, and at most %d are looked at in one run", len(names), maxTaskImages)
	}
	d, asked, err := i.draftSeen(g)
	if err != nil {
		return err
	}
	l, err := i.openLooker(ctx, g, d, i.folder())
	if err != nil {
		return err
	}
	defer l.places.Close()
	all := l.lookAt(ctx, names)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := g.printLooked(all, d.Keys, i.policy == "-"); err != nil {
		return err
	}
	var found []trust.DraftFound
	var failed error
	for _, one := range all {
		if one.err != nil {
			fmt.Fprintf(g.err, "not looked at: %s: %s\n", printable(one.name), printable(one.err.Error()))
			if r := fault.Remedy(one.err); r != "" {
				fmt.Fprintf(g.err, "  remedy: %s\n", printable(r))
			}
			failed = errSaid
			continue
		}
		found = append(found, one.found)
	}
	if len(found) == 0 {
		return failed
	}
	if !asked {
		onlySeen(&d, found)
	}
	b, err := trust.FirstOfSeen(d, asked, found, l.at)
	if err != nil {
		return err
	}
	return errors.Join(g.writeFirst(i.policy, b), failed)
}

// draftSeen is what the flags mean; without a word about who signs, the active keys
// of the ring are known, and required only where they have signed.
func (i *initFlags) draftSeen(g *globals) (d trust.Draft, asked bool, err error) {
	d, err = i.draft(g, nil)
	return d, len(i.pub) > 0 || i.identity != "" || i.store != "", err
}

// onlySeen leaves out the keys of the ring that were not seen: nobody asked for
// them.
func onlySeen(d *trust.Draft, found []trust.DraftFound) {
	place := map[int]int{} // where a key was: where it is now
	var keys []trust.DraftKey
	for _, f := range found {
		for i := range f.Signed {
			s := &f.Signed[i]
			if s.Named == 0 {
				continue
			}
			if place[s.Named] == 0 {
				keys = append(keys, d.Keys[s.Named-1])
				place[s.Named] = len(keys)
			}
			s.Named = place[s.Named]
		}
	}
	d.Keys = keys
}

// printLooked says of each image who was seen to have signed it.
func (g *globals) printLooked(all []looked, keys []trust.DraftKey, aside bool) error {
	to := *g
	if aside {
		to.out = g.err
	}
	var rows [][]cell
	for _, one := range all {
		if one.err != nil {
			continue
		}
		signed := false
		image := one.found.Image
		told := map[string]bool{}
		for _, s := range one.found.Signed {
			if s.Attests != "" {
				continue
			}
			who := s.Who()
			if 0 < s.Named && s.Named <= len(keys) {
				who = cmp.Or(keys[s.Named-1].Name, keys[s.Named-1].File) + ", " + who
			}
			state := cell{"claimed, held against nothing", warn}
			switch {
			case s.Named > 0:
				state = cell{"named", good}
			case s.Held:
				state = cell{"genuine, not decided on", warn}
			}
			if signed = true; !told[s.Who()+state.text] {
				rows = append(rows, []cell{text(image), state, text(who)})
				image = ""
			}
			told[s.Who()+state.text] = true
		}
		if !signed {
			rows = append(rows, []cell{text(image), {"unsigned", bad}, text(strings.Join(one.found.Notes, "; "))})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return to.table([]string{"IMAGE", "SIGNATURE", "BY"}, rows)
}

// runningImages are the images of registries that run on the server's hosts.
func (g *globals) runningImages(ctx context.Context, o askOptions) ([]string, error) {
	api, err := g.dial(o)
	if err != nil {
		return nil, err
	}
	images, _, err := api.trustImages(ctx, url.Values{"running": {"true"}})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range images {
		if v.State == store.TrustLocal {
			fmt.Fprintf(g.err, "not looked at: %s was built on its host, and is in no registry\n", printable(v.Repository+" "+v.Digest))
			continue
		}
		out = append(out, v.Repository+"@"+v.Digest)
	}
	if len(out) == 0 {
		return nil, fault.New(fault.NotFound, "the server knows no image of a registry that runs").With("see castellan workloads; or name images: castellan trust init --look IMAGE")
	}
	return out, nil
}
