package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// admitPolicyPage is the API's answer to a listing of policies.
type admitPolicyPage struct {
	Policies []store.AdmissionPolicy `json:"policies"`
}

// admitProblems is the API's answer to a check of a policy.
type admitProblems struct {
	Problems []struct {
		Line   int    `json:"line"`
		Column int    `json:"column"`
		Text   string `json:"text"`
		Remedy string `json:"remedy"`
	} `json:"problems"`
}

// admitOfFleet are the commands about what a server decides and keeps.
func (g *globals) admitOfFleet() []*cobra.Command {
	return []*cobra.Command{g.admitPolicy(), g.admitVerdicts(), g.admitReplay(), g.admitExceptions(), g.admitDecide()}
}

func (g *globals) admitPolicy() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "policy",
		Short: "Read and change the admission policy that the server keeps for the fleet",
		Long:  "Read and change the admission policy that the server keeps for the fleet.\n" + exitHelp,
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	all := []*cobra.Command{g.admitPolicyShow(&o), g.admitPolicySet(&o), g.admitPolicyHistory(&o), g.admitPolicyCheck(&o)}
	for _, x := range all {
		o.flags(x)
	}
	c.AddCommand(all...)
	return c
}

func (g *globals) admitPolicyShow(o *askOptions) *cobra.Command {
	var version int64
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the fleet's admission policy, as the server keeps it",
		Long:  "Print the fleet's admission policy, as the server keeps it.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.Flags().Int64Var(&version, "version", 0, "print this version (default: the newest)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var p store.AdmissionPolicy
		if err := api.get(c.Context(), "/admit/policy", url.Values{"version": {strconv.FormatInt(version, 10)}}, &p); err != nil {
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

func (g *globals) admitPolicySet(o *askOptions) *cobra.Command {
	var comment string
	var after int64
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Make a file the fleet's admission policy",
		Long: `Make a file ("-" is the standard input) the fleet's admission policy. It holds at
once for the doors that ask the server, and agents are told. What it would have
refused: castellan admit replay FILE. With --after it is only taken if that
version is the newest still.
` + exitHelp,
		Example: `  castellan admit policy set castellan-admission.yaml --comment "no critical ones"`,
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&comment, "comment", "", "why it is changed")
	c.Flags().Int64Var(&after, "after", 0, "the version that was changed, 0 for none (default: whatever is the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], store.MaxAdmissionPolicy)
		if err != nil {
			return fmt.Errorf("read admission policy: %w", err)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if !c.Flags().Changed("after") {
			var p store.AdmissionPolicy
			if err := api.get(c.Context(), "/admit/policy", nil, &p); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			after = p.Version
		}
		var p store.AdmissionPolicy
		if err := api.do(c.Context(), http.MethodPut, "/admit/policy", map[string]any{"text": string(b), "comment": comment, "after": after}, &p); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "version %d is the admission policy now; what comes of it: castellan admit verdicts\n", p.Version)
		return err
	}
	return c
}

func (g *globals) admitPolicyHistory(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "history",
		Short: "Say who changed the fleet's admission policy, when and why",
		Long:  "Say who changed the fleet's admission policy, when and why; the newest first.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page admitPolicyPage
		if err := api.get(c.Context(), "/admit/policies", url.Values{"limit": {strconv.Itoa(store.MaxAdmissionPolicies)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Policies) == 0 {
				fmt.Fprintln(g.err, "there is no admission policy yet; castellan admit policy set FILE")
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

func (g *globals) admitPolicyCheck(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether the server would take a file as the policy",
		Long: `Say whether the server would take a file ("-" is the standard input) as the
admission policy, and what is wrong with each line. It changes nothing.
` + exitHelpJudged,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], store.MaxAdmissionPolicy)
		if err != nil {
			return fmt.Errorf("read admission policy: %w", err)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var told admitProblems
		if err := api.do(c.Context(), http.MethodPost, "/admit/policy/check", map[string]any{"text": string(b)}, &told); err != nil {
			return err
		}
		err = g.print(*f, told, func() error {
			for _, p := range told.Problems {
				fmt.Fprintf(g.out, "%s:%d:%d: %s\n", printable(args[0]), p.Line, p.Column, printable(p.Text))
				if p.Remedy != "" {
					fmt.Fprintf(g.out, "  remedy: %s\n", printable(p.Remedy))
				}
			}
			if len(told.Problems) == 0 {
				fmt.Fprintf(g.out, "%s is well-formed\n", printable(args[0]))
			}
			return nil
		})
		if err == nil && len(told.Problems) > 0 {
			return errViolated
		}
		return err
	}
	return c
}

func (g *globals) admitDecide() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "decide FILE",
		Short: "Have the server decide on a request",
		Long: `Have the server decide on a request ("-" is the standard input), in the form in
which doors make them: JSON as POST /api/v1/admit/decide takes it. The verdict is
kept. Only 0 is leave to deploy.
` + exitHelpAdmit,
		Example: `  castellan admit decide request.json`,
		Args:    cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	o.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], store.MaxAdmissionRequest)
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		var r admission.Request
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return fault.New(fault.Invalid, "read request %s: %w", args[0], err).With("its form is told by the server: /api/v1/openapi.json, AdmitRequest")
		}
		if r.At.IsZero() {
			r.At = time.Now().UTC()
		}
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		var v admission.Verdict
		if err := api.do(c.Context(), http.MethodPost, "/admit/decide", r, &v); err != nil {
			return err
		}
		if err := g.print(*f, v, func() error { return g.admitReasons(&v) }); err != nil {
			return err
		}
		return leave(v.Outcome)
	}
	return c
}

// leave is how a command ends by an outcome.
func leave(o admission.Outcome) error {
	switch o {
	case admission.Allow:
		return nil
	case admission.Wait:
		return errSaid
	}
	return errViolated
}
