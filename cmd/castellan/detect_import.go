package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/whole"
)

func (g *globals) detectImport() *cobra.Command {
	to := ""
	c := &cobra.Command{
		Use:   "import FALCO-RULES",
		Short: "Make a document of rules of a rules file of Falco",
		Long: `Make a document of rules of detection of a rules file of Falco ("-" is the standard
input), and say of each rule what became of it. The document goes to --to, or to the
standard output; what became of each rule goes to the standard error then.

A rule whose condition needs what no sensor tells is left out. An alternative that
does makes the rule narrower, an exception makes it wider: both are said.
` + exitHelp,
		Example: `  castellan detect import falco_rules.yaml --to falco.yaml
  castellan detect try falco.yaml --since 24h && castellan detect set falco.yaml falco.yaml`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&to, "to", to, "file that the document is written to")
	c.RunE = func(_ *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], detect.MaxFalco)
		if err != nil {
			return fmt.Errorf("read rules: %w", err)
		}
		document, outcomes, err := detect.FromFalco(b)
		if err != nil {
			return fmt.Errorf("import %s: %w", printable(args[0]), err)
		}
		tell, taken := g.err, 0
		if to != "" {
			tell = g.out
		}
		for _, o := range outcomes {
			if o.Taken {
				taken++
				fmt.Fprintf(tell, "%s: %s\n", g.paint("taken", good), printable(o.Rule)+" as "+o.ID)
			} else {
				fmt.Fprintf(tell, "%s: %s\n", g.paint("left out", warn), printable(o.Rule))
			}
			for _, n := range o.Notes {
				fmt.Fprintf(tell, "  %s\n", printable(n))
			}
		}
		fmt.Fprintf(tell, "%d of %d rules are taken\n", taken, len(outcomes))
		switch {
		case taken == 0:
			return fault.New(fault.Invalid, "no rule can be taken")
		case to == "":
			_, err = g.out.Write(document)
			return err
		}
		if err := whole.Write(to, document); err != nil {
			return fmt.Errorf("write the document: %w", err)
		}
		fmt.Fprintf(tell, "wrote %s; next: castellan detect try %s --since 24h\n", printable(to), printable(to))
		return nil
	}
	return c
}
