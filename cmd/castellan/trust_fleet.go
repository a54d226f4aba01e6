package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/store"
)

// trustImagePage is the API's answer to a listing of images.
type trustImagePage struct {
	Images []store.TrustImage `json:"images"`
	Totals store.TrustTotals  `json:"totals"`
}

// newTrustImages lists what the fleet's agents and the server have verified.
func newTrustImages(g *globals) *cobra.Command {
	var o askOptions
	var state, signer, repository string
	var all bool
	c := &cobra.Command{
		Use:   "images",
		Short: "List the images that run, with who signed them",
		Long: `List the images that run on the server's hosts, with who signed them and whether
the fleet's trust policy allows them; those that need attention first.
` + exitHelp,
		Example: `  castellan trust images --state denied
  castellan trust images --signer build -o json`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	o.flags(c)
	c.Flags().StringVar(&state, "state", "", "only those that are denied, undecided, local, waiting or allowed")
	c.Flags().StringVar(&signer, "signer", "", "only those that this signer of the policy, or this identity, has signed")
	c.Flags().StringVar(&repository, "repository", "", "only those with this text in their repository's name")
	c.Flags().BoolVar(&all, "all", false, "also images that run nowhere: those that did, and those of registries that are watched")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if state != "" && !slices.Contains(store.TrustStates(), store.TrustState(state)) {
			return usageError{fmt.Errorf("there is no state %q", state)}
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		q := url.Values{"running": {strconv.FormatBool(!all)}}
		for name, v := range map[string]string{"state": state, "signer": signer, "repository": repository} {
			if v != "" {
				q.Set(name, v)
			}
		}
		var page trustImagePage
		if page.Images, page.Totals, err = api.trustImages(c.Context(), q); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.trustImages(page.Images) })
	}
	return c
}

// trustImages asks for all images that a query selects, page by page.
func (c *client) trustImages(ctx context.Context, q url.Values) (all []store.TrustImage, totals store.TrustTotals, err error) {
	q.Set("limit", strconv.Itoa(store.MaxPage))
	for {
		var page trustImagePage
		if err := c.get(ctx, "/trust/images", q, &page); err != nil {
			return nil, totals, err
		}
		all, totals = append(all, page.Images...), page.Totals
		if len(page.Images) < store.MaxPage {
			return all, totals, nil
		}
		q.Set("after", strconv.FormatInt(page.Images[len(page.Images)-1].ID, 10))
	}
}

func (g *globals) trustImages(images []store.TrustImage) error {
	if len(images) == 0 {
		fmt.Fprintln(g.err, "no image is known; see castellan workloads, and castellan trust policy show")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(images))
	for i := range images {
		v := &images[i]
		how := plain
		switch v.State {
		case store.TrustDenied, store.TrustUndecided:
			how = bad
		}
		rows = append(rows, []cell{{string(v.State), how}, text(v.Repository + "@" + v.Digest), text(signedBy(v.Signers)),
			{strconv.Itoa(v.Running), plain}, {ago(v.Checked, now), plain}, text(v.Reason)})
	}
	return g.table([]string{"STATE", "IMAGE", "SIGNED BY", "RUNS", "CHECKED", "WHY"}, rows)
}

// signedBy names who signed, as the policy calls them where it does.
func signedBy(signers []store.TrustSigner) string {
	var who []string
	for _, s := range signers {
		name := strings.Join(s.Names, "/")
		if name == "" {
			name = s.Identity
		}
		if s.Attests == "" && !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	if len(who) == 0 {
		return "-"
	}
	return strings.Join(who, ", ")
}

// trustPolicyOfFleet are the commands about the policy that a server keeps.
func (g *globals) trustPolicyOfFleet() []*cobra.Command {
	var o askOptions
	p := &fleetPolicy{
		name: "trust", route: "/trust", command: "castellan trust policy set", max: store.MaxTrustPolicy, keeps: store.MaxTrustPolicies,
		set: `All images that
run are verified anew. It can't name other files: keys, certificates and trusted
roots stand in it, below pem. With --after it is only taken if that version is
the newest still.`,
		example: `castellan trust policy set castellan-trust.yaml --comment "the new key of the build"`,
		next:    "what runs is verified anew: castellan trust images",
	}
	all := []*cobra.Command{p.showCommand(g, &o), g.trustPolicyTry(&o), p.setCommand(g, &o), p.historyCommand(g, &o)}
	for _, c := range all {
		o.flags(c)
	}
	return all
}
