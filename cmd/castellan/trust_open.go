package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// authorities are whom a verifier may ask whether what they vouched for was revoked.
type authorities struct {
	aws  *aws.Revocations
	ocsp *notary.Responders
	log  *slog.Logger
}

// newAuthorities returns those, nil if they are not wanted: to verify asks nobody
// unless somebody says so.
func newAuthorities(wanted bool, log *slog.Logger) *authorities {
	if !wanted {
		return nil
	}
	return &authorities{aws.NewRevocations(log.With("door", "aws")), notary.NewResponders(nil, log.With("door", "notary")), log}
}

// revoked asks AWS Signer. That it does not answer leaves the revocation unknown,
// which is the signature's state and not its fault, so that the reason is told here.
func (a *authorities) revoked(ctx context.Context, s notary.AWSSignature) ([]string, error) {
	all, err := a.aws.Revoked(ctx, aws.Revocable(s))
	if err != nil && ctx.Err() == nil {
		a.log.Warn("revocation not known", "job", printable(s.Job), "error", err, "remedy", fault.Remedy(err))
	}
	return all, err
}

// openers are both doors by which signatures are opened, with what a policy
// trusts, and who may be asked besides; nil: nobody.
func openers(roots signature.Roots, online *authorities) (map[signature.Kind]trust.Opener, error) {
	if online == nil {
		return openersAsking(roots, notary.Options{})
	}
	return openersAsking(roots, notary.Options{AWS: online.revoked, OCSP: online.ocsp})
}

// openersAsking is openers where the door of the Notary Project asks by o.
func openersAsking(roots signature.Roots, o notary.Options) (map[signature.Kind]trust.Opener, error) {
	s, err := sigstore.New(roots, sigstore.Options{})
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err).With("mend roots in the trust policy")
	}
	n, err := notary.New(roots, o)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err).With("mend roots in the trust policy")
	}
	return map[signature.Kind]trust.Opener{signature.Sigstore: s, signature.Notary: n}, nil
}

// signatureFiles finds what is in files, whatever the image.
type signatureFiles []signature.Envelope

// Envelopes is trust.Finder.
func (f signatureFiles) Envelopes(context.Context, signature.Subject) ([]signature.Envelope, error) {
	return f, nil
}

// maxSignatureFile bounds a file with a signature, as a door bounds one.
const maxSignatureFile = 24 << 20

// readSignatureFiles reads signatures and attestations out of files.
func (g *globals) readSignatureFiles(names []string) (signatureFiles, error) {
	var all signatureFiles
	for _, name := range names {
		b, err := g.readSmall(name, maxSignatureFile)
		if err != nil {
			return nil, fmt.Errorf("read signature: %w", err)
		}
		form := formOf(b)
		if form == "" {
			return nil, fault.New(fault.Unsupported, "%s is no signature that is known", name).
				With("a bundle of Sigstore, a DSSE envelope, or an envelope of the Notary Project (JWS or COSE) is read")
		}
		all = append(all, signature.Envelope{Digest: sha256Of(b), MediaType: form, Payload: b, Way: signature.ByFile})
	}
	return all, nil
}

// formOf is the media type of an envelope by its content, "" if it is none.
func formOf(b []byte) string {
	const tagCOSE = 0xd2 // CBOR's tag 18, COSE_Sign1
	if len(b) > 0 && b[0] == tagCOSE {
		return notary.COSE
	}
	var in struct {
		MediaType   string `json:"mediaType"`
		PayloadType string `json:"payloadType"`
		Protected   string `json:"protected"`
	}
	if json.Unmarshal(b, &in) != nil {
		return ""
	}
	switch {
	case sigstore.Opens(in.MediaType):
		return in.MediaType
	case in.PayloadType != "":
		return sigstore.DSSEMediaType
	case in.Protected != "":
		return notary.JWS
	}
	return ""
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
