package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// maxCredential bounds files with certificates, tokens and the like.
const maxCredential = 1 << 20

// signerFlags say who signs, and whom to ask for it.
type signerFlags struct {
	keyFlags
	key, certificate string
	plainKey         bool
	chained          bool // the key needs a chain of certificates
	keyless          bool
	token            string
	oidc             string
	issuer, client   string

	sigstore, config, fulcio string
	logs, stamps             []string
	logVersion               int
	trustedRoot              string
	stampRoot                string
}

func (s *signerFlags) add(g *globals, c *cobra.Command) {
	s.keyFlags.add(g, c)
	f := c.Flags()
	f.StringVar(&s.key, "key", "", "private key: a file, the name of a key of the ring, or one of AWS KMS (its ARN, alias/NAME, awskms:///…)")
	f.BoolVar(&s.plainKey, "plain-key", false, "take a key file that no password seals, too")
	f.StringVar(&s.certificate, "certificate", "", "file with the key's certificate and those above it, the signer's first (PEM; for the Notary Project by default that of the ring's key)")
	f.BoolVar(&s.keyless, "keyless", false, "sign with a certificate that Fulcio gives for an OIDC token")
	f.StringVar(&s.token, "identity-token", "", "file with the OIDC token, - for the standard input (else SIGSTORE_ID_TOKEN, or that of GitHub Actions)")
	f.StringVar(&s.oidc, "oidc", "", "with --keyless sign in as a person: browser, for one on this machine; device, for one on any")
	f.StringVar(&s.issuer, "oidc-issuer", "", "with --oidc: address of the issuer (else the Sigstore's own)")
	f.StringVar(&s.client, "oidc-client", sigstore.PublicClient, "with --oidc: what this program is called there")
	f.StringVar(&s.sigstore, "sigstore", "", "public: the services of the public Sigstore, where what is signed is public for ever")
	f.StringVar(&s.config, "signing-config", "", "file that says where the services are (signing_config.json)")
	f.StringVar(&s.fulcio, "fulcio-url", "", "address of a Fulcio")
	f.StringArrayVar(&s.logs, "rekor-url", nil, "address of a transparency log; may be repeated")
	f.IntVar(&s.logVersion, "rekor-version", 1, "version of those logs: 1 or 2")
	f.StringArrayVar(&s.stamps, "tsa-url", nil, "address of a time-stamping authority; may be repeated, but not for the Notary Project")
	f.StringVar(&s.trustedRoot, "trusted-root", "", "trusted root of Sigstore (trusted_root.json) to hold what the services say against")
	f.StringVar(&s.stampRoot, "tsa-root", "", "certificates of the time-stamping authority's root (PEM), for the Notary Project")
}

// signer is who signs, ready to.
type signer struct {
	key   crypto.Signer // nil: keyless
	chain []*x509.Certificate
	token string

	services sigstore.Services

	roots signature.Roots // that what is signed must hold against
	check bool            // they are enough to find out
}

// open checks the flags, asks for the password or the token, and returns who signs.
func (s *signerFlags) open(ctx context.Context, g *globals, log *slog.Logger) (*signer, error) {
	if (s.key != "") == s.keyless {
		return nil, usagef("say who signs: --key FILE, name or KMS key; or --keyless")
	}
	if err := s.checkOIDC(); err != nil {
		return nil, err
	}
	if s.keyless && s.certificate != "" {
		return nil, usagef("--keyless gets its certificate from Fulcio: leave --certificate away")
	}
	var w signer
	var err error
	if w.services, err = s.services(g); err != nil {
		return nil, err
	}
	switch {
	case s.certificate != "":
		w.chain, err = g.readCertificates(s.certificate)
	case s.chained:
		w.chain, err = s.ringChain(g, time.Now())
	}
	if err != nil {
		return nil, err
	}
	if w.roots, err = s.roots(g, w.chain); err != nil {
		return nil, err
	}
	if s.keyless {
		w.check = s.trustedRoot != ""
		w.token, err = s.idToken(ctx, g, w.services.OIDC)
		return &w, err
	}
	if w.key, err = s.private(ctx, g, log); err != nil {
		return nil, err
	}
	if w.chain == nil {
		w.roots.Keys = []signature.Key{{Name: s.key, Public: w.key.Public()}}
	}
	w.check = true
	return &w, nil
}

