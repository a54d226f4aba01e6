package respond

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of a replay, which reads each incident wholly.
const (
	// MaxReplay bounds how far back it goes: incidents are kept for a year.
	MaxReplay = 366 * 24 * time.Hour
	// maxReplayed bounds the incidents, the newest.
	maxReplayed = 500
	// maxReplayActs bounds what is told of single acts; the counts have all.
	maxReplayActs = 500
)

// Replayed is what rules would have done about past incidents.
type Replayed struct {
	Since     time.Time `json:"since"`
	Incidents int       `json:"incidents"`
	Threats   int       `json:"threats"`
	// Older says that older incidents of that time were not looked at.
	Older bool           `json:"older,omitempty"`
	Rules []ReplayedRule `json:"rules" nullable:"false"`
	Acts  []ReplayedAct  `json:"acts" nullable:"false"` // the newest, the oldest of them first
	Left  int            `json:"left_out,omitempty"`    // acts that had no room
}

// ReplayedRule is what one rule would have done in all.
type ReplayedRule struct {
	Rule string `json:"rule"`
	// Fits is how many threats it fits, Acted of how many it would have done something
	// about, and Held how often it would have been held back.
	Fits  int  `json:"fits"`
	Acted int  `json:"acted"`
	Held  int  `json:"held"`
	Dry   bool `json:"dry_run,omitempty"`
	Off   bool `json:"off,omitempty"`
}

// ReplayedAct is what a rule would have done about one threat.
type ReplayedAct struct {
	At       time.Time `json:"at"`
	Incident int64     `json:"incident"`
	Threat   string    `json:"threat"` // the rule of detection
	Group    string    `json:"group,omitempty"`
	Workload string    `json:"workload,omitempty"`
	Rule     string    `json:"rule"`
	Do       []string  `json:"do"`
	Dry      bool      `json:"dry_run,omitempty"`
}

// ReplayPast says what a text as the policy, or with "" the policy in force, would have
// done about the incidents that are kept, from a time on. Nothing is done. It needs
// access.ReadResponse.
func (s *Service) ReplayPast(ctx context.Context, who access.Identity, text string, since time.Time) (Replayed, written.Problems, error) {
	out := Replayed{Since: since.UTC(), Rules: []ReplayedRule{}, Acts: []ReplayedAct{}}
	if err := s.need(who); err != nil {
		return out, nil, err
	}
	if age := s.Clock().Sub(since); age <= 0 || age > MaxReplay {
		return out, nil, fault.New(fault.Invalid, "incidents of the past are those of up to %d days ago", MaxReplay/(24*time.Hour))
	}
	rules, problems, err := s.rulesOf(ctx, text)
	if err != nil || len(problems) > 0 {
		return out, problems, err
	}
	cases, of, err := s.past(ctx, since, &out)
	if err != nil {
		return out, nil, err
	}
	counts := map[string]*ReplayedRule{}
	for i := range rules {
		out.Rules = append(out.Rules, ReplayedRule{Rule: rules[i].ID, Dry: rules[i].DryRun, Off: rules[i].Off})
	}
	for i := range out.Rules {
		counts[out.Rules[i].Rule] = &out.Rules[i]
	}
	respond.Replay(rules, cases, func(c *respond.Case, all []respond.Decision) {
		for i := range all {
			d := &all[i]
			n := counts[d.Rule.ID]
			n.Fits++
			switch {
			case d.Held != "":
				n.Held++
			case len(d.Do) > 0:
				n.Acted++
				out.Acts = append(out.Acts, actOf(c, of[c.Threat], d))
			}
		}
	})
	if more := len(out.Acts) - maxReplayActs; more > 0 {
		out.Acts, out.Left = out.Acts[more:], more
	}
	return out, nil, nil
}

func actOf(c *respond.Case, incident int64, d *respond.Decision) ReplayedAct {
	a := ReplayedAct{
		At: c.At, Incident: incident, Threat: c.Threat.Rule, Group: c.Threat.Group, Workload: c.Threat.WorkloadID, Rule: d.Rule.ID, Dry: d.Rule.DryRun,
	}
	for _, x := range d.Do {
		a.Do = append(a.Do, x.String())
	}
	return a
}

// rulesOf reads a text as the policy, or with "" takes the policy in force.
func (s *Service) rulesOf(ctx context.Context, text string) ([]respond.Rule, written.Problems, error) {
	if text != "" {
		rules, problems := parse(text)
		return rules, problems, nil
	}
	in, err := s.standing(ctx)
	if err == nil {
		err = in.trouble
	}
	if err != nil {
		return nil, nil, err
	}
	return in.rules, nil, nil
}

