package aws

import (
	"context"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// signerPlatform is what AWS Signer calls the signatures of the Notary Project.
	signerPlatform = "Notation-OCI-SHA384-ECDSA"
	// maxChain bounds the certificates that are asked about; AWS Signer's have
	// four.
	maxChain = 10
)

// Revocable is what of a signature by AWS Signer may have been revoked.
type Revocable struct {
	Profile string              // ARN of the signing profile, with its version
	Job     string              // ARN of the signing job
	Chain   []*x509.Certificate // from the signing certificate to the root
	At      time.Time           // of signing
}

// Revocations asks AWS Signer what was revoked. It can be used by several
// goroutines.
type Revocations struct{ log *slog.Logger }

// NewRevocations returns the door. It asks nobody yet.
func NewRevocations(log *slog.Logger) *Revocations { return &Revocations{log} }

// Revoked returns those of a signature's profile, job and certificates that were
// revoked, in AWS Signer's words; none is the good answer. It needs the permission
// signer:GetRevocationStatus.
func (r *Revocations) Revoked(ctx context.Context, v Revocable) ([]string, error) {
	what := "ask AWS Signer what was revoked"
	parts := strings.SplitN(v.Profile, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "signer" || !isRegion(parts[3]) || v.Job == "" || len(v.Chain) == 0 || len(v.Chain) > maxChain {
		return nil, fault.New(fault.Invalid, "%s: profile %.100q, job %.100q and %d certificates are none of a signature by it", what, v.Profile, v.Job, len(v.Chain)).
			With("was the image signed by AWS Signer?")
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	config, err := load(ctx, registry{region: parts[3]}, r.log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := identified(ctx, config); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	out, err := signer.NewFromConfig(config, keepHost).GetRevocationStatus(ctx, &signer.GetRevocationStatusInput{
		CertificateHashes: certificateHashes(v.Chain), JobArn: sdk.String(v.Job), PlatformId: sdk.String(signerPlatform),
		ProfileVersionArn: sdk.String(v.Profile), SignatureTimestamp: sdk.Time(v.At.UTC()),
	})
	if err != nil {
		return nil, refusedByName(what, err, "signer:GetRevocationStatus", "signer",
			"the signature names a profile or a job that AWS Signer does not take: was it signed by AWS Signer, in this partition of AWS?")
	}
	return out.RevokedEntities, nil
}

// keepHost leaves the host of an endpoint that the user set as it is: AWS's own
// has another for this question.
func keepHost(o *signer.Options) {
	if o.BaseEndpoint == nil {
		return
	}
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("KeepHost", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
		}), middleware.Before)
	})
}

// certificateHashes names certificates as AWS Signer does: by the SHA-384 of what
// is signed of each, and of its issuer; a root is its own.
func certificateHashes(chain []*x509.Certificate) []string {
	var all []string
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		all = append(all, fmt.Sprintf("%x%x", sha512.Sum384(c.RawTBSCertificate), sha512.Sum384(issuer.RawTBSCertificate)))
	}
	return all
}