// private is the key.
func (s *signerFlags) private(ctx context.Context, g *globals, log *slog.Logger) (crypto.Signer, error) {
	if aws.IsKMSKey(s.key) {
		k, err := aws.NewKMSSigner(ctx, s.key, log.With("door", "aws"))
		if err != nil {
			return nil, err
		}
		return k.With(ctx), nil
	}
	if _, err := os.Stat(s.key); err == nil {
		return trust.LoadKey(s.key, s.password(g, false), s.plainKey)
	}
	k, _, err := s.ring(g).Signer(s.key, s.password(g, false), time.Now())
	if fault.Is(err, fault.NotFound) {
		return nil, s.noKey()
	}
	return k, err
}

// noKey is the error for a key that is nowhere.
func (s *signerFlags) noKey() error {
	return fault.New(fault.NotFound, "--key %s: there is no such file, and no such key in the ring", s.key).
		With("castellan trust key list shows the ring's, castellan trust key generate makes one; keys of KMS have an ARN")
}

// services are whom to ask. Nobody is unless he is named.
func (s *signerFlags) services(g *globals) (sigstore.Services, error) {
	var out sigstore.Services
	named := s.fulcio != "" || len(s.logs)+len(s.stamps) > 0
	switch {
	case s.sigstore != "" && s.sigstore != "public":
		return out, usagef("--sigstore %q: want public; for one of your own name its services, or --signing-config", s.sigstore)
	case s.sigstore != "" && (s.config != "" || named), s.config != "" && named:
		return out, usagef("say where the services are in one way: --sigstore public, --signing-config, or their addresses")
	case s.logVersion != 1 && s.logVersion != 2:
		return out, usagef("--rekor-version %d: want 1 or 2", s.logVersion)
	case s.sigstore != "":
		out = sigstore.PublicServices()
	case s.config != "":
		b, err := g.readSmall(s.config, maxCredential)
		if err == nil {
			out, err = sigstore.ReadServices(b, time.Now())
		}
		if err != nil {
			return out, fault.New(fault.Invalid, "--signing-config: %w", err)
		}
	default:
		out = sigstore.Services{Fulcio: s.fulcio, Stamps: s.stamps}
		for _, u := range s.logs {
			out.Logs = append(out.Logs, sigstore.LogURL{URL: u, Version: s.logVersion})
		}
	}
	if s.keyless && out.Fulcio == "" {
		return out, usagef("--keyless needs a Sigstore: --sigstore public, --signing-config FILE, or --fulcio-url with --rekor-url or --tsa-url")
	}
	return out, nil
}

// checkOIDC refuses ways to sign in that don't go together.
func (s *signerFlags) checkOIDC() error {
	switch {
	case s.oidc != "" && s.oidc != "browser" && s.oidc != "device":
		return usagef("--oidc %q: want browser or device", s.oidc)
	case s.oidc != "" && !s.keyless:
		return usagef("--oidc signs in for --keyless: add that, or leave --oidc away")
	case s.oidc != "" && s.token != "":
		return usagef("--oidc gets a token, and --identity-token has one: say one of both")
	case s.oidc == "" && s.issuer != "":
		return usagef("--oidc-issuer is for signing in: add --oidc browser or --oidc device")
	}
	return nil
}

// signIn has a person sign in.
func (s *signerFlags) signIn(ctx context.Context, g *globals, issuer string) (string, error) {
	in := sigstore.SignIn{Issuer: cmp.Or(s.issuer, issuer), Client: s.client, Tell: func(v sigstore.Visit) {
		fmt.Fprintf(g.err, "sign in with a browser at\n  %s\n", printable(v.Address))
		if v.Code != "" {
			fmt.Fprintf(g.err, "and see that the code there is %s\n", printable(v.Code))
		}
	}}
	if in.Issuer == "" {
		return "", usagef("--oidc: at which issuer? --oidc-issuer https://…, or a Sigstore that names its own: --sigstore public, --signing-config")
	}
	if s.oidc == "device" {
		return in.Device(ctx)
	}
	return in.Browser(ctx)
}

