package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/watch"
)

// signatureSuffix is what the file beside a signed profile is called, behind its name.
const signatureSuffix = ".sig"

func (g *globals) watchProfileSign() *cobra.Command {
	var s signerFlags
	var output string
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a file as a profile that was approved",
		Long: `Sign a file with a profile, so that a server takes it (castellan server
--profile-keys). The signature lies beside it, in FILE.sig, and holds for exactly
that text and the group that it names.
` + exitHelp,
		Example: "  castellan watch profile export shop/web/nginx > nginx.yaml\n  castellan watch profile sign nginx.yaml --key reviewers",
		Args:    cobra.ExactArgs(1),
	}
	s.keyFlags.add(g, c)
	f := c.Flags()
	f.StringVar(&s.key, "key", "", "private key: a file, the name of a key of the ring, or one of AWS KMS (its ARN, alias/NAME, awskms:///…)")
	f.BoolVar(&s.plainKey, "plain-key", false, "take a key file that no password seals, too")
	f.StringVar(&output, "output", "", "where to write the signature (default: FILE"+signatureSuffix+")")
	c.RunE = func(c *cobra.Command, args []string) error {
		if s.key == "" {
			return usagef("say who signs: --key FILE, name or KMS key")
		}
		text, err := g.readSmall(args[0], watch.MaxDocument)
		if err != nil {
			return fmt.Errorf("read profile: %w", err)
		}
		log, err := g.logger()
		if err != nil {
			return err
		}
		key, err := s.private(c.Context(), g, log)
		if err != nil {
			return err
		}
		b, err := watch.SignProfile(text, key)
		if err != nil {
			return err
		}
		if output == "" {
			output = args[0] + signatureSuffix
		}
		if err := writeWhole(output, true, func(w io.Writer) error { _, err := fmt.Fprintf(w, "%s\n", b); return err }); err != nil {
			return fmt.Errorf("write signature: %w", err)
		}
		_, err = fmt.Fprintf(g.out, "%s signs %s; hand both over: castellan watch profile import GROUP %[2]s --signature %[1]s\n", printable(output), printable(args[0]))
		return err
	}
	return c
}

func (g *globals) watchProfileVerify() *cobra.Command {
	var keys []string
	var signature string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say whether a profile is signed by a key",
		Long:  "Say whether a file with a profile is signed by one of some public keys. It needs no\nserver.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().StringArrayVar(&keys, "public-key", nil, "file with the public key of whoever signs profiles (PEM); may be repeated (required)")
	c.Flags().StringVar(&signature, "signature", "", "the signature (default: FILE"+signatureSuffix+")")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(keys) == 0 {
			return usagef("say whose signatures are taken: --public-key FILE")
		}
		known, err := g.publicKeys("--public-key", keys)
		if err != nil {
			return err
		}
		text, err := g.readSmall(args[0], watch.MaxDocument)
		if err != nil {
			return fmt.Errorf("read profile: %w", err)
		}
		if signature == "" {
			signature = args[0] + signatureSuffix
		}
		b, err := g.readSmall(signature, watch.MaxSignature)
		if err != nil {
			return fmt.Errorf("read signature: %w", err)
		}
		by, err := watch.VerifyProfile(text, b, known)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "%s is signed by %s\n", printable(args[0]), by)
		return err
	}
	return c
}
