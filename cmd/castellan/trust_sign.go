package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/signature"
)

// signFlags are those of a signature.
type signFlags struct {
	signerFlags
	writeFlags
	form        string
	envelope    string
	annotations []string
	expiry      string
	recursive   bool
}

func newTrustSign(g *globals) *cobra.Command {
	var s signFlags
	c := &cobra.Command{
		Use:   "sign IMAGE@DIGEST",
		Short: "Sign an image",
		Long: `Sign an image by its digest, never by a tag, which may mean another image a moment
later. The signature is put beside the image, read again from there, and verified.
` + imagesHelp + `

With a key nobody else is asked; it is a file that a password seals, one of
castellan trust key generate, or one of AWS KMS. The password comes from
--password-file, ` + envKeyPassword + ` or the terminal.

  castellan trust sign --key build ghcr.io/acme/shop@sha256:…
  castellan trust sign --key alias/build -a commit=0f8c150 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop@sha256:…
  castellan trust sign --keyless --sigstore public ghcr.io/acme/shop@sha256:…
  castellan trust sign --keyless --sigstore public --oidc browser ghcr.io/acme/shop@sha256:…

For the Notary Project the whole chain of certificates is needed, the root last; of a
key of the ring that is what castellan trust key certificate made:

  castellan trust sign --format notary --key build IMAGE@DIGEST
  castellan trust sign --format notary --key release.key --certificate chain.pem --expiry 365d IMAGE@DIGEST

` + exitHelp[1:],
		Args: cobra.ExactArgs(1),
	}
	s.signerFlags.add(g, c)
	s.writeFlags.add(c)
	f := c.Flags()
	f.StringVar(&s.form, "format", "sigstore", "form of the signature: sigstore or notary")
	f.StringVar(&s.envelope, "envelope", "jws", "with --format notary: jws or cose")
	f.StringArrayVarP(&s.annotations, "annotation", "a", nil, "NAME=VALUE to be signed too; may be repeated")
	f.StringVar(&s.expiry, "expiry", "", "with --format notary: how long the signature is to hold, as 365d")
	f.BoolVar(&s.recursive, "recursive", false, "of an index sign the manifest of every platform too")
	out := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error { return g.sign(c.Context(), args[0], s, *out) }
	return c
}

// check refuses flags that don't go together.
func (s *signFlags) check() error {
	switch {
	case s.form != "sigstore" && s.form != "notary":
		return usagef("--format %q: want sigstore or notary", s.form)
	case s.envelope != "jws" && s.envelope != "cose":
		return usagef("--envelope %q: want jws or cose", s.envelope)
	case s.recursive && s.file != "":
		return usagef("--recursive makes several signatures, and --bundle is one file")
	case s.form == "sigstore" && s.expiry != "":
		return usagef("--expiry: signatures of Sigstore have none; use --format notary, or --max-age in a policy's attestations")
	}
	if s.expiry != "" {
		if _, err := query.Duration(s.expiry); err != nil {
			return usagef("--expiry %q: %w", s.expiry, err)
		}
	}
	if s.form == "sigstore" {
		return s.writeFlags.check()
	}
	switch {
	case s.keyless || s.key == "":
		return usagef("--format notary needs a key and its chain of certificates: --key with --certificate, or a key of the ring with a certificate of castellan trust key certificate")
	case s.old:
		return usagef("--old-form is cosign's: leave it away with --format notary")
	case len(s.stamps) > 1:
		return usagef("a signature of the Notary Project has one time stamp: name one --tsa-url")
	case len(s.stamps) == 1 && s.stampRoot == "":
		return usagef("--tsa-url needs --tsa-root: the time stamp is held against it at once")
	case s.sigstore != "" || s.config != "" || s.fulcio != "" || len(s.logs) > 0:
		return usagef("the services of Sigstore don't sign for --format notary; --tsa-url is the only one")
	}
	return nil
}

// notes reads the annotations.
func (s *signFlags) notes() (map[string]string, error) {
	out := map[string]string{}
	for _, a := range s.annotations {
		name, value, ok := strings.Cut(a, "=")
		if _, twice := out[name]; !ok || name == "" || twice {
			return nil, usagef("--annotation %q: want NAME=VALUE, each name once", a)
		}
		out[name] = value
	}
	return out, nil
}

// maker returns what makes one signature.
func (s *signFlags) maker(w *signer) (func(context.Context, signature.Subject) (signature.Envelope, error), error) {
	notes, err := s.notes()
	if err != nil {
		return nil, err
	}
	if s.form == "notary" {
		o := notary.SignOptions{MediaType: notary.JWS, Annotations: notes, At: time.Now()}
		if s.envelope == "cose" {
			o.MediaType = notary.COSE
		}
		if s.expiry != "" {
			d, err := query.Duration(s.expiry)
			if err != nil {
				return nil, usagef("--expiry %q: %w", s.expiry, err)
			}
			o.Expiry = o.At.Add(d)
		}
		return func(ctx context.Context, sub signature.Subject) (signature.Envelope, error) {
			return w.byNotary(ctx, sub, o)
		}, nil
	}
	by, err := w.bySigstore()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, sub signature.Subject) (signature.Envelope, error) {
		if s.old {
			e, err := by.SignOld(ctx, sub, notes)
			e.Way = signature.ByCosignTag
			return e, err
		}
		return by.Sign(ctx, sub, notes)
	}, nil
}

func (g *globals) sign(ctx context.Context, name string, s signFlags, out form) error {
	if err := s.check(); err != nil {
		return err
	}
	kind := signature.Kind(s.form)
	s.chained = kind == signature.Notary
	t, err := g.openWriting(ctx, name, s.signerFlags, s.writeFlags, kind)
	if err != nil {
		return err
	}
	defer t.places.Close()
	sign, err := s.maker(t.signer)
	if err != nil {
		return err
	}
	subjects := []signature.Subject{t.subject}
	if s.recursive {
		platforms, err := t.image.Platforms(ctx, t.image.at(t.subject.Digest), inventory.Platform{})
		if err != nil {
			return err
		}
		for _, p := range platforms {
			if p.Digest == t.subject.Digest {
				continue
			}
			one := t.image
			one.name, one.digest = t.image.at(p.Digest), p.Digest
			sub, err := one.whole(ctx)
			if err != nil {
				return err
			}
			subjects = append(subjects, sub)
		}
	}
	var all []written
	for _, sub := range subjects {
		e, err := sign(ctx, sub)
		if err != nil {
			return fmt.Errorf("sign %s: %w", t.image.pinned(sub.Digest), err)
		}
		w, err := t.write(ctx, sub, e)
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	return g.printWritten(out, "signed", all)
}

// onlyDigest refuses a tag: it says what it stands for.
func (n named) onlyDigest(ctx context.Context, verb string) error {
	if n.digest != "" {
		return nil
	}
	s, err := n.whole(ctx)
	if err != nil {
		return fault.New(fault.Invalid, "%s names no digest, and what it means now can't be looked up: %w", n, err).With("name it by its digest: IMAGE@sha256:…")
	}
	return fault.New(fault.Invalid, "%s names no digest, and a tag may mean another image a moment later", n).With(fmt.Sprintf("if what it means now is what you built: castellan trust %s … %s", verb, n.pinned(s.Digest)))
}
