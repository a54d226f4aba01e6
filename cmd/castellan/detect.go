package main

import "github.com/spf13/cobra"

func newDetect(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "detect",
		Short: "Incidents: what was hostile, and what became of it; rules by which it is found",
		Long: `What is hostile whatever a profile says makes incidents: threats that belong
together, told as one story, until somebody says what came of it. Threats are
found on each host by rules: those that come with the program, and your own.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(g.incidentCommands()...)
	c.AddCommand(g.ruleCommands()...)
	return c
}
