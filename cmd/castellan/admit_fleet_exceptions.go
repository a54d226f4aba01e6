package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// admitExceptionPage is the API's answer to a listing of exceptions.
type admitExceptionPage struct {
	Exceptions []store.AdmissionException `json:"exceptions"`
}

func (g *globals) admitExceptions() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "exceptions",
		Short: "Make, list and withdraw exceptions from the admission policy",
		Long: `Make, list and withdraw exceptions from the admission policy: leave for what a rule
would refuse, for a time, with somebody who answers for it.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	all := []*cobra.Command{g.admitExceptionList(&o), g.admitExceptionAdd(&o), g.admitExceptionWithdraw(&o)}
	for _, x := range all {
		o.flags(x)
	}
	c.AddCommand(all...)
	return c
}

func (g *globals) admitExceptionList(o *askOptions) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the exceptions that hold",
		Long:  "List the exceptions that hold, the newest first.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.Flags().BoolVar(&all, "all", false, "also those that are over")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page admitExceptionPage
		if err := api.get(c.Context(), "/admit/exceptions", url.Values{"all": {strconv.FormatBool(all)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.admitExceptionTable(page.Exceptions) })
	}
	return c
}

func (g *globals) admitExceptionTable(all []store.AdmissionException) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "there is no exception")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for i := range all {
		e := &all[i]
		until := cell{lastDay(e.Expires), plain}
		switch {
		case !e.Withdrawn.IsZero():
			until = cell{"withdrawn by " + printable(e.WithdrawnBy), faint}
		case !e.Holds(now):
			until = cell{"expired " + lastDay(e.Expires), faint}
		}
		rows = append(rows, []cell{text(e.ID), text(strings.Join(e.Rules, ", ")), text(exceptedWhat(e)), until, text(e.Owner), text(e.By), text(e.Reason)})
	}
	return g.table([]string{"EXCEPTION", "RULES", "FOR", "UNTIL", "OWNER", "BY", "REASON"}, rows)
}

// exceptedWhat says what an exception is for.
func exceptedWhat(e *store.AdmissionException) string {
	var parts []string
	for _, p := range [...][2]string{{"image", e.Image}, {"container", e.Container}, {"family", e.Family}, {"service", e.Service}, {"cluster", e.Cluster},
		{"subject", e.Subject}, {"host", e.Host}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	return strings.Join(parts, ", ")
}

func (g *globals) admitExceptionAdd(o *askOptions) *cobra.Command {
	var rules []string
	var long, until string
	c := &cobra.Command{
		Use:   "add",
		Short: "Make an exception",
		Long: `Make an exception: name the rules, what it is for (all that is named must fit), who
answers for it, why, and until when. It holds at once, and agents are told.
` + exitHelp,
		Example: `  castellan admit exceptions add --rule no-criticals --subject CVE-2026-1234 \
    --image registry.example.com/shop --owner shop-team --reason "not reachable" --for 14d`,
		Args: cobra.NoArgs,
	}
	s := c.Flags()
	s.StringSliceVar(&rules, "rule", nil, "rules that it is an exception from")
	texts := map[string]*string{}
	for _, f := range [...][2]string{
		{"owner", "who answers for it"}, {"reason", "why it can be lived with"},
		{"image", "for this image: a digest, or a pattern of repositories"}, {"container", "for containers of this name"},
		{"family", "for task definitions of this family"}, {"service", "for this service"}, {"cluster", "for this cluster"},
		{"subject", "for one thing alone: a CVE number, an id of a check"}, {"host", "for the host of this agent"},
	} {
		texts[f[0]] = s.String(f[0], "", f[1])
	}
	s.StringVar(&long, "for", "", "for how long: 30d, 12h")
	s.StringVar(&until, "until", "", "until the end of a day (2027-01-31), or a time as in RFC 3339")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case len(rules) == 0:
			return usagef("say with --rule from which rules it is an exception")
		case strings.TrimSpace(*texts["owner"]) == "" || strings.TrimSpace(*texts["reason"]) == "":
			return usagef("say with --owner who answers for it, and with --reason why it can be lived with")
		}
		expires, err := query.Expiry(long, until, time.Now())
		if err != nil {
			return usageError{err}
		}
		form := map[string]any{"rules": rules, "expires": expires.UTC()}
		for name, v := range texts {
			if *v != "" {
				form[name] = *v
			}
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var e store.AdmissionException
		if err := api.do(c.Context(), http.MethodPost, "/admit/exceptions", form, &e); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "exception %s holds until %s: %s\n", printable(e.ID), e.Expires.Local().Format(time.DateTime), printable(exceptedWhat(&e)))
		return err
	}
	return c
}

func (g *globals) admitExceptionWithdraw(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "withdraw NUMBER",
		Short: "End an exception: what it let through is refused again",
		Long:  "End an exception: what it let through is refused again.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			var e store.AdmissionException
			if err := api.do(c.Context(), http.MethodDelete, "/admit/exceptions/"+url.PathEscape(args[0]), nil, &e); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "exception %s is withdrawn\n", printable(e.ID))
			return err
		},
	}
}
