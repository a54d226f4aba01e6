package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/smithy-go"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// maxTargetARN bounds the ARN of a target: those of AWS have 2,048 bytes at most.
const maxTargetARN = 2_048

// Targets carries notifications to Amazon SNS, EventBridge, CloudWatch and Security
// Hub. It can be used by several goroutines.
type Targets struct {
	log   *slog.Logger
	clock func() time.Time

	mu       sync.Mutex
	sessions map[targetSession]*session
}

// targetSession is where targets are, and in whose name they are reached.
type targetSession struct {
	region string
	as     AccountRole
}

// maxTargetSessions bounds those that are kept: of more, all are opened anew.
const maxTargetSessions = 200

// NewTargets returns the door. It asks nobody yet.
func NewTargets(log *slog.Logger) *Targets {
	return &Targets{log: log, clock: time.Now, sessions: map[targetSession]*session{}}
}

// targetForm is what the ARN of a type of target looks like.
type targetForm struct {
	service, prefix, example string
}

var targetForms = map[notice.Type]targetForm{
	notice.SNS:               {"sns", "", "arn:aws:sns:eu-west-1:123456789012:castellan"},
	notice.EventBridge:       {"events", "event-bus/", "arn:aws:events:eu-west-1:123456789012:event-bus/default"},
	notice.CloudWatchLogs:    {"logs", "log-group:", "arn:aws:logs:eu-west-1:123456789012:log-group:/castellan/notices"},
	notice.CloudWatchMetrics: {"logs", "log-group:", "arn:aws:logs:eu-west-1:123456789012:log-group:/castellan/metrics"},
	notice.SecurityHub:       {"securityhub", "", "arn:aws:securityhub:eu-west-1:123456789012:hub/default"},
}

// parseTarget reads where a target is; its resource is the name alone.
func parseTarget(d notice.Destination) (arn.ARN, error) {
	form, ok := targetForms[d.Type]
	if !ok {
		return arn.ARN{}, fault.New(fault.Invalid, "type: %.20q is none of AWS", d.Type)
	}
	a, err := arn.Parse(d.URL)
	name, has := strings.CutPrefix(a.Resource, form.prefix)
	name = strings.TrimSuffix(name, ":*") // as the console of CloudWatch shows log groups
	if err != nil || len(d.URL) > maxTargetARN || a.Service != form.service || !has || !isRegion(a.Region) ||
		len(a.AccountID) != accountDigits || strings.Trim(a.AccountID, "0123456789") != "" || name == "" || strings.ContainsAny(name, " :*") {
		return arn.ARN{}, fault.New(fault.Invalid, "url: want the ARN of a target of type %s", d.Type).With("write it as in " + form.example)
	}
	if d.Type == notice.SecurityHub && name != "hub/default" && name != "product/"+a.AccountID+"/default" {
		return arn.ARN{}, fault.New(fault.Invalid, "url: findings go to the default product of an account").With("write it as in " + form.example)
	}
	a.Resource = name
	return a, nil
}

// Check returns what is wrong with a destination, as Invalid, and otherwise its ARN,
// which is no secret.
func (t *Targets) Check(d notice.Destination) (shown string, err error) {
	a, err := parseTarget(d)
	if err != nil {
		return "", err
	}
	if err := checkRole(d, a.AccountID); err != nil {
		return "", err
	}
	switch {
	case d.Secret != "" || d.CA != "":
		return "", fault.New(fault.Invalid, "a target of AWS has no secret and no certificates").With("leave them out: the server's own role is used")
	case d.Plain:
		return "", fault.New(fault.Invalid, "plain: AWS is reached over TLS alone").With("leave it out")
	}
	return d.URL, nil
}

// checkRole returns what is wrong with the role in which a target of an account is
// reached. It must be one of that account: whoever adds a target is not to have the
// server try out roles elsewhere.
func checkRole(d notice.Destination, of string) error {
	if d.Role == "" {
		if d.ExternalID != "" {
			return fault.New(fault.Invalid, "external id: there is no role that it is for").With("give the role, too, or leave it out")
		}
		return nil
	}
	account, err := AccountRole{d.Role, d.ExternalID}.account()
	if err != nil {
		return err
	}
	if account != of {
		return fault.New(fault.Invalid, "role: it is of account %s, and the target of %s", account, of).With("give a role of the target's account")
	}
	return nil
}

