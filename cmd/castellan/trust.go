package main

import "github.com/spf13/cobra"

// newTrust is what signs images and says who signed them.
func newTrust(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Keep the keys that sign images",
		Long: `Keep the keys that sign images. Nothing of this needs a server.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTrustKey(g))
	return c
}
