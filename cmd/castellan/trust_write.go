package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// writeFlags say where signatures go.
type writeFlags struct {
	placeFlags
	file string
	old  bool
}

func (w *writeFlags) add(c *cobra.Command) {
	w.placeFlags.add(c)
	c.Flags().StringVar(&w.file, "bundle", "", "write the signature to this file instead of attaching it to the image")
	c.Flags().BoolVar(&w.old, "old-form", false, "write it as cosign did before bundles, under a tag, for registries and verifiers that know nothing else")
}

func (w *writeFlags) check() error {
	if w.old && w.file != "" {
		return usagef("--old-form has no file of its own: leave --bundle or --old-form away")
	}
	return nil
}

// writing is a signature or attestation on its way to its image.
type writing struct {
	*globals
	writeFlags
	places  *places
	image   named
	subject signature.Subject
	signer  *signer
	kind    signature.Kind
}

// openWriting finds the image and who signs. The caller closes places.
func (g *globals) openWriting(ctx context.Context, name string, by signerFlags, to writeFlags, kind signature.Kind) (_ *writing, err error) {
	t := &writing{globals: g, writeFlags: to, kind: kind}
	if t.places, err = g.openPlaces(to.placeFlags); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.places.Close()
		}
	}()
	if t.image, err = t.places.find(ctx, name); err != nil {
		return nil, err
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	verb := "sign"
	if kind == "" {
		verb, t.kind = "attest", signature.Sigstore
	}
	if err := t.image.onlyDigest(ctx, verb); err != nil {
		return nil, err
	}
	if t.subject, err = t.image.whole(ctx); err != nil {
		return nil, err
	}
	t.signer, err = by.open(ctx, g, t.places.log)
	return t, err
}

// writable refuses an archive before anything is signed: a log would know of a
// signature that is nowhere.
func (t *writing) writable() error {
	if t.image.path == "" || t.file != "" {
		return nil
	}
	if info, err := os.Stat(t.image.path); err == nil && !info.IsDir() {
		return fault.New(fault.Unsupported, "%s is an archive, to which no signature can be added", t.image.path).
			With("unpack it into a folder, and name that: mkdir layout && tar -xf " + t.image.path + " -C layout; or have the signature in a file: --bundle FILE")
	}
	return nil
}

// written is what was written, as it was read again and opened.
type written struct {
	Image    string         `json:"image"`
	Digest   string         `json:"digest"` // of the image
	Envelope string         `json:"envelope"`
	File     string         `json:"file,omitempty"`
	Way      signature.Way  `json:"way"`
	Kind     signature.Kind `json:"kind"`
	Type     string         `json:"predicate_type,omitempty"`

	Verified  bool   `json:"verified"`
	Unchecked string `json:"unchecked,omitempty"` // why it was not
	Key       string `json:"key,omitempty"`
	By        string `json:"certificate,omitempty"`
	Issuer    string `json:"issuer,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Log       *int64 `json:"log_index,omitempty"`
	Proof     string `json:"proof,omitempty"`
}

// write attaches an envelope, or writes it to a file, reads it again and holds it
// against the roots.
func (t *writing) write(ctx context.Context, s signature.Subject, e signature.Envelope) (written, error) {
	w := written{Image: t.image.pinned(s.Digest), Digest: s.Digest, Envelope: e.Digest, File: t.file, Kind: t.kind, Way: signature.ByFile}
	back := e
	if t.file != "" {
		if err := writeWhole(t.file, true, func(to io.Writer) error { _, err := to.Write(e.Payload); return err }); err != nil {
			return w, fmt.Errorf("write signature: %w", err)
		}
	} else {
		digest, err := t.image.Attach(ctx, s, e)
		if err != nil {
			return w, err
		}
		if back, err = t.again(ctx, s, e, digest); err != nil {
			return w, err
		}
		w.Envelope, w.Way = digest, back.Way
	}
	signed, err := t.signer.opens(ctx, back, s, t.kind)
	if errors.Is(err, errUnchecked) {
		w.Unchecked = err.Error()
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("verify the signature that was just written to %s: %w", w.Image, err)
	}
	w.Verified, w.Key, w.By = true, signed.Identity.Key, signed.Identity.Name
	w.Issuer, w.Subject, w.Proof = signed.Identity.Issuer, signed.Identity.Subject, string(signed.Proof)
	if signed.Log != nil {
		w.Log = &signed.Log.Index
	}
	return w, nil
}

// again reads what was attached from where it is now.
func (t *writing) again(ctx context.Context, s signature.Subject, e signature.Envelope, digest string) (signature.Envelope, error) {
	all, err := t.image.Envelopes(ctx, s)
	for _, found := range all {
		if found.Digest == digest && bytes.Equal(found.Payload, e.Payload) {
			return found, nil
		}
	}
	if err == nil {
		err = fault.New(fault.Unavailable, "the registry took manifest %s and does not list it", digest)
	}
	return signature.Envelope{}, fmt.Errorf("read the signature of %s again: %w", t.image.pinned(s.Digest), err)
}

// printWritten tells what was written, and by whom.
func (g *globals) printWritten(out form, verb string, all []written) error {
	return g.print(out, map[string]any{"written": all}, func() error {
		for _, w := range all {
			where := w.File
			if where == "" {
				where = fmt.Sprintf("%s (%s, by %s)", w.Envelope, w.Kind, w.Way)
			}
			state := g.paint("verified", good)
			if !w.Verified {
				state = g.paint("not verified", warn) + ": " + w.Unchecked
			}
			fmt.Fprintf(g.out, "%s %s\n", verb, printable(w.Image))
			for _, line := range [][2]string{
				{"written", where}, {"type", w.Type}, {"key", w.Key}, {"certificate", w.By}, {"identity", joined(w.Subject, " of ", w.Issuer)}, {"log", index(w.Log)},
			} {
				if line[1] != "" {
					fmt.Fprintf(g.out, "  %-12s %s\n", line[0], printable(line[1]))
				}
			}
			if _, err := fmt.Fprintf(g.out, "  %s\n", state); err != nil {
				return err
			}
		}
		return nil
	})
}

func joined(a, between, b string) string {
	if a == "" && b == "" {
		return ""
	}
	return a + between + b
}

func index(n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("entry %d", *n)
}
