package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// trustImagePage is the API's answer to a listing of images.
type trustImagePage struct {
	Images []store.TrustImage `json:"images"`
	Totals store.TrustTotals  `json:"totals"`
}

// trustPolicyPage is the API's answer to a listing of policies.
type trustPolicyPage struct {
	Policies []store.TrustPolicy `json:"policies"`
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
	all := []*cobra.Command{g.trustPolicyShow(&o), g.trustPolicyTry(&o), g.trustPolicySet(&o), g.trustPolicyHistory(&o)}
	for _, c := range all {
		o.flags(c)
	}
	return all
}

func (g *globals) trustPolicyShow(o *askOptions) *cobra.Command {
	var version int64
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the fleet's trust policy, as the server keeps it",
		Long:  "Print the fleet's trust policy, as the server keeps it.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.Flags().Int64Var(&version, "version", 0, "print this version (default: the newest)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var p store.TrustPolicy
		if err := api.get(c.Context(), "/trust/policy", url.Values{"version": {strconv.FormatInt(version, 10)}}, &p); err != nil {
			return err
		}
		return g.print(*f, p, func() error {
			fmt.Fprintf(g.err, "version %d by %s, %s\n", p.Version, printable(p.Actor), p.Created.Local().Format(time.DateTime))
			_, err := fmt.Fprint(g.out, p.Text)
			return err
		})
	}
	return c
}

func (g *globals) trustPolicySet(o *askOptions) *cobra.Command {
	var comment string
	var after int64
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Make a file the fleet's trust policy",
		Long: `Make a file ("-" is the standard input) the fleet's trust policy. All images that
run are verified anew. It can't name other files: keys, certificates and trusted
roots stand in it, below pem. With --after it is only taken if that version is
the newest still.
` + exitHelp,
		Example: `  castellan trust policy set castellan-trust.yaml --comment "the new key of the build"`,
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&comment, "comment", "", "why it is changed")
	c.Flags().Int64Var(&after, "after", 0, "the version that was changed, 0 for none (default: whatever is the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], store.MaxTrustPolicy)
		if err != nil {
			return fmt.Errorf("read trust policy: %w", err)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if !c.Flags().Changed("after") {
			var p store.TrustPolicy
			if err := api.get(c.Context(), "/trust/policy", nil, &p); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			after = p.Version
		}
		var p store.TrustPolicy
		if err := api.do(c.Context(), http.MethodPut, "/trust/policy", map[string]any{"text": string(b), "comment": comment, "after": after}, &p); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "version %d is the trust policy now; what runs is verified anew: castellan trust images\n", p.Version)
		return err
	}
	return c
}

func (g *globals) trustPolicyHistory(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "history",
		Short: "Say who changed the fleet's trust policy, when and why",
		Long:  "Say who changed the fleet's trust policy, when and why; the newest first.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page trustPolicyPage
		if err := api.get(c.Context(), "/trust/policies", url.Values{"limit": {strconv.Itoa(store.MaxTrustPolicies)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Policies) == 0 {
				fmt.Fprintln(g.err, "there is no trust policy yet; castellan trust policy set FILE")
				return nil
			}
			rows := make([][]cell, 0, len(page.Policies))
			for _, p := range page.Policies {
				rows = append(rows, []cell{{strconv.FormatInt(p.Version, 10), plain}, {p.Created.Local().Format(time.DateTime), plain}, text(p.Actor), text(p.Comment)})
			}
			return g.table([]string{"VERSION", "CHANGED", "BY", "WHY"}, rows)
		})
	}
	return c
}
