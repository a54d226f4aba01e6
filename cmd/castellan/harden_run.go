package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/landlock"
	"github.com/castellan-security/castellan/internal/harden"
)

func newHardenRun(g *globals) *cobra.Command {
	var rules string
	var strict bool
	c := &cobra.Command{
		Use:   "run --rules FILE -- PROGRAM [ARGUMENT...]",
		Short: "Confine this process by rules for Landlock, and become a program",
		Long: `Put the rules of castellan harden GROUP --output landlock in force, and become the
program. It needs no rights at all, and so works on Fargate and in any container:
have the task definition's entryPoint begin with it.

What this kernel can't hold is told on standard error, and the rest is put in
force; with --strict the program does not start if more would be permitted than
the rules say. The program can't gain rights (no_new_privs).
` + exitHelp,
		Example: "  castellan harden run --rules /castellan/rules.json -- /usr/sbin/nginx -g 'daemon off;'",
		Args:    cobra.ArbitraryArgs,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&rules, "rules", "", "file with the rules (JSON)")
	f.BoolVar(&strict, "strict", false, "do not start where more would be permitted than the rules say")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case rules == "":
			return usagef("say which rules: --rules FILE")
		case len(args) == 0:
			return usagef("say which program: -- PROGRAM [ARGUMENT...]")
		}
		return g.hardenRun(c.Context(), rules, strict, args)
	}
	return c
}

// hardenRun returns only with an error.
func (g *globals) hardenRun(ctx context.Context, file string, strict bool, argv []string) error {
	b, err := readAtMost(file, harden.MaxRules)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	l, err := harden.ReadLandlock(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return landlock.Run(ctx, &l, argv, os.Environ(), landlock.Options{Strict: strict, Told: func(r landlock.Remark) {
		what := "less than the rules say is permitted"
		if r.Looser {
			what = "more than the rules say is permitted"
		}
		fmt.Fprintf(g.err, "castellan: %s: %s\n", what, printable(r.Text))
	}})
}
