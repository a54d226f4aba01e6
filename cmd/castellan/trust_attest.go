package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// maxPredicateFile bounds a predicate's file before the room looks at it.
const maxPredicateFile = 64 << 20

// attestFlags are those of an attestation.
type attestFlags struct {
	signerFlags
	writeFlags
	kind, predicate string
}

func newTrustAttest(g *globals) *cobra.Command {
	var a attestFlags
	c := &cobra.Command{
		Use:   "attest IMAGE@DIGEST",
		Short: "Say something about an image, signed",
		Long: `Say something about an image, signed: its bill of materials, the result of a scan,
where it was built. It is put beside the image as an in-toto statement in a
Sigstore bundle, read again from there, and verified. A document that is not of
the type that it is called is refused, and so is a scan of another image.
` + imagesHelp + `

  castellan scan registry:IMAGE@DIGEST -o cyclonedx=app.cdx.json -o json=scan.json
  castellan trust attest --key build --type cyclonedx --predicate app.cdx.json IMAGE@DIGEST
  castellan trust attest --key scanner --type castellan-scan --predicate scan.json IMAGE@DIGEST
  castellan trust attest --keyless --sigstore public --type slsaprovenance1 --predicate provenance.json IMAGE@DIGEST
` + exitHelp,
		Args: cobra.ExactArgs(1),
	}
	a.signerFlags.add(g, c)
	a.writeFlags.add(c)
	f := c.Flags()
	f.StringVar(&a.kind, "type", "", "what it is: cyclonedx, spdx, openvex, vuln, slsaprovenance1, castellan-scan, … or a URI (required)")
	f.StringVar(&a.predicate, "predicate", "", "file with it in JSON, - for the standard input (required)")
	out := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error { return g.attest(c.Context(), args[0], a, *out) }
	return c
}

func (g *globals) attest(ctx context.Context, name string, a attestFlags, out form) error {
	if a.kind == "" || a.predicate == "" {
		return usagef("say what is attested: --type and --predicate")
	}
	if err := a.writeFlags.check(); err != nil {
		return err
	}
	typ, err := trust.PredicateType(a.kind)
	if err != nil {
		return usageError{err}
	}
	b, err := g.readSmall(a.predicate, maxPredicateFile)
	if err != nil {
		return fmt.Errorf("read predicate: %w", err)
	}
	predicate, err := trust.Predicate(typ, b)
	if err != nil {
		return fmt.Errorf("read predicate %s: %w", a.predicate, err)
	}
	t, err := g.openWriting(ctx, name, a.signerFlags, a.writeFlags, "")
	if err != nil {
		return err
	}
	defer t.places.Close()
	if typ == trust.ScanPredicate {
		if err := t.scanned(ctx, predicate); err != nil {
			return err
		}
	}
	by, err := t.signer.bySigstore()
	if err != nil {
		return err
	}
	var e signature.Envelope
	if a.old {
		e, err = by.AttestOld(ctx, t.subject, typ, predicate)
		e.Way = signature.ByCosignTag
	} else {
		e, err = by.Attest(ctx, t.subject, typ, predicate)
	}
	if err != nil {
		return fmt.Errorf("attest of %s: %w", t.image.pinned(t.subject.Digest), err)
	}
	w, err := t.write(ctx, t.subject, e)
	if err != nil {
		return err
	}
	w.Type = typ
	return g.printWritten(out, "attested", []written{w})
}

// scanned refuses the scan of another image. An index is scanned by its
// manifests.
func (t *writing) scanned(ctx context.Context, predicate []byte) error {
	digests, err := trust.ScannedImages(predicate)
	if err != nil {
		return err
	}
	known := []string{t.subject.Digest}
	if !slices.Contains(digests, t.subject.Digest) {
		platforms, err := t.image.Platforms(ctx, t.image.at(t.subject.Digest), inventory.Platform{})
		if err != nil {
			return err
		}
		for _, p := range platforms {
			known = append(known, p.Digest)
		}
	}
	for _, d := range digests {
		if !slices.Contains(known, d) {
			return fault.New(fault.Invalid, "the report is of another image, %s", d).With("scan this one: castellan scan " + t.image.pinned(t.subject.Digest) + " -o json=FILE")
		}
	}
	return nil
}
