package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxPolicies bounds the policies of one role that are read: IAM attaches 25 at
	// most, and inline ones have 10 KB together.
	maxPolicies = 60
	// maxPolicyBytes bounds them together: ten that are managed, which are IAM's
	// quota, have 60 KB. The server takes requests of 256 KiB, with two roles.
	maxPolicyBytes = 96 << 10

	mayReadRole = "iam:GetRole, iam:ListRolePolicies, iam:GetRolePolicy, iam:ListAttachedRolePolicies, iam:GetPolicy and iam:GetPolicyVersion"
)

// IAM tells what roles permit. It can be used by several goroutines.
type IAM struct {
	session session
	log     *slog.Logger
}

// NewIAM returns the door. It asks nobody yet.
func NewIAM(log *slog.Logger) *IAM { return &IAM{session{log: log}, log} }

// Complete gives a role its policies, inline and attached, and its boundary, and
// says that they are all of them. What may not be read, is not there, is of another
// account or is too much leaves the role not Known; an error is one that may pass.
func (i *IAM) Complete(ctx context.Context, r *admission.Role) error {
	what := "read role " + r.ARN
	name := r.ARN[strings.LastIndexByte(r.ARN, '/')+1:]
	if !strings.Contains(r.ARN, ":role/") || name == "" {
		return nil // it is not known yet which
	}
	config, err := i.session.open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := request(ctx)
	defer cancel()
	p := policies{api: iam.NewFromConfig(config), role: sdk.String(name)}
	err = p.read(within, r.ARN)
	if err == nil {
		r.Policies, r.Known, r.Bounded, r.Boundary = p.documents, true, p.bounded, p.boundary
		return nil
	}
	if fault.Of(err) == fault.Unknown { // else it is ours
		err = refused(what, err, mayReadRole, "iam")
	}
	if isMissing(err) {
		err = fault.New(fault.NotFound, "%w", err).With("is it there already, and of this account? What a role permits is known once it is made")
	}
	if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Exhausted) {
		return err
	}
	i.log.Warn("role not read", "role", r.ARN, "error", err, "remedy", fault.Remedy(err))
	return nil
}

// isMissing says that IAM answered, and knows no such role.
func isMissing(err error) bool { return strings.Contains(err.Error(), "NoSuchEntity") }

// policies reads those of one role.
type policies struct {
	api       *iam.Client
	role      *string
	documents []json.RawMessage
	bounded   bool
	boundary  json.RawMessage
	bytes     int
}

func (p *policies) read(ctx context.Context, arn string) error {
	// Names are of the account of the credentials: the role may be another's.
	role, err := p.api.GetRole(ctx, &iam.GetRoleInput{RoleName: p.role})
	if err != nil {
		return err
	}
	if role.Role == nil || sdk.ToString(role.Role.Arn) != arn {
		return fault.New(fault.Invalid, "it is of another account")
	}
	if b := role.Role.PermissionsBoundary; b != nil && b.PermissionsBoundaryArn != nil {
		if p.bounded, err = true, p.managed(ctx, b.PermissionsBoundaryArn); err != nil {
			return err
		}
		p.boundary, p.documents = p.documents[0], nil
	}
	inline := iam.NewListRolePoliciesPaginator(p.api, &iam.ListRolePoliciesInput{RoleName: p.role})
	for inline.HasMorePages() {
		page, err := inline.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, name := range page.PolicyNames {
			out, err := p.api.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: p.role, PolicyName: sdk.String(name)})
			if err != nil {
				return err
			}
			if err := p.add(out.PolicyDocument); err != nil {
				return err
			}
		}
	}
	attached := iam.NewListAttachedRolePoliciesPaginator(p.api, &iam.ListAttachedRolePoliciesInput{RoleName: p.role})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, a := range page.AttachedPolicies {
			if err := p.managed(ctx, a.PolicyArn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *policies) managed(ctx context.Context, arn *string) error {
	policy, err := p.api.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
	if err != nil {
		return err
	}
	if policy.Policy == nil || policy.Policy.DefaultVersionId == nil {
		return fault.New(fault.Invalid, "policy %s has no version", sdk.ToString(arn))
	}
	out, err := p.api.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: policy.Policy.DefaultVersionId})
	if err != nil {
		return err
	}
	if out.PolicyVersion == nil {
		return fault.New(fault.Invalid, "policy %s has no document", sdk.ToString(arn))
	}
	return p.add(out.PolicyVersion.Document)
}

// add takes a document, which IAM writes as a part of an address.
func (p *policies) add(document *string) error {
	text, err := url.PathUnescape(sdk.ToString(document))
	if err != nil || !json.Valid([]byte(text)) {
		return fault.New(fault.Invalid, "a policy's document is not read")
	}
	p.bytes += len(text)
	if len(p.documents) == maxPolicies || p.bytes > maxPolicyBytes {
		return fault.New(fault.Invalid, "it has more than %d policies, or of more than %d bytes", maxPolicies, maxPolicyBytes)
	}
	p.documents = append(p.documents, json.RawMessage(text))
	return nil
}
