package main

import "github.com/spf13/cobra"

// newTrust is what signs images and says who signed them.
func newTrust(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Sign images, and say who signed them",
		Long: `Sign images and what is said of them, and say by a trust policy whether the right
ones have signed. Signatures of Sigstore (cosign) and of the Notary Project
(notation, AWS Signer) are both read and made. To verify asks nobody but the
registry that holds the signatures, and for a layout on disk nobody at all.
Nothing of this needs a server; where there is one, it keeps the policy of the
fleet, and its agents verify what runs (policy set, images).

  castellan trust key generate build
  castellan trust sign --key build ghcr.io/acme/shop@sha256:…
  castellan trust init --key build ghcr.io/acme/shop
  castellan trust verify ghcr.io/acme/shop:2
  castellan trust explain ghcr.io/acme/shop:2
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTrustVerify(g), newTrustExplain(g), newTrustSign(g), newTrustAttest(g),
		newTrustInit(g), newTrustImport(g), newTrustPolicy(g), newTrustKey(g), newTrustImages(g))
	return c
}
