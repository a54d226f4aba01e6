package main

import (
	"bytes"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust"
)

// maxForeignPolicy bounds another tool's policy before the room looks at it.
const maxForeignPolicy = 4 << 20

func newTrustImport(g *globals) *cobra.Command {
	var policy, store string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a trust policy of another tool's",
		Long: `Make a trust policy of Notation's (trustpolicy.json, trustpolicy.oci.json) or of
Sigstore's policy controller (ClusterImagePolicy, also several in one file). What
can't be carried over is told with its line, and makes the policy stricter, never
wider.

  castellan trust import ~/.config/notation/trustpolicy.json --policy castellan-trust.yaml
  kubectl get clusterimagepolicies -o yaml | castellan trust import -
` + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return g.importPolicy(args[0], policy, store) },
	}
	c.Flags().StringVar(&policy, "policy", "-", "file to write, - for the standard output")
	c.Flags().StringVar(&store, "notation-store", "", "folder truststore of Notation (default: that beside its policy)")
	return c
}

func (g *globals) importPolicy(name, policy, store string) error {
	b, err := g.readSmall(name, maxForeignPolicy)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	var in trust.Imported
	switch {
	case bytes.Contains(b, []byte("trustPolicies")):
		if store == "" {
			store = filepath.Join(filepath.Dir(name), "truststore")
		}
		folder := "."
		if policy != "-" {
			folder = filepath.Dir(policy)
		}
		in, err = trust.FromNotation(b, relative(folder, store))
	case bytes.Contains(b, []byte("ClusterImagePolicy")):
		in, err = trust.FromClusterImagePolicy(b)
	default:
		err = fault.New(fault.Unsupported, "it is no policy that is known").With("a trust policy of Notation or a ClusterImagePolicy of Sigstore can be imported")
	}
	if err != nil {
		return fmt.Errorf("import %s: %w", name, err)
	}
	if err := g.writePolicy(policy, in.Policy); err != nil {
		return err
	}
	wanted := 0
	for _, r := range in.Remarks {
		word := "note"
		if r.Wanted {
			word = "wanted"
			wanted++
		}
		fmt.Fprintf(g.err, "%s:%d: %s: %s\n", printable(name), r.Line, word, printable(r.Text))
	}
	switch {
	case wanted > 0:
		fmt.Fprintf(g.err, "%d of these must be seen to before the policy means what the other one did; until then it denies more.\n", wanted)
	case policy != "-":
		if _, err := trust.Load(policy); err != nil {
			return g.tellProblems(err)
		}
	}
	return nil
}
