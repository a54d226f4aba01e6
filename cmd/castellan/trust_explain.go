package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/trust"
)

func newTrustExplain(g *globals) *cobra.Command {
	var v verifyFlags
	c := &cobra.Command{
		Use:   "explain IMAGE",
		Short: "Say step by step why an image may run, or may not",
		Long: `Say step by step why an image may run, or may not: which rule is for it, what was
found, what is true of each signature and attestation, whose it is, whether it
counts, and what is missing. Everything is opened, also what is not needed.
` + imagesHelp + `

  castellan trust explain ghcr.io/acme/shop:2
  castellan trust explain --key build.pub --platform linux/arm64 ghcr.io/acme/shop:2
` + exitHelpTrust,
		Args: cobra.ExactArgs(1),
	}
	v.add(c)
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		v.isPolicy = c.Flags().Changed("policy")
		return g.explain(c.Context(), args[0], v, *f)
	}
	return c
}

func (g *globals) explain(ctx context.Context, name string, f verifyFlags, out form) error {
	v, err := g.openVerifier(ctx, f)
	if err != nil {
		return err
	}
	defer v.places.Close()
	all := v.decide(ctx, name, true)
	if len(all) == 1 && all[0].Verdict == nil {
		return all[0].err // there is nothing to explain
	}
	err = g.print(out, map[string]any{"images": all}, func() error {
		for i, j := range all {
			if i > 0 {
				fmt.Fprintln(g.out)
			}
			if err := trust.WriteText(g.out, j.Verdict); err != nil {
				return err
			}
			if j.err != nil {
				fmt.Fprintf(g.out, "\n%s\n", printable(j.err.Error()))
			}
		}
		return nil
	})
	return errors.Join(err, worst(all))
}
