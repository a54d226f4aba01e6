package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

// openers are both doors by which signatures are opened, with what a policy
// trusts. With revocations AWS Signer is asked, too.
func openers(roots signature.Roots, revocations *aws.Revocations) (map[signature.Kind]trust.Opener, error) {
	if revocations == nil {
		return openersAsking(roots, nil)
	}
	return openersAsking(roots, func(ctx context.Context, s notary.AWSSignature) ([]string, error) {
		return revocations.Revoked(ctx, aws.Revocable(s))
	})
}

// openersAsking is openers where somebody else asks AWS Signer; nil: nobody.
func openersAsking(roots signature.Roots, ask notary.AWSRevocations) (map[signature.Kind]trust.Opener, error) {
	s, err := sigstore.New(roots, sigstore.Options{})
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err).With("mend roots in the trust policy")
	}
	n, err := notary.New(roots, notary.Options{AWS: ask})
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err).With("mend roots in the trust policy")
	}
	return map[signature.Kind]trust.Opener{signature.Sigstore: s, signature.Notary: n}, nil
}

// awsRevocations is AWS Signer's word on what was revoked, nil if it is not
// wanted: to verify asks nobody unless somebody says so.
func awsRevocations(wanted bool, log *slog.Logger) *aws.Revocations {
	if !wanted {
		return nil
	}
	return aws.NewRevocations(log.With("door", "aws"))
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

// readSmall reads a file, or the standard input for "-", that has at most so many
// bytes.
func (g *globals) readSmall(name string, most int64) ([]byte, error) {
	in := g.in
	if name != "-" {
		info, err := os.Stat(name)
		if err == nil && !info.Mode().IsRegular() {
			err = fault.New(fault.Invalid, "%s is no regular file", name)
		}
		if err != nil {
			return nil, err
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		err = fault.New(fault.Invalid, "%s has more than %d bytes", name, most)
	}
	return b, err
}

// readText is readSmall for a line of text.
func (g *globals) readText(name string, most int64) (string, error) {
	b, err := g.readSmall(name, most)
	return strings.TrimSpace(string(b)), err
}
