package aws

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// AccountRole is in whose name an account is asked. The zero value is whoever this
// program is.
type AccountRole struct {
	Role       string // its ARN; the account in it is the one that is asked
	ExternalID string // that the role's trust policy asks for; empty for none
}

const (
	// roleSession is what CloudTrail shows of who took a role.
	roleSession = "castellan"
	// roleFor is how long its credentials hold: the least that STS gives.
	roleFor = 15 * time.Minute
	// maxRoleSessions bounds the accounts and regions that are asked: whose a task is say
	// agents.
	maxRoleSessions = 200
)

// externalID is compiled when one is met: it takes 600 KB.
var externalID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\w+=,.@:/-]{2,1000}$`) })

// account returns which account a role is of.
func (r AccountRole) account() (string, error) {
	a, err := arn.Parse(r.Role)
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") || len(a.AccountID) != 12 || strings.Trim(a.AccountID, "0123456789") != "" {
		return "", fault.New(fault.Invalid, "%.200q is no ARN of a role", r.Role).With("write arn:aws:iam::ACCOUNT:role/NAME, and behind a comma the external id, if any")
	}
	if r.ExternalID != "" && !externalID().MatchString(r.ExternalID) {
		return "", fault.New(fault.Invalid, "the external id of role %s can't be one", r.Role).With("2 to 1,000 letters, digits and _+=,.@:/-")
	}
	return a.AccountID, nil
}

// assume has a configuration ask as the role. Credentials renew themselves.
func (r AccountRole) assume(ctx context.Context, config *sdk.Config) error {
	if err := identified(ctx, *config); err != nil {
		return err
	}
	config.Credentials = sdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(*config), r.Role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName, o.Duration = roleSession, roleFor
		if r.ExternalID != "" {
			o.ExternalID = sdk.String(r.ExternalID)
		}
	}))
	within, cancel := request(ctx)
	defer cancel()
	if _, err := config.Credentials.Retrieve(within); err != nil {
		return refused("take role "+r.Role, err, "sts:AssumeRole on it, and have its trust policy name this server's role and the external id", "sts")
	}
	return nil
}

// Accounts stops tasks and revokes sessions of roles where they are: in the region of
// the task, and in another account with the role that is named for it. It can be used
// by several goroutines.
type Accounts struct {
	roles map[string]AccountRole // by account
	log   *slog.Logger

	mu sync.Mutex
	of map[[2]string]*Sessions // by account, of those with a role, and region
}

// NewAccounts returns the door and asks nobody yet. A role that is none, or a second
// one of an account, is Invalid.
func NewAccounts(roles []AccountRole, log *slog.Logger) (*Accounts, error) {
	a := &Accounts{roles: map[string]AccountRole{}, log: log, of: map[[2]string]*Sessions{}}
	for _, r := range roles {
		account, err := r.account()
		if err != nil {
			return nil, err
		}
		if a.roles[account].Role != "" {
			return nil, fault.New(fault.Invalid, "account %s has two roles: %s and %s", account, a.roles[account].Role, r.Role).With("name one of both")
		}
		a.roles[account] = r
	}
	return a, nil
}

// at returns whom to ask of what has an ARN; what has none, or is of no region, is
// asked for where this program is.
func (a *Accounts) at(name string) *Sessions {
	var key [2]string
	if p, err := arn.Parse(name); err == nil {
		if a.roles[p.AccountID].Role != "" {
			key[0] = p.AccountID
		}
		if isRegion(p.Region) {
			key[1] = p.Region
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.of[key]
	if s == nil {
		if len(a.of) >= maxRoleSessions {
			clear(a.of)
		}
		as := a.roles[key[0]]
		s = &Sessions{ecs: &ECS{session{log: a.log, region: key[1], as: as}}, session: session{log: a.log, region: key[1], as: as}}
		a.of[key] = s
	}
	return s
}

// Stop is ECS.Stop, where the task is.
func (a *Accounts) Stop(ctx context.Context, cluster, task, reason string) error {
	return a.at(task).ecs.Stop(ctx, cluster, task, reason)
}

// Runs is ECS.Runs, where the task is.
func (a *Accounts) Runs(ctx context.Context, cluster, task string) error {
	return a.at(task).ecs.Runs(ctx, cluster, task)
}

// Role is Sessions.Role, where the task is.
func (a *Accounts) Role(ctx context.Context, of asset.ECS) (string, error) {
	return a.at(of.TaskARN).Role(ctx, of)
}

// Revoke is Sessions.Revoke, in the role's account.
func (a *Accounts) Revoke(ctx context.Context, role string, before time.Time) error {
	return a.at(role).Revoke(ctx, role, before)
}

// Reinstate is Sessions.Reinstate, in the role's account.
func (a *Accounts) Reinstate(ctx context.Context, role string) error {
	return a.at(role).Reinstate(ctx, role)
}
