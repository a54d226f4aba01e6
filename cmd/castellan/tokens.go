package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

// tokenPage is the API's answer to a listing.
type tokenPage struct {
	Tokens []access.Token `json:"tokens"`
}

// newToken is the API's answer to a creation: the only time that the secret is
// shown.
type newToken struct {
	Token  access.Token `json:"token"`
	Secret string       `json:"secret"`
}

func newTokens(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "tokens",
		Short: "List, create and revoke API tokens",
		Long:  "List, create and revoke API tokens: for scripts and dashboards.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return printAnswer(c.Context(), g, o, *f, "/tokens", func(page *tokenPage) error { return g.tokens(page.Tokens) })
	}
	for _, sub := range []*cobra.Command{g.tokenCreate(&o), g.tokenRevoke(&o)} {
		sub.Long = sub.Short + ".\n" + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	return c
}

func (g *globals) tokenCreate(o *askOptions) *cobra.Command {
	var scopes []string
	var expires time.Duration
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a token and print its secret, once",
		Example: "  castellan tokens create dashboard --scope workloads:read,events:read --expires 720h",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringSliceVar(&scopes, "scope", nil, "what it may do: "+list(access.Scopes()))
	c.Flags().DurationVar(&expires, "expires", 0, "how long it is valid; 0 is until it is revoked")
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(scopes) == 0 {
			return usagef("a token without --scope may do nothing; the scopes are %s", list(access.Scopes()))
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		body := map[string]any{"name": args[0], "scopes": scopes}
		if expires > 0 {
			body["expires"] = time.Now().Add(expires).UTC()
		}
		var made newToken
		if err := api.do(c.Context(), http.MethodPost, "/tokens", body, &made); err != nil {
			return err
		}
		return g.print(*f, made, func() error {
			if _, ok := terminal(g.out); ok {
				fmt.Fprintln(g.err, "The secret, shown this once:")
			}
			_, err := fmt.Fprintln(g.out, made.Secret)
			return err
		})
	}
	return c
}

func (g *globals) tokenRevoke(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a token; it is refused from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			var page tokenPage
			if err := api.get(c.Context(), "/tokens", nil, &page); err != nil {
				return err
			}
			var found []access.Token
			for _, t := range page.Tokens {
				if t.Name == args[0] || t.Prefix == args[0] {
					found = append(found, t)
				}
			}
			switch len(found) {
			case 1:
			case 0:
				return fault.New(fault.NotFound, "no token is called %q", args[0]).With("list them: castellan tokens")
			default:
				return fault.New(fault.Invalid, "%d tokens are called %q", len(found), args[0]).With("name it by its beginning, as castellan tokens prints it")
			}
			if err := api.do(c.Context(), http.MethodDelete, fmt.Sprintf("/tokens/%d", found[0].ID), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s is revoked.\n", printable(found[0].Name))
			return err
		},
	}
}

func (g *globals) tokens(all []access.Token) error {
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, t := range all {
		var until cell
		used := "never"
		switch {
		case t.Expires == nil:
			until.text = "no end"
		case t.Expires.Before(now):
			until = cell{"expired", warn}
		default:
			until.text = "in " + span(t.Expires.Sub(now))
		}
		if t.LastUsed != nil {
			used = ago(*t.LastUsed, now)
		}
		scopes := make([]string, len(t.Scopes))
		for i, s := range t.Scopes {
			scopes[i] = string(s)
		}
		rows = append(rows, []cell{text(t.Name), text(t.Prefix), text(t.Owner), until, text(used), text(strings.Join(scopes, " "))})
	}
	return g.table([]string{"NAME", "BEGINS WITH", "OWNER", "ENDS", "USED", "SCOPES"}, rows)
}
