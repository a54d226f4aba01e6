package respond

import (
	"context"
	"fmt"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Notifier tells others; *notify.Service does.
type Notifier interface {
	// Tell tells the targets that want it, once for each id.
	Tell(ctx context.Context, n notice.Notice) error
	// TellTarget tells the target of a name; NotFound when there is none.
	TellTarget(ctx context.Context, target string, n notice.Notice) error
	// HasTarget reports whether there is a target of that name.
	HasTarget(ctx context.Context, target string) (bool, error)
}

// tellOf has those told who want it of what came of a person's deed. What nobody could
// be told of takes nothing back.
func (s *Service) tellOf(ctx context.Context, r *Response) {
	if respond.IsRule(r.Deed.By) || r.Deed.DryRun {
		return // see tellRun
	}
	n := s.ofResponse(r.Deed.Workload, string(r.Group), r.Deed.Kind, r.Answer.State)
	n.ID = fmt.Sprintf("response-%s-%s", r.Deed.ID, r.Answer.State)
	n.Title = title(string(r.Deed.Kind), r.Answer.State, string(r.Group), r.Deed.By, false)
	n.Detail = untrusted.Clip(sentence(&r.Answer)+reasonLine(r.Deed.Reason), maxDetail)
	n.Remedy = r.Answer.Remedy
	s.tell(ctx, &n)
}

// tellRun has those told who want it of what came of what a rule did. That it had
// somebody told needs no notice of its own.
func (s *Service) tellRun(ctx context.Context, run *store.ResponseRun, severity finding.Severity) {
	if run.Kind == "" && run.State == response.Done {
		return
	}
	n := s.ofResponse(run.Workload, string(run.Group), run.Kind, run.State)
	n.ID = fmt.Sprintf("response-run-%d-%s", run.ID, run.State)
	n.Title = title(run.Did, run.State, string(run.Group), respond.RuleActor+run.Rule, run.DryRun)
	n.Detail, n.Rule = untrusted.Clip(run.Detail, maxDetail), run.Threat
	switch {
	case run.State == response.Undone || run.DryRun:
		n.Severity = finding.Low
	case run.State == response.Done:
		n.Severity = max(n.Severity, severity)
	default: // what was to be done by itself was not: somebody must
		n.Severity = max(finding.High, severity)
	}
	if run.Incident != 0 {
		n.Link = fmt.Sprintf("/incidents/%d", run.Incident)
	}
	s.tell(ctx, &n)
}

// tellStays has those told who want it that what a rule did could not be undone.
func (s *Service) tellStays(ctx context.Context, run *store.ResponseRun) {
	n := s.ofResponse(run.Workload, string(run.Group), run.Kind, response.Failed)
	n.ID, n.Severity = fmt.Sprintf("response-run-%d-stays", run.ID), finding.High
	n.Title = untrusted.Clip(fmt.Sprintf("%s in %s, by %s%s: not undone", run.Did, run.Group, respond.RuleActor, run.Rule), maxDetail)
	n.Detail, n.Rule = untrusted.Clip(run.Detail, maxDetail), run.Threat
	n.Remedy = fmt.Sprintf("undo it by hand: castellan respond %s %s", run.Kind.Undo(), asset.ShortID(run.Workload))
	if run.Incident != 0 {
		n.Link = fmt.Sprintf("/incidents/%d", run.Incident)
	}
	s.tell(ctx, &n)
}

// ofResponse is a notice about a deed of a kind to a workload. Taking it back resolves
// the notice of it: both have one subject.
func (s *Service) ofResponse(workload, group string, k response.Kind, state response.State) notice.Notice {
	n := notice.Notice{
		Kind: notice.Response, Time: s.Clock().UTC(), Severity: finding.Low, Link: "/responses", Workload: &notice.Workload{ID: workload, Group: group},
		Resolved: state == response.Undone,
	}
	if state == response.Failed || state == response.Refused {
		n.Severity = finding.Medium
	}
	for _, does := range response.Kinds() {
		if undo := does.Undo(); undo != "" && undo == k {
			k, n.Resolved = does, state == response.Done
		}
	}
	n.Subject = fmt.Sprintf("response:%s:%s", workload, k)
	return n
}

// title says in a sentence what was done to whom by whom.
func title(did string, state response.State, group, by string, dry bool) string {
	what := fmt.Sprintf("%s in %s, by %s: %s", did, group, by, state)
	if group == "" {
		what = fmt.Sprintf("%s, by %s: %s", did, by, state)
	}
	if dry {
		what += " (dry run)"
	}
	return untrusted.Clip(what, maxDetail)
}

func reasonLine(reason string) string {
	if reason == "" {
		return ""
	}
	return "\nReason: " + reason
}

func (s *Service) tell(ctx context.Context, n *notice.Notice) {
	if s.Notifier == nil {
		return
	}
	ctx, cancel := audit.Outlive(ctx)
	defer cancel()
	if err := s.Notifier.Tell(ctx, *n); err != nil {
		s.Log.Error("nobody is told of a response", "id", n.ID, "title", n.Title, "error", err, "remedy", fault.Remedy(err))
	}
}

// noticeFor is what a rule has a target told of a threat.
func (s *Service) noticeFor(c *considered, r *respond.Rule, run *store.ResponseRun) notice.Notice {
	t := &c.threat
	n := notice.Notice{
		Kind: notice.Incident, ID: fmt.Sprintf("rule-%s-%d", r.ID, run.ID), Time: t.Last, Severity: max(t.Severity, c.severity),
		Title: untrusted.Clip(t.Title, maxDetail), Detail: untrusted.Clip(t.Summary, maxDetail), Link: "/responses",
		Rule: t.Rule, Count: int(min(t.Count, 1<<30)), Remedy: "response rule " + r.ID + " of " + r.Owner + " has this told",
	}
	if t.WorkloadID != "" || t.Group != "" {
		n.Workload = &notice.Workload{ID: t.WorkloadID, Group: string(asset.Group(t.Group)), Host: t.AgentID}
	}
	if c.incident != 0 {
		n.Subject, n.Link = fmt.Sprintf("incident:%d", c.incident), fmt.Sprintf("/incidents/%d", c.incident)
		n.Remedy = fmt.Sprintf("look at it: castellan detect incident %d; %s", c.incident, n.Remedy)
	}
	for _, id := range t.Techniques {
		n.Techniques = append(n.Techniques, notice.Technique{ID: id, Tactic: string(t.Tactic)})
	}
	return n
}
