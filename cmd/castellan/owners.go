package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
)

// ownerPage is the API's answer to a listing.
type ownerPage struct {
	Owners asset.Owners `json:"owners"`
}

func newOwners(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "owners",
		Short: "Say who is responsible for which images",
		Long: `List the rules that say who is responsible for which images, in their order; of
those that fit an image the last decides. Images, vulnerabilities, secrets and
faults can be narrowed to an owner's.
` + exitHelp,
		Example: `  castellan owners set "shop/*" "Shop team" --contact "#shop"
  castellan owners set --group "prod/pay/*" "Payments"
  castellan secrets --owner "Shop team"`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	list := &cobra.Command{Use: "list", Short: "List the rules", Args: cobra.NoArgs}
	listForm := outputFlag(list)
	for _, sub := range []*cobra.Command{list, g.ownerSet(&o), g.ownerRemove(&o)} {
		sub.Long = sub.Short + ".\n" + sub.Long + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	show := func(c *cobra.Command, f form) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var page ownerPage
		if err := api.get(c.Context(), "/owners", nil, &page); err != nil {
			return err
		}
		return g.print(f, page, func() error { return g.owners(page.Owners) })
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return show(c, *f) }
	list.RunE = func(c *cobra.Command, _ []string) error { return show(c, *listForm) }
	return c
}

func (g *globals) owners(rules asset.Owners) error {
	if len(rules) == 0 {
		fmt.Fprintln(g.err, `nobody is named yet: castellan owners set "shop/*" "Shop team"`)
		return nil
	}
	rows := make([][]cell, 0, len(rules))
	for _, r := range rules {
		of := "images"
		if r.Group != "" {
			of = "group"
		}
		rows = append(rows, []cell{text(r.Name), text(r.Contact), text(of), text(r.Pattern())})
	}
	return g.table([]string{"OWNER", "CONTACT", "OF", "PATTERN"}, rows)
}

func (g *globals) ownerSet(o *askOptions) *cobra.Command {
	var group bool
	var contact string
	c := &cobra.Command{
		Use:   "set PATTERN NAME",
		Short: "Say who is responsible for the images of a pattern",
		Long: `A pattern is one of repositories, without tag (shop/*, registry.example/team/**;
** is every image), or with --group one of groups (cluster/service/container). A
rule with the same pattern is replaced where it stands; a new one is the last.
`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().BoolVar(&group, "group", false, "the pattern is one of groups: the images that they run")
	c.Flags().StringVar(&contact, "contact", "", "how to reach the owner: an address, a channel")
	c.RunE = func(c *cobra.Command, args []string) error {
		r := ownerRule(args[0], group)
		r.Owner = asset.Owner{Name: args[1], Contact: contact}
		if err := r.Check(); err != nil {
			return usageError{err}
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if err := api.do(c.Context(), http.MethodPut, "/owners", r, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "%s is responsible for %s.\n", printable(r.Name), printable(r.Pattern()))
		return err
	}
	return c
}

func ownerRule(pattern string, group bool) asset.OwnerRule {
	if group {
		return asset.OwnerRule{Group: pattern}
	}
	return asset.OwnerRule{Image: pattern}
}

func (g *globals) ownerRemove(o *askOptions) *cobra.Command {
	var group bool
	c := &cobra.Command{Use: "remove PATTERN", Short: "Take a rule away", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&group, "group", false, "the pattern is one of groups")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		name := "image"
		if group {
			name = "group"
		}
		if err := api.do(c.Context(), http.MethodDelete, "/owners?"+url.Values{name: {args[0]}}.Encode(), nil, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "The rule for %s is gone.\n", printable(args[0]))
		return err
	}
	return c
}
