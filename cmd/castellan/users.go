package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
)

// userPage is the API's answer to a listing.
type userPage struct {
	Users []access.User `json:"users"`
}

func newUsers(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "users",
		Short: "List and change who may sign in",
		Long:  "List and change who may sign in to the console. Every change is in the audit log.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return printAnswer(c.Context(), g, o, *f, "/users", func(page *userPage) error { return g.users(page.Users) })
	}
	var role string
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Add a user; asks for the password",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return g.withPassword(o, func(api *client, password string) error {
				body := map[string]string{"name": args[0], "role": role, "password": password}
				if err := api.do(c.Context(), http.MethodPost, "/users", body, nil); err != nil {
					return err
				}
				_, err := fmt.Fprintf(g.out, "%s may sign in as %s.\n", printable(args[0]), role)
				return err
			})
		},
	}
	create.Flags().StringVar(&role, "role", string(access.Viewer), "role: "+list(access.Roles()))
	password := &cobra.Command{
		Use:   "password NAME",
		Short: "Set a user's password, also a lost administrator's; asks for it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return g.withPassword(o, func(api *client, password string) error {
				return g.changeUser(c.Context(), api, args[0], map[string]any{"password": password}, "has a new password; every session of theirs has ended")
			})
		},
	}
	disable := g.userSwitch(&o, "disable", "Keep a user from signing in", true, "may not sign in any more")
	enable := g.userSwitch(&o, "enable", "Let a user sign in again", false, "may sign in again")
	for _, sub := range []*cobra.Command{create, password, disable, enable} {
		sub.Long = sub.Short + ".\n" + exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	return c
}

// persistent gives a command's subcommands its ask flags, too.
func persistent(c *cobra.Command, o *askOptions) {
	holder := &cobra.Command{}
	o.flags(holder)
	c.PersistentFlags().AddFlagSet(holder.Flags())
}

func (g *globals) userSwitch(o *askOptions, use, short string, disabled bool, done string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			return g.changeUser(c.Context(), api, args[0], map[string]any{"disabled": disabled}, done)
		},
	}
}

func (g *globals) changeUser(ctx context.Context, api *client, name string, change map[string]any, done string) error {
	var page userPage
	if err := api.get(ctx, "/users", nil, &page); err != nil {
		return err
	}
	for _, u := range page.Users {
		if u.Name == name {
			if err := api.do(ctx, http.MethodPatch, fmt.Sprintf("/users/%d", u.ID), change, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(g.out, "%s %s.\n", printable(name), done)
			return err
		}
	}
	return fault.New(fault.NotFound, "no user is called %q", name).With("list them: castellan users")
}

func (g *globals) users(all []access.User) error {
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, u := range all {
		state := cell{"active", good}
		switch {
		case u.Disabled:
			state = cell{"disabled", warn}
		case u.MustChange:
			state = cell{"must change password", warn}
		}
		last := "never"
		if u.LastSignIn != nil {
			last = ago(*u.LastSignIn, now)
		}
		rows = append(rows, []cell{text(u.Name), text(string(u.Role)), state, text(last)})
	}
	return g.table([]string{"NAME", "ROLE", "STATE", "SIGNED IN"}, rows)
}

// withPassword reads a password without showing it, twice at a terminal, or
// one line of standard input, and hands it to do.
func (g *globals) withPassword(o askOptions, do func(api *client, password string) error) error {
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	password, err := g.readPassword()
	if err != nil {
		return err
	}
	return do(api, password)
}

func (g *globals) readPassword() (string, error) {
	fd, ok := terminal(g.in)
	if !ok {
		line, err := bufio.NewReader(g.in).ReadString('\n')
		if err != nil && line == "" {
			return "", fault.New(fault.Invalid, "read password from standard input: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(g.err, prompt)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(g.err)
		return string(b), err
	}
	first, err := ask("new password (12 characters or more): ")
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	again, err := ask("the same again: ")
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	if first != again {
		return "", usagef("the two passwords differ")
	}
	return first, nil
}
