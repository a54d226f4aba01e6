package respond

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// PartRules is the name of the condition that is set when rules can't do what they
	// are for, PartPace of when threats come faster than they can be looked at.
	PartRules = "response rules"
	PartPace  = "pace of response rules"
	// missedFor is how long it is said that some were left out.
	missedFor = time.Hour
	// maxWaiting bounds the threats that wait to be held against the rules: some
	// seconds of a storm. Those of a storm are mostly alike.
	maxWaiting = 1_000
	// maxDoing bounds what rules have done at once.
	maxDoing = 16
	// maxDetail bounds what is kept of what came of a run, in bytes.
	maxDetail = 1_000
)

// heldBack is how often a rule that fits did nothing, why it last was, and when.
type heldBack struct {
	times int
	why   string
	at    time.Time
}

// considered is a threat that waits to be held against the rules.
type considered struct {
	threat   threat.Threat
	incident int64
	severity finding.Severity
}

// Consider has a threat held against the response rules, with the incident that it
// has folded into, which may be nil. It returns at once; Run does what they say. Both
// may be changed afterwards. When too many wait it is left out, which a condition of
// the server says.
func (s *Service) Consider(_ context.Context, i *threat.Incident, t *threat.Threat) {
	if t == nil {
		return
	}
	c := considered{threat: *t}
	c.threat.Peers, c.threat.Files, c.threat.Evidence = slices.Clone(t.Peers), nil, nil
	if i != nil {
		c.incident, c.severity = i.ID, i.Severity
	}
	select {
	case s.waiting <- c:
	default:
		s.missed.Add(1)
	}
}

