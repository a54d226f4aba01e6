package main

import "github.com/spf13/cobra"

// newAdmit is what decides on deployments.
func newAdmit(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "admit",
		Short: "Say what may be deployed, and why something may not",
		Long: `Decide on deployments by an admission policy: rules over what shall run and over
what is known of its images. The same policy decides at every door. A server
keeps the policy of the fleet, decides for the doors that ask it, and keeps
every verdict.

  castellan admit policy set castellan-admission.yaml
  castellan admit verdicts --outcome deny
  castellan admit verdict 4711
  castellan admit replay castellan-admission.yaml --since 30d
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(g.admitOfFleet()...)
	return c
}
