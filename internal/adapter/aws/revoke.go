package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// RevokedPolicy is the name of the inline policy by which sessions of a role are
// refused.
const RevokedPolicy = "CastellanRevokedSessions"

const (
	mayRevoke    = "iam:GetRole and iam:PutRolePolicy on the task's role"
	mayReinstate = "iam:GetRole and iam:DeleteRolePolicy on the task's role"
)

// Sessions has AWS refuse the credentials that the roles of tasks have given out. It
// can be used by several goroutines.
type Sessions struct {
	ecs     *ECS
	session session
}

// NewSessions returns the door. It asks nobody yet.
func NewSessions(log *slog.Logger) *Sessions {
	return &Sessions{ecs: NewECS(log), session: session{log: log}}
}

// Role returns the ARN of the role that the containers of a task have: what it was
// started with, or of one that has ended what its definition says. NotFound when it
// has none.
func (s *Sessions) Role(ctx context.Context, of asset.ECS) (string, error) {
	what := "look for the role of task " + of.TaskARN
	api, err := s.ecs.api(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	definition := of.Family + ":" + of.Revision
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.DescribeTasks(within, &ecs.DescribeTasksInput{Cluster: sdk.String(of.Cluster), Tasks: []string{of.TaskARN}}, lenient)
	if err != nil {
		if err := refusedECS(what, err, mayReadTask); !fault.Is(err, fault.NotFound) {
			return "", err
		}
	} else if len(out.Tasks) == 1 {
		t := &out.Tasks[0]
		if t.Overrides != nil && sdk.ToString(t.Overrides.TaskRoleArn) != "" {
			return sdk.ToString(t.Overrides.TaskRoleArn), nil
		}
		definition = sdk.ToString(t.TaskDefinitionArn)
	}
	described, err := api.DescribeTaskDefinition(within, &ecs.DescribeTaskDefinitionInput{TaskDefinition: sdk.String(definition)})
	if err != nil {
		return "", refusedECS(what, err, mayReadDefinition)
	}
	if described.TaskDefinition == nil || sdk.ToString(described.TaskDefinition.TaskRoleArn) == "" {
		return "", fault.New(fault.NotFound, "%s: it has none, so that there are no sessions", what).
			With("can it reach the metadata of its instance? then the instance's role is what it has")
	}
	return *described.TaskDefinition.TaskRoleArn, nil
}

// revoked is the policy that IAM's console attaches under another name to revoke
// sessions; it denies all to credentials that were given out before a time
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html).
func revoked(before time.Time) (string, error) {
	b, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Sid": RevokedPolicy, "Effect": "Deny", "Action": "*", "Resource": "*",
			"Condition": map[string]any{"DateLessThan": map[string]string{"aws:TokenIssueTime": before.UTC().Format(time.RFC3339)}},
		}},
	})
	return string(b), err
}

// Revoke has AWS refuse all credentials that a role has given out before a time. It
// takes IAM some seconds. Denied for the role of this program itself, and Invalid for
// one of another account.
func (s *Sessions) Revoke(ctx context.Context, role string, before time.Time) error {
	what := "revoke the sessions of role " + role
	config, api, name, err := s.role(ctx, what, role, mayRevoke)
	if err != nil {
		return err
	}
	within, cancel := request(ctx)
	defer cancel()
	me, err := sts.NewFromConfig(config).GetCallerIdentity(within, &sts.GetCallerIdentityInput{}) // which needs no permission
	if err != nil {
		return refused(what+": find out who asks", err, "sts:GetCallerIdentity", "sts")
	}
	if assumed(sdk.ToString(me.Arn)) == name {
		return fault.New(fault.Denied, "%s: it is the role of this server itself, which could not take it back", what).
			With("give the server a role of its own")
	}
	document, err := revoked(before)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := api.PutRolePolicy(within, &iam.PutRolePolicyInput{
		RoleName: sdk.String(name), PolicyName: sdk.String(RevokedPolicy), PolicyDocument: sdk.String(document),
	}); err != nil {
		return refused(what, err, mayRevoke, "iam")
	}
	return nil
}

// Reinstate takes Revoke back. It is no error if there is nothing to take back.
func (s *Sessions) Reinstate(ctx context.Context, role string) error {
	what := "reinstate the sessions of role " + role
	_, api, name, err := s.role(ctx, what, role, mayReinstate)
	if err != nil {
		return err
	}
	within, cancel := request(ctx)
	defer cancel()
	if _, err := api.DeleteRolePolicy(within, &iam.DeleteRolePolicyInput{RoleName: sdk.String(name), PolicyName: sdk.String(RevokedPolicy)}); err != nil && !isMissing(err) {
		return refused(what, err, mayReinstate, "iam")
	}
	return nil
}

// role looks whether a role is of this account: names are, and another's role may have
// the same.
func (s *Sessions) role(ctx context.Context, what, role, permissions string) (config sdk.Config, api *iam.Client, name string, err error) {
	name = role[strings.LastIndexByte(role, '/')+1:]
	if !strings.Contains(role, ":role/") || name == "" {
		return config, nil, "", fault.New(fault.Invalid, "%s: it is no ARN of a role", what)
	}
	if config, err = s.session.open(ctx); err != nil {
		return config, nil, "", fmt.Errorf("%s: %w", what, err)
	}
	api = iam.NewFromConfig(config)
	within, cancel := request(ctx)
	defer cancel()
	out, err := api.GetRole(within, &iam.GetRoleInput{RoleName: sdk.String(name)})
	if err != nil {
		if isMissing(err) {
			return config, nil, "", fault.New(fault.NotFound, "%s: there is none in this account", what)
		}
		return config, nil, "", refused(what, err, permissions, "iam")
	}
	if out.Role == nil || sdk.ToString(out.Role.Arn) != role {
		return config, nil, "", fault.New(fault.Invalid, "%s: it is of another account", what).With("do it there, or give the server of that account the right")
	}
	return config, api, name, nil
}

// assumed is the name of the role of a session, as in
// arn:aws:sts::123456789012:assumed-role/NAME/SESSION; empty of others.
func assumed(arn string) string {
	_, rest, ok := strings.Cut(arn, ":assumed-role/")
	name, _, _ := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return name
}
