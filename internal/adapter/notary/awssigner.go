package notary

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// AWS Signer signs as a signing authority, and marks its signatures so that they
// are verified by its plugin for Notation. What follows does what that plugin
// does, so that the plugin is not needed.
const (
	awsPlugin         = "com.amazonaws.signer.notation.plugin"
	awsProfileVersion = "com.amazonaws.signer.signingProfileVersion"
	awsProfileAlias   = "com.amazonaws.signer.signingProfileAlias"
	awsJob            = "com.amazonaws.signer.signingJob"

	// awsMajor is the plugin's major version whose checks are done here. A later
	// minor one may be asked for: it must check the same (semantic versioning), and
	// what it would check besides stands in attributes that are refused here.
	awsMajor = 1

	// awsAnswer is how long an answer about revocation is used. AWS gives none a
	// lifetime.
	awsAnswer = time.Hour

	maxARN = 512
)

// AWSSignature is what of a signature by AWS Signer may have been revoked.
type AWSSignature struct {
	Profile string              // ARN of the signing profile, with its version
	Job     string              // ARN of the signing job
	Chain   []*x509.Certificate // from the signing certificate to the root
	At      time.Time           // of signing
}

// AWSRevocations asks AWS Signer which of these were revoked
// (signer:GetRevocationStatus); none is the good answer. An error means that nobody
// knows.
type AWSRevocations func(context.Context, AWSSignature) (revoked []string, err error)

// awsSigned is what AWS Signer says about one of its signatures.
type awsSigned struct {
	profile, version, alias, job string
}

// plugin checks the attributes that others have added. It returns nil if no plugin
// is asked for.
func (h *header) plugin() (*awsSigned, error) {
	name, asked, err := h.text(namePlugin)
	if err != nil {
		return nil, err
	}
	least, hasLeast, err := h.text(namePluginAt)
	if err != nil {
		return nil, err
	}
	if asked && !h.others[namePlugin].critical || hasLeast && (!asked || !h.others[namePluginAt].critical) {
		return nil, signature.Refuse(signature.Malformed, "the plugin that must verify the signature, or its version, is not marked critical")
	}
	known := map[string]bool{}
	var aws *awsSigned
	if asked {
		if name != awsPlugin {
			r := signature.Refuse(signature.Unsupported, "the signature asks to be verified by the plugin %s, which is not known", shown(name))
			r.Remedy = "verify it with notation and that plugin, or have the image signed without a plugin"
			return nil, r
		}
		known = map[string]bool{namePlugin: true, namePluginAt: true, awsProfileVersion: true, awsProfileAlias: true, awsJob: true}
		if aws, err = h.aws(least, hasLeast); err != nil {
			return nil, err
		}
	}
	for _, n := range h.critical {
		if a, other := h.others[n]; other && a.critical && !known[n] {
			return nil, signature.Refuse(signature.Unsupported, "the signature has a critical attribute, %s, that is not known", shown(n))
		}
	}
	return aws, nil
}

// text returns an attribute that must be a text if it is there.
func (h *header) text(name string) (string, bool, error) {
	a, ok := h.others[name]
	if ok && (!a.isText || strings.TrimSpace(a.text) == "") {
		return "", true, signature.Refuse(signature.Malformed, "%s is no text", name)
	}
	return a.text, ok, nil
}

// aws reads AWS Signer's attributes.
func (h *header) aws(least string, hasLeast bool) (*awsSigned, error) {
	if h.scheme != schemeAuthority {
		return nil, signature.Refuse(signature.Unsupported, "AWS Signer signs with the scheme %s, this is %s", schemeAuthority, h.scheme)
	}
	if hasLeast {
		major, _, _ := strings.Cut(least, ".")
		if n, err := strconv.ParseUint(major, 10, 16); err != nil || n > awsMajor {
			r := signature.Refuse(signature.Unsupported, "the signature asks for version %s of AWS Signer's plugin; what version %d checks is known", shown(least), awsMajor)
			r.Remedy = "use a newer release of castellan"
			return nil, r
		}
	}
	version, _, err := h.text(awsProfileVersion)
	if err != nil {
		return nil, err
	}
	job, _, err := h.text(awsJob)
	if err != nil {
		return nil, err
	}
	alias, hasAlias, err := h.text(awsProfileAlias)
	if err != nil {
		return nil, err
	}
	out := &awsSigned{job: job}
	if kind, parts := signerARN(job); kind != "signing-jobs" || parts != 1 {
		return nil, signature.Refuse(signature.Malformed, "%s is %s, want the ARN of a signing job", awsJob, shown(job))
	}
	switch kind, parts := signerARN(version); {
	case kind == "signing-profiles" && parts == 2:
		out.profile, out.version = version[:strings.LastIndexByte(version, '/')], version
	case kind == "aliased-signing-profiles" && parts == 1:
		out.profile = version
	default:
		return nil, signature.Refuse(signature.Malformed, "%s is %s, want the ARN of a signing profile's version", awsProfileVersion, shown(version))
	}
	if hasAlias {
		if kind, parts := signerARN(alias); kind != "aliases" || parts != 1 {
			return nil, signature.Refuse(signature.Malformed, "%s is %s, want the ARN of an alias", awsProfileAlias, shown(alias))
		}
		out.alias = alias
	}
	return out, nil
}

// signerARN returns the kind of a resource of AWS Signer, and of how many parts its
// name is. An alias belongs to no region and no account.
func signerARN(arn string) (kind string, parts int) {
	f := strings.SplitN(arn, ":", 6)
	if len(arn) > maxARN || len(f) != 6 || f[0] != "arn" || f[1] == "" || f[2] != "signer" {
		return "", 0
	}
	for _, c := range []byte(arn) {
		if c <= ' ' || c >= 0x7f {
			return "", 0
		}
	}
	path := strings.Split(f[5], "/")
	if len(path) < 3 || path[0] != "" {
		return "", 0
	}
	for _, p := range path[1:] {
		if p == "" {
			return "", 0
		}
	}
	return path[1], len(path) - 2
}

// revocation asks AWS whether it takes the signature back. That AWS does not answer
// is not the signature's fault: what is not known is told as such, and the trust
// policy says what that is worth.
func (a *awsSigned) revocation(ctx context.Context, ask AWSRevocations, chain []*x509.Certificate, signed, at time.Time) (standing, error) {
	if ask == nil {
		return standing{state: signature.RevocationSilent}, nil
	}
	s := AWSSignature{Profile: a.version, Job: a.job, Chain: chain, At: signed}
	if s.Profile == "" {
		s.Profile = a.profile
	}
	revoked, err := ask(ctx, s)
	if err != nil {
		if ctx.Err() != nil {
			return standing{}, fmt.Errorf("ask AWS Signer for revocation: %w", ctx.Err())
		}
		return standing{state: signature.RevocationSilent}, nil
	}
	if len(revoked) > 0 {
		return standing{}, signature.Refuse(signature.Revoked, "AWS Signer says that %s is revoked", shown(strings.Join(revoked, ", ")))
	}
	return standing{signature.NotRevoked, at.Add(awsAnswer)}, nil
}
