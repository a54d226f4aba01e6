package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
)

// subjectFlag gives a command its --subject.
func subjectFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "subject", "", "whose it is: CN=build,O=Shop,ST=Berlin,C=DE (required)")
}

// wantSubject refuses a certificate for nobody.
func wantSubject(subject string) error {
	if subject == "" {
		return usageError{fault.New(fault.Invalid, "say whose it is: --subject").With("write it as CN=build,O=Shop,ST=Berlin,C=DE")}
	}
	return nil
}

func (g *globals) keyCertificate(k *keyFlags) *cobra.Command {
	var subject, long string
	c := &cobra.Command{
		Use:   "certificate KEY",
		Short: "Give a key a certificate for the Notary Project",
		Long: `Give a key a certificate for the Notary Project: for code signing alone, below a
root of its own, whose key is thrown away. KEY.crt is for whoever signs, and
KEY-root.crt for whoever verifies. With a certificate authority of your own, take
castellan trust key request instead.
` + exitHelp,
		Example: "  castellan trust key certificate build --subject 'CN=build,O=Shop,ST=Berlin,C=DE' --for 180d",
		Args:    cobra.ExactArgs(1),
	}
	subjectFlag(c, &subject)
	c.Flags().StringVar(&long, "for", "365d", "how long it is good")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := wantSubject(subject); err != nil {
			return err
		}
		lifetime, err := query.Duration(long)
		if err != nil {
			return usagef("--for %q: %w", long, err)
		}
		made, err := k.ring(g).Certify(args[0], subject, lifetime, k.password(g, false), time.Now())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "certificate until %s\n  to sign      %s\n  to verify    %s\nin the trust policy:\n  roots:\n    stores:\n      %s: {kind: ca, file: %q}\n",
			made.Until.Format(time.RFC3339), made.Chain, made.Root, args[0], made.Root)
		return err
	}
	return c
}

func (g *globals) keyRequest(k *keyFlags) *cobra.Command {
	var subject string
	c := &cobra.Command{
		Use:   "request KEY",
		Short: "Print a request for a certificate of a key",
		Long: `Print a request for a certificate of a key (PKCS #10), for a certificate authority
of your own. For the Notary Project its answer must be for code signing alone.
` + exitHelp,
		Example: "  castellan trust key request build --subject 'CN=build,O=Shop,ST=Berlin,C=DE' > build.csr",
		Args:    cobra.ExactArgs(1),
	}
	subjectFlag(c, &subject)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := wantSubject(subject); err != nil {
			return err
		}
		b, err := k.ring(g).Request(args[0], subject, k.password(g, false), time.Now())
		if err != nil {
			return err
		}
		_, err = g.out.Write(b)
		return err
	}
	return c
}