// Run does what rules say until ctx ends, and undoes what they say is to be undone.
// Call it once.
func (s *Service) Run(ctx context.Context) {
	err := s.recall(ctx)
	if err != nil && ctx.Err() == nil {
		s.Condition(ctx, PartRules, err)
	}
	tick := time.NewTicker(undoEvery)
	defer tick.Stop()
	defer s.doing.Wait()
	s.doing.Go(func() { s.afterwards(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.waiting:
			s.hold(ctx, &c)
		case <-tick.C:
			s.undoDue(ctx)
			s.tellMissed(ctx)
		}
	}
}

// recall reads what rules did lately, so that a restart is not a way past their
// limits.
func (s *Service) recall(ctx context.Context) error {
	var all []store.ResponseRun
	q := store.ResponseRunQuery{Since: s.Clock().Add(-max(respond.MaxWithin, respond.MaxCoolDown)), Limit: store.MaxPage}
	for {
		page, err := s.Store.ResponseRuns(ctx, q)
		if err != nil {
			return fmt.Errorf("read what response rules did: %w", err)
		}
		all = append(all, page...)
		if len(page) < store.MaxPage {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(all) {
		a := respond.Acted{Rule: r.Rule, Group: string(r.Group), Workload: r.Workload, At: r.At, Dry: r.DryRun}
		if n := len(s.memory); n == 0 || s.memory[n-1] != a { // the acts of one decision are one
			s.memory = s.memory.Add(a)
		}
	}
	return nil
}

// tellMissed says when threats were not held against the rules.
func (s *Service) tellMissed(ctx context.Context) {
	n, now := s.missed.Load(), s.Clock()
	switch {
	case n > s.told:
		s.Condition(ctx, PartPace, fault.New(fault.Exhausted, "%d threats came faster than they could be held against the response rules", n-s.told).
			With("look at the incidents: nothing was done about these by itself"))
		s.told, s.toldAt = n, now
	case !s.toldAt.IsZero() && now.Sub(s.toldAt) > missedFor:
		s.Condition(ctx, PartPace, nil)
		s.toldAt = time.Time{}
	}
}

// hold holds a threat against the rules and has done what they say.
func (s *Service) hold(ctx context.Context, c *considered) {
	in, err := s.standing(ctx)
	if err == nil && in.trouble != nil {
		err = in.trouble
	}
	s.Condition(ctx, PartRules, err)
	if err != nil || len(in.rules) == 0 {
		return
	}
	x := s.caseOf(ctx, c)
	s.mu.Lock()
	all := respond.Decide(in.rules, x, s.memory)
	for i := range all {
		if d := &all[i]; len(d.Do) > 0 {
			s.memory = s.memory.Add(d.Acted(x))
		} else {
			s.held[d.Rule.ID] = heldBack{s.held[d.Rule.ID].times + 1, cmp.Or(d.Held, strings.Join(d.Lacks, "; ")), x.At}
		}
	}
	s.mu.Unlock()
	for i := range all {
		d := all[i]
		if d.Held != "" {
			s.Log.Info("response rule held back", "rule", d.Rule.ID, "threat", c.threat.Rule, "group", c.threat.Group, "why", d.Held)
		}
		if len(d.Do) == 0 {
			continue
		}
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.doing.Go(func() {
			defer func() { <-s.room }()
			for _, a := range d.Do {
				if err := s.run(ctx, c, x, d.Rule, a); err != nil && ctx.Err() == nil {
					s.Log.Error("what a response rule did is not kept", "rule", d.Rule.ID, "did", a.String(), "error", err)
				}
			}
		})
	}
}

// caseOf adds to a threat what rules ask for beside it.
func (s *Service) caseOf(ctx context.Context, c *considered) *respond.Case {
	x := &respond.Case{Threat: &c.threat, Incident: c.severity, At: s.Clock().UTC()}
	if s.Theme != nil {
		x.Theme = s.Theme(ctx, c.threat.Rule)
	}
	if c.threat.WorkloadID != "" {
		if w, err := s.Store.Workload(ctx, c.threat.WorkloadID); err == nil {
			x.Name = w.Name // of one that is not known yet nothing is done either
		}
	}
	return x
}

// run does one thing that a rule says, waits for its end and keeps what came of it.
func (s *Service) run(ctx context.Context, c *considered, x *respond.Case, r *respond.Rule, a respond.Action) error {
	run := store.ResponseRun{
		At: x.At, Rule: r.ID, Threat: c.threat.Rule, Print: c.threat.Print, Incident: c.incident, Group: asset.Group(c.threat.Group),
		Workload: c.threat.WorkloadID, Kind: a.Kind, Did: a.String(), DryRun: r.DryRun,
	}
	run, err := s.Store.PutResponseRun(ctx, run)
	if err != nil {
		return err // what nobody can read about later is not done
	}
	if a.Kind == "" {
		err = s.notify(ctx, c, r, a, &run)
	} else {
		err = s.deedOf(ctx, c, r, a, &run)
	}
	if err != nil {
		run.State, run.Detail = response.Refused, untrusted.Clip(err.Error(), maxDetail)
	}
	what := run.Did + ", " + string(run.State)
	if r.DryRun {
		what += " (dry run)"
	}
	s.note(ctx, run.Incident, run.Workload, r.Actor(), what+": "+run.Detail)
	s.tellRun(ctx, &run, max(c.threat.Severity, c.severity))
	_, err = s.Store.PutResponseRun(context.WithoutCancel(ctx), run)
	return err
}

// notify tells the target that a rule names.
func (s *Service) notify(ctx context.Context, c *considered, r *respond.Rule, a respond.Action, run *store.ResponseRun) error {
	run.State = response.Done
	switch {
	case r.DryRun:
		run.Detail = "would tell " + a.Notify
		return nil
	case s.Notifier == nil:
		return fault.New(fault.Unsupported, "this server can't send notifications")
	}
	if err := s.Notifier.TellTarget(ctx, a.Notify, s.noticeFor(c, r, run)); err != nil {
		return err
	}
	run.Detail = "told " + a.Notify
	return s.log().Done(ctx, identity(r), "respond.notify", "target:"+a.Notify, reasonFor(c))
}

// identity is as whom a rule asks. It may have things done, and read what came of
// them; nothing else.
func identity(r *respond.Rule) access.Identity {
	return access.Identity{Actor: r.Actor(), Scopes: []access.Scope{access.ManageResponse}}
}

// reasonFor says why a rule does something.
func reasonFor(c *considered) string {
	reason := c.threat.Rule + ": " + strings.Map(visible, c.threat.Summary)
	if c.incident != 0 {
		reason = fmt.Sprintf("incident %d, %s", c.incident, reason)
	}
	return untrusted.Clip(reason, response.MaxReason)
}

// visible leaves control characters out of what becomes one line.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return ' '
	}
	return r
}

// deedOf has a deed done as the rule, and waits for its end.
func (s *Service) deedOf(ctx context.Context, c *considered, r *respond.Rule, a respond.Action, run *store.ResponseRun) error {
	q := Ask{
		Kind: a.Kind, Workload: c.threat.WorkloadID, Freeze: a.Freeze, Packets: a.Packets, Files: a.Files, DryRun: r.DryRun, Reason: reasonFor(c),
	}
	if a.Kind == response.Kill && !a.Whole {
		q.Process = c.threat.Process.Key.String()
	}
	got, err := s.asked(ctx, identity(r), q)
	if err != nil {
		return err
	}
	run.Deed, run.State, run.Detail, run.Role = got.Deed.ID, got.Answer.State, sentence(&got.Answer), got.Role
	if undo := a.Kind.Undo(); undo != "" && r.Until > 0 && !r.DryRun && got.Answer.Undo == undo {
		run.UndoAt = s.Clock().Add(r.Until).UTC()
	}
	return nil
}

// asked has a deed done and waits for its end.
func (s *Service) asked(ctx context.Context, who access.Identity, q Ask) (Response, error) {
	r, err := s.Ask(ctx, who, q)
	if err != nil {
		return r, err
	}
	within, cancel := context.WithTimeout(ctx, answerIn+time.Second)
	defer cancel()
	r, err = s.Wait(within, who, r.Deed.ID)
	if err == nil && !r.Answer.State.Ended() {
		err = errors.New("the server stopped before it was known what came of it")
	}
	return r, err
}

// sentence says what came of a deed.
func sentence(a *response.Answer) string {
	parts := slices.Clone(a.Did)
	for _, l := range a.Lacks {
		parts = append(parts, "but: "+l)
	}
	if a.Error != "" {
		parts = append(parts, a.Error)
	}
	return untrusted.Clip(strings.Join(parts, "; "), maxDetail)
}