// Send delivers a notification with the credentials that the server has, or those of
// the target's role. What the
// service has read and does not want is a *notice.Refused; what it took in part, and
// would not take otherwise, a *notice.Partial.
func (t *Targets) Send(ctx context.Context, d notice.Destination, n notice.Notification) error {
	a, err := parseTarget(d)
	if err != nil {
		return err
	}
	config, err := t.config(ctx, targetSession{a.Region, AccountRole{d.Role, d.ExternalID}})
	if err != nil {
		return err
	}
	switch d.Type {
	case notice.SNS:
		return t.publish(ctx, config, d.URL, a, n)
	case notice.EventBridge:
		return t.putEvents(ctx, config, d, n)
	case notice.CloudWatchLogs, notice.CloudWatchMetrics:
		lines, err := logLines(n)
		if d.Type == notice.CloudWatchMetrics {
			lines, err = t.metricLines(n)
		}
		if err != nil {
			return err
		}
		return t.putLogs(ctx, config, a.Resource, lines)
	}
	return t.importFindings(ctx, config, a, n)
}

// config returns the SDK's configuration for a target, with credentials that are
// there. A failure is not remembered.
func (t *Targets) config(ctx context.Context, of targetSession) (sdk.Config, error) {
	t.mu.Lock()
	s := t.sessions[of]
	if s == nil {
		if len(t.sessions) >= maxTargetSessions {
			clear(t.sessions)
		}
		s = &session{log: t.log, region: of.region, as: of.as}
		t.sessions[of] = s
	}
	t.mu.Unlock()
	return s.open(ctx)
}

// notTaken makes an error of one of a service: what it would refuse again is a
// *notice.Refused.
func notTaken(what string, err error, permissions, endpoint string) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return refused(what, err, permissions, endpoint)
	}
	code := api.ErrorCode()
	switch {
	case strings.Contains(code, "NotFound"):
		return fault.New(fault.NotFound, "%s: %w", what, oneLine(err)).With("is the target's ARN right, and does it still exist?")
	case strings.Contains(code, "InvalidAccess"), strings.Contains(code, "AuthorizationError"):
		return fault.New(fault.Denied, "%s: %w", what, oneLine(err)).With("permit the role " + permissions)
	case strings.Contains(code, "Invalid"), strings.Contains(code, "Validation"), strings.Contains(code, "TooLarge"):
		return &notice.Refused{Err: fault.New(fault.Invalid, "%s: %w", what, oneLine(err)).With("narrow the target's filter or shorten its template")}
	}
	return refused(what, err, permissions, endpoint)
}

// fitted returns a notification as JSON of so many bytes at most: of one that is
// larger it leaves notices out, the least grave first.
func fitted(n notice.Notification, most int) ([]byte, error) {
	for {
		body, err := json.Marshal(n)
		if err != nil {
			return nil, fmt.Errorf("write notification: %w", err)
		}
		if len(body) <= most {
			return body, nil
		}
		if len(n.Notices) <= 1 {
			return nil, &notice.Refused{Err: fault.New(fault.Invalid, "a notice of %d bytes has no room in the %d that a message may have", len(body), most)}
		}
		keep := len(n.Notices) / 2
		n.LeftOut += len(n.Notices) - keep
		n.Notices = n.Notices[:keep]
	}
}

// told is one notice with the id of the notification that it came in.
type told struct {
	Notification string `json:"notification"`
	*notice.Notice
}

// one returns a notice as JSON.
func one(n *notice.Notification, x *notice.Notice) ([]byte, error) {
	b, err := json.Marshal(told{n.ID, x})
	if err != nil {
		return nil, fmt.Errorf("write notice: %w", err)
	}
	return b, nil
}

// label is a severity as Security Hub has it.
func label(s finding.Severity) string {
	if s <= finding.Negligible {
		return "INFORMATIONAL"
	}
	return strings.ToUpper(s.String())
}