// past returns the threats of past incidents as cases, and of which incident each is.
func (s *Service) past(ctx context.Context, since time.Time, out *Replayed) (cases []respond.Case, of map[*threat.Threat]int64, err error) {
	of = map[*threat.Threat]int64{}
	names, rules := map[string]string{}, s.detections(ctx)
	q := store.IncidentQuery{Since: since, Limit: 100}
	for {
		page, err := s.Store.Incidents(ctx, q)
		if err != nil {
			return nil, nil, fmt.Errorf("read incidents: %w", err)
		}
		for i := range page {
			if out.Incidents == maxReplayed {
				out.Older = true
				return cases, of, nil
			}
			out.Incidents++
			whole, err := s.Store.Incident(ctx, page[i].ID)
			if fault.Is(err, fault.NotFound) {
				continue // forgotten meanwhile
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read incident %d: %w", page[i].ID, err)
			}
			for _, c := range casesOf(&whole, since, rules) {
				id := c.Threat.WorkloadID
				if _, known := names[id]; !known && id != "" {
					w, err := s.Store.Workload(ctx, id)
					if err == nil {
						names[id] = w.Name
					} else {
						names[id] = "" // it is forgotten
					}
				}
				c.Name = names[id]
				of[c.Threat] = whole.ID
				cases = append(cases, c)
				out.Threats++
			}
		}
		if len(page) < q.Limit {
			return cases, of, nil
		}
		q.Before = page[len(page)-1].ID
	}
}

// casesOf returns the threats of an incident as they came, each as grave as the
// incident was by then. Which of several workloads did it is not kept: the first
// stands for them. What came again and again is there once.
func casesOf(i *threat.Incident, since time.Time, rules map[string]*threat.Rule) (out []respond.Case) {
	var severity finding.Severity
	for k := range i.Timeline {
		e := &i.Timeline[k]
		if e.Kind != threat.EntryThreat {
			continue
		}
		severity = max(severity, e.Severity)
		if e.Time.Before(since) {
			continue
		}
		t := &threat.Threat{
			Rule: e.Rule, Title: e.Text, Severity: e.Severity, Print: e.Print, Last: e.Time, Count: max(e.Count, 1), Peers: i.Peers, Techniques: i.Techniques,
			Process: event.Process{Key: event.Key{PID: 2, Start: 1}}, // which one it was is not kept
		}
		if len(i.Workloads) > 0 {
			t.WorkloadID = i.Workloads[0]
		}
		if len(i.Groups) > 0 {
			t.Group = i.Groups[0]
		}
		c := respond.Case{Threat: t, Incident: severity, At: e.Time}
		if r := rules[e.Rule]; r != nil {
			c.Theme, t.Tactic = r.Theme, r.Tactic
		}
		out = append(out, c)
	}
	if n := len(out); n > 0 {
		out[n-1].Incident = max(out[n-1].Incident, i.Severity) // several that fit together are more than each
	}
	return out
}

// detections returns the rules of detection, by id.
func (s *Service) detections(ctx context.Context) map[string]*threat.Rule {
	out := map[string]*threat.Rule{}
	if s.Detections != nil {
		for _, r := range s.Detections(ctx) {
			out[r.ID] = r
		}
	}
	return out
}

// maxGroupsLooked bounds the groups that patterns of rules are held against.
const maxGroupsLooked = 10_000

// Warnings says what rules name that is not there: targets of notifications, groups,
// themes and rules of detection. They are taken even so: it may come to be there. It
// needs access.ReadResponse.
func (s *Service) Warnings(ctx context.Context, who access.Identity, text string) ([]string, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	rules, problems, err := s.rulesOf(ctx, text)
	if err != nil || len(problems) > 0 {
		return nil, err
	}
	groups, err := s.groups(ctx)
	if err != nil {
		return nil, err
	}
	known := s.detections(ctx)
	var out []string
	warn := func(r *respond.Rule, format string, args ...any) {
		out = append(out, "rule "+r.ID+": "+fmt.Sprintf(format, args...))
	}
	for i := range rules {
		r := &rules[i]
		for _, a := range r.Do {
			if a.Notify == "" {
				continue
			}
			there := false
			if s.Notifier != nil {
				if there, err = s.Notifier.HasTarget(ctx, a.Notify); err != nil {
					return nil, err
				}
			}
			if !there {
				warn(r, "no notification target is called %q: nobody would be told; castellan notify list shows those that there are", a.Notify)
			}
		}
		for _, g := range r.On.Groups {
			if groups != nil && !slices.ContainsFunc(groups, func(have string) bool { return notice.Match(g, have) }) {
				warn(r, "no group is as %q; castellan watch shows those that there are", g)
			}
		}
		if len(known) == 0 {
			continue
		}
		for _, p := range r.On.Rules {
			if !matchesRule(known, func(x *threat.Rule) bool { return notice.Match(p, x.ID) }) {
				warn(r, "no rule of detection is as %q; castellan detect rules shows those that there are", p)
			}
		}
		for _, theme := range r.On.Themes {
			if !matchesRule(known, func(x *threat.Rule) bool { return x.Theme == theme }) {
				warn(r, "no rule of detection is of theme %q; castellan detect rules shows those that there are", theme)
			}
		}
	}
	return out, nil
}

func matchesRule(known map[string]*threat.Rule, fits func(*threat.Rule) bool) bool {
	for _, r := range known {
		if fits(r) {
			return true
		}
	}
	return false
}

// groups returns the names of those that are known; nil when they are too many to look
// at, or none is yet.
func (s *Service) groups(ctx context.Context) (out []string, err error) {
	q := store.BehaviourQuery{Limit: store.MaxPage}
	for {
		page, err := s.Store.BehaviourGroups(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read groups: %w", err)
		}
		for i := range page {
			out = append(out, string(page[i].Group))
		}
		if len(out) > maxGroupsLooked {
			return nil, nil
		}
		if len(page) < store.MaxPage {
			return out, nil
		}
		q.After = page[len(page)-1].Group
	}
}
