package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

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
	d, asked, err := i.draftSeen(ctx, g)
	if err != nil {
		return err
	}
	l, err := i.openLooker(g, d, i.folder())
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
func (i *initFlags) draftSeen(ctx context.Context, g *globals) (d trust.Draft, asked bool, err error) {
	d, err = i.draft(ctx, g, nil)
	return d, len(i.pub) > 0 || i.identity != "" || i.store != "", err
}

// onlySeen leaves out the keys of the ring whose signer was not seen: nobody asked for
// them.
func onlySeen(d *trust.Draft, found []trust.DraftFound) {
	signer := func(k trust.DraftKey) string { return cmp.Or(k.Signer, k.Name) }
	seen := map[string]bool{}
	for _, f := range found {
		for _, s := range f.Signed {
			if s.Named > 0 {
				seen[signer(d.Keys[s.Named-1])] = true
			}
		}
	}
	place := map[int]int{} // where a key was: where it is now
	var keys []trust.DraftKey
	for i, k := range d.Keys {
		if seen[signer(k)] {
			keys = append(keys, k)
			place[i+1] = len(keys)
		}
	}
	for _, f := range found {
		for i := range f.Signed {
			f.Signed[i].Named = place[f.Signed[i].Named]
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
