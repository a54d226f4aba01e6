package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// admitOfFleet are the commands about what a server decides and keeps.
func (g *globals) admitOfFleet() []*cobra.Command {
	return []*cobra.Command{g.admitPolicy(), g.admitVerdicts(), g.admitReplay(), g.admitExceptions(), g.admitDecide()}
}

func (g *globals) admitPolicy() *cobra.Command {
	var o askOptions
	p := &fleetPolicy{
		name: "admission", route: "/admit", command: "castellan admit policy set", max: store.MaxAdmissionPolicy, keeps: store.MaxAdmissionPolicies,
		set: `It holds at
once for the doors that ask the server, and agents are told. What it would have
refused: castellan admit replay FILE. With --after it is only taken if that
version is the newest still.`,
		example: `castellan admit policy set castellan-admission.yaml --comment "no critical ones"`,
		next:    "what comes of it: castellan admit verdicts",
	}
	c := &cobra.Command{
		Use:     "policy",
		Aliases: []string{"policies"},
		Short:   "Read and change the admission policy that the server keeps for the fleet",
		Long:    "Read and change the admission policy that the server keeps for the fleet.\n" + exitHelp,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	all := []*cobra.Command{p.showCommand(g, &o), p.setCommand(g, &o), p.historyCommand(g, &o), g.admitPolicyCheck(&o)}
	for _, x := range all {
		o.flags(x)
	}
	c.AddCommand(all...)
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
		return g.checkWritten(c.Context(), *o, *f, checkable{args[0], "admission policy", "/admit/policy/check", store.MaxAdmissionPolicy})
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
