package console

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// replayFor is how long one trial goes on with further parts of the past.
	replayFor = 8 * time.Second
	// replayDays is how far back a trial goes unless it is said.
	replayDays = 7
	// maxReplayDays is how far back it can be asked to go.
	maxReplayDays = 366
)

// admissionBook is the policy of what may be deployed. Its starter is the first
// policy that the command line writes, too.
func (c *Console) admissionBook() *book {
	rules, err := admit.Builtins()
	return &book{
		path: "/admission/policy", here: "admission", name: "admission policy", up: "/admission", upName: "Admission", glyph: "gate", done: "admission-set",
		most: store.MaxAdmissionPolicy, comment: audit.MaxComment, starter: string(admit.First()), reads: access.ReadAdmission, manages: access.ManageAdmission,
		tabs: admissionTabs(), hint: "`mode: audit` only tells what it would refuse, `enforce` refuses it. What a rule needs and nobody knows is never a pass.",
		tryHint:  "Replay decides anew on what was asked for, by this text, with what was known then. It changes nothing.",
		tryTitle: "What it would have changed", tryField: replaySpan(replayDays), tryName: "Replay", blank: noAdmissionPolicy, aside: schemaPanel(rules, err),
		changes: c.Admission.News,
		read: func(ctx context.Context, who access.Identity, version int64) (edition, error) {
			p, err := c.Admission.Policy(ctx, who, version)
			return edition(p), err
		},
		list: func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error) {
			all, err := c.Admission.Policies(ctx, who, before, limit)
			out := make([]edition, len(all))
			for i := range all {
				out[i] = edition(all[i])
			}
			return out, err
		},
		explain: func(who access.Identity, text string) ([]passage, []textProblem, error) {
			problems, err := c.Admission.Check(who, text)
			if err != nil {
				return nil, nil, err
			}
			out := make([]textProblem, len(problems))
			for i, p := range problems {
				out[i] = textProblem{p.Line, p.Column, p.Text, p.Remedy}
			}
			return admissionPassages(text), out, nil
		},
		set: func(ctx context.Context, who access.Identity, e entered) error {
			_, err := c.Admission.SetPolicy(ctx, who, e.Text, e.Comment, e.After)
			return err
		},
		try: c.replay,
	}
}

// replay decides anew on the requests of some days by a text.
func (c *Console) replay(ctx context.Context, v visit, text string, form url.Values) (trialResult, error) {
	days, err := strconv.Atoi(orElse(form.Get("days"), strconv.Itoa(replayDays)))
	if err != nil || days < 1 || days > maxReplayDays {
		return trialResult{}, fault.New(fault.Invalid, "want a number of days from 1 to %d", maxReplayDays)
	}
	before, err := strconv.ParseInt(orElse(form.Get("further"), "0"), 10, 64)
	if err != nil || before < 0 {
		return trialResult{}, fault.New(fault.Invalid, "no verdict is called %.40q", form.Get("further"))
	}
	q := store.AdmissionQuery{Since: v.now.AddDate(0, 0, -days), Before: before}
	var all gate.Replayed
	for end := time.Now().Add(replayFor); ; {
		part, err := c.Admission.Replay(ctx, v.who, gate.Replay{Text: text, Of: q})
		if err != nil {
			return trialResult{}, err
		}
		all.Add(&part)
		if part.Next == 0 || time.Now().After(end) {
			break
		}
		q.Before = part.Next
	}
	hosts, err := c.hostNames(ctx)
	if err != nil {
		return trialResult{}, err
	}
	return trialResult{replayWords(&all, days), replayPart(page{Now: v.now, files: c.assets}, replayData{all, days, before > 0, hosts})}, nil
}

// replayData is what a replay has found.
type replayData struct {
	gate.Replayed
	Days  int
	Later bool // it is a further part, behind one that was shown before
	Hosts map[string]string
}
