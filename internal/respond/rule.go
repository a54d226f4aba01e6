package respond

import (
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/threat"
)

// Rule says what is done about which threats without anybody being asked. See
// docs/respond.md for how it is written.
type Rule struct {
	ID    string   `json:"id"`
	Title string   `json:"title,omitempty"`
	Owner string   `json:"owner"` // who answers for it
	On    On       `json:"on"`
	Do    []Action `json:"do"`
	// DryRun does nothing and keeps what would have been done.
	DryRun bool `json:"dry_run,omitempty"`
	// Times is how often it acts in one group Within a time; the zero value is never.
	Times  int           `json:"times"`
	Within time.Duration `json:"within_ns"`
	// CoolDown is for how long it leaves a workload alone once it has acted on it.
	CoolDown time.Duration `json:"cool_down_ns"`
	// Until is after how long what can be undone is; 0 is never.
	Until time.Duration `json:"until_ns,omitempty"`
	Off   bool          `json:"off,omitempty"`
}

// Actor is as whom a rule acts, as the audit log has it.
func (r *Rule) Actor() string { return RuleActor + r.ID }

// RuleActor is how the names of rules begin where somebody must be named who did a
// thing.
const RuleActor = "rule:"

// IsRule reports whether who did a thing was a rule.
func IsRule(actor string) bool { return strings.HasPrefix(actor, RuleActor) }

// On says which threats a rule is for. All fields that are given must fit; of a list
// one item must. The zero value fits none.
type On struct {
	Themes   []string         `json:"themes,omitempty"`   // of rules of detection: miner, shell, …
	Tactics  []threat.Tactic  `json:"tactics,omitempty"`  //
	Rules    []string         `json:"rules,omitempty"`    // ids of rules of detection, with *
	Severity finding.Severity `json:"severity,omitempty"` // of the threat, at least
	// Incident is what the severity of the incident must be at least, into which the
	// threat folds: several that fit together are more than each.
	Incident  finding.Severity `json:"incident,omitempty"`
	Groups    []string         `json:"groups,omitempty"`    // patterns with *
	Workloads []string         `json:"workloads,omitempty"` // their names or ids, with *
	// External wants a peer that is not of this fleet.
	External bool `json:"external,omitempty"`
	// Hours are when it holds; the zero value is always.
	Hours Hours `json:"hours,omitzero"`
}

// Hours are hours of the day on some days of the week.
type Hours struct {
	Days []time.Weekday `json:"days,omitempty"` // none is all
	// From and To are minutes of the day; the first is in it, the other is not. Of
	// hours over midnight the day is that on which they begin. Both the same are the
	// whole day.
	From int `json:"from,omitempty"`
	To   int `json:"to,omitempty"`
	// Zone is where the clock is; nil is UTC.
	Zone *time.Location `json:"-"`
	// Place is the name of Zone.
	Place string `json:"zone,omitempty"`
}

// Action is one thing that a rule does.
type Action struct {
	// Kind is that of the deed; empty: Notify is told.
	Kind   response.Kind `json:"kind,omitempty"`
	Notify string        `json:"notify,omitempty"` // the target's name
	// Whole has Kill end all processes of the container, not only the threat's.
	Whole   bool          `json:"whole,omitempty"`
	Freeze  bool          `json:"freeze,omitempty"`  // of Quarantine
	Packets time.Duration `json:"packets,omitempty"` // of Snapshot
	Files   bool          `json:"files,omitempty"`   // of Snapshot
}

// String says in a few words what is done.
func (a Action) String() string {
	switch {
	case a.Notify != "":
		return "notify " + a.Notify
	case a.Kind == response.Kill && a.Whole:
		return "kill all processes"
	case a.Kind == response.Kill:
		return "kill the process"
	case a.Freeze:
		return "quarantine and freeze"
	case a.Packets > 0:
		return "snapshot with packets of " + a.Packets.String()
	}
	return string(a.Kind)
}

// Case is a threat that is held against the rules.
type Case struct {
	Threat *threat.Threat
	// Incident is the severity of what it folded into; Unknown where that is not known.
	Incident finding.Severity
	Theme    string // of its rule
	Name     string // of its workload
	At       time.Time
}

// Fits says why a rule is not for a case; empty when it is.
func (o *On) Fits(c *Case) (why string) {
	t := c.Threat
	switch {
	case len(o.Themes)+len(o.Tactics)+len(o.Rules) == 0 && o.Severity == finding.Unknown && o.Incident == finding.Unknown:
		return "it is for no threats"
	case len(o.Themes) > 0 && !slices.Contains(o.Themes, c.Theme):
		if c.Theme == "" {
			return "its theme is not known"
		}
		return "theme " + c.Theme
	case len(o.Tactics) > 0 && !slices.Contains(o.Tactics, t.Tactic):
		return "tactic " + string(t.Tactic)
	case !matches(o.Rules, t.Rule):
		return "rule " + t.Rule
	case t.Severity < o.Severity:
		return "severity " + t.Severity.String()
	case c.Incident < o.Incident:
		return "severity of the incident " + c.Incident.String()
	case !matches(o.Groups, t.Group):
		return "group " + t.Group
	case !matches(o.Workloads, c.Name) && !matches(o.Workloads, t.WorkloadID):
		return "workload " + c.Name
	case o.External && !slices.ContainsFunc(t.Peers, isExternal):
		return "no peer outside of the fleet"
	case !o.Hours.holds(c.At):
		return "not in its hours"
	}
	return ""
}

// isExternal reports a peer that nobody of this fleet is. One that is not known is
// told by its address: what is not public may well be ours.
func isExternal(p threat.Peer) bool {
	if p.Kind == event.PeerUnknown {
		a := p.Address.Addr().Unmap()
		return a.IsGlobalUnicast() && !a.IsPrivate()
	}
	return p.Kind == event.PeerPublic || p.Kind == event.PeerPrivate
}

// matches reports whether a text is as one of the patterns; none is all texts.
func matches(patterns []string, text string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return notice.Match(p, text) })
}

func (h *Hours) holds(at time.Time) bool {
	zone := h.Zone
	if zone == nil {
		zone = time.UTC
	}
	at = at.In(zone)
	now, day := at.Hour()*60+at.Minute(), at.Weekday()
	switch {
	case h.From < h.To && (now < h.From || now >= h.To):
		return false
	case h.From > h.To && now < h.To:
		day = (day + 6) % 7 // they began yesterday
	case h.From > h.To && now < h.From:
		return false
	}
	return len(h.Days) == 0 || slices.Contains(h.Days, day)
}