// idToken is the OIDC token, which is never on the command line.
func (s *signerFlags) idToken(ctx context.Context, g *globals, issuer string) (string, error) {
	if s.oidc != "" {
		return s.signIn(ctx, g, issuer)
	}
	if s.token != "" {
		t, err := g.readText(s.token, maxCredential)
		if err != nil {
			return "", fmt.Errorf("read OIDC token: %w", err)
		}
		return t, nil
	}
	t, err := sigstore.AmbientToken(ctx, os.Getenv, nil)
	if err == nil && t == "" {
		err = fault.New(fault.Unauthenticated, "there is no OIDC token to sign with").
			With("sign in: --oidc browser, or --oidc device; or name a file with one: --identity-token FILE; or set SIGSTORE_ID_TOKEN; on GitHub Actions give the job permissions: id-token: write")
	}
	return t, err
}

// roots are what the signature is held against as soon as it is made.
func (s *signerFlags) roots(g *globals, chain []*x509.Certificate) (signature.Roots, error) {
	var out signature.Roots
	if len(chain) > 0 {
		out.Stores = append(out.Stores, signature.Store{Kind: signature.StoreCA, Name: "signer", Certificates: chain[len(chain)-1:]})
	}
	if s.stampRoot != "" {
		stamps, err := g.readCertificates(s.stampRoot)
		if err != nil {
			return out, err
		}
		out.Stores = append(out.Stores, signature.Store{Kind: signature.StoreTSA, Name: "tsa", Certificates: stamps})
	}
	if s.trustedRoot != "" {
		b, err := g.readSmall(s.trustedRoot, maxCredential)
		if err != nil {
			return out, fmt.Errorf("read trusted root: %w", err)
		}
		out.Sigstore = append(out.Sigstore, b)
	}
	return out, nil
}

// readCertificates reads the certificates of a PEM file.
func (g *globals) readCertificates(name string) ([]*x509.Certificate, error) {
	b, err := g.readSmall(name, maxCredential)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, "read certificates of %s: it has a %s", name, block.Type).With("a file with nothing but certificates in PEM is wanted")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read certificates of %s: %w", name, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, "read certificates of %s: there are none", name).With("a file with certificates in PEM is wanted, the signer's own first")
	}
	return out, nil
}

// bySigstore is what signs in the form of Sigstore.
func (w *signer) bySigstore() (*sigstore.Signer, error) {
	o := sigstore.SignerOptions{Key: w.key, Chain: w.chain, Token: w.token, Services: w.services}
	if w.check {
		var err error
		if o.Check, err = sigstore.New(w.roots, sigstore.Options{}); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
	}
	s, err := sigstore.NewSigner(o)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	return s, nil
}

// byNotary signs in the form of the Notary Project.
func (w *signer) byNotary(ctx context.Context, s signature.Subject, o notary.SignOptions) (signature.Envelope, error) {
	if len(w.services.Stamps) > 0 {
		var roots []*x509.Certificate
		for _, r := range w.roots.Stores {
			if r.Kind == signature.StoreTSA {
				roots = append(roots, r.Certificates...)
			}
		}
		o.TSA = &notary.TSA{URL: w.services.Stamps[0], Roots: roots}
	}
	return notary.Sign(ctx, w.key, w.chain, s, o)
}

// errUnchecked says that there is nothing to hold a signature against.
var errUnchecked = errors.New("there is no --trusted-root to hold it against")

// opens holds what was written against the roots.
func (w *signer) opens(ctx context.Context, e signature.Envelope, s signature.Subject, kind signature.Kind) (signature.Signed, error) {
	if !w.check {
		return signature.Signed{}, errUnchecked
	}
	doors, err := openers(w.roots, nil)
	if err != nil {
		return signature.Signed{}, err
	}
	return doors[cmp.Or(kind, signature.Sigstore)].Open(ctx, e, s, time.Now())
}
