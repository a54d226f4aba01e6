package console

import (
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// activeStates are those in which somebody must still do something.
func activeStates() []threat.State {
	return []threat.State{threat.Open, threat.Assigned, threat.Reopened}
}

func incidentStates() []span {
	return []span{
		{"", "any state"}, {activeWord, "not resolved"}, {string(threat.Open), "open"}, {string(threat.Assigned), "assigned"},
		{string(threat.Reopened), "reopened"}, {string(threat.Resolved), "resolved"},
	}
}

// severitiesFrom are the severities as the least of a list.
func severitiesFrom() []span {
	all := []span{{"", "any severity"}}
	for _, s := range query.Severities() {
		label := s.String() + " or worse"
		if s == finding.Critical {
			label = s.String()
		}
		all = append(all, span{s.String(), label})
	}
	return all
}

func incidentTone(s threat.State) tone {
	switch s {
	case threat.Resolved:
		return good
	case threat.Assigned:
		return calm
	}
	return danger
}

func incidentGlyph(s threat.State) string {
	switch s {
	case threat.Resolved:
		return "ok"
	case threat.Assigned:
		return "person"
	}
	return "warn"
}

// resolutionWords says what came of an incident.
func resolutionWords(r threat.Resolution) string {
	switch r {
	case threat.Attack:
		return "an attack, dealt with"
	case threat.Test:
		return "somebody tried the detections"
	case threat.Harmless:
		return "right to tell, and harmless"
	case threat.FalseAlarm:
		return "a false alarm: tune or silence the rule"
	}
	return untrusted.Text(string(r))
}

// answerSays says what a kernel did about an incident.
func answerSays(r event.Reaction) string {
	switch r {
	case event.ReactionKilled:
		return "The kernel killed what did it."
	case event.ReactionDenied:
		return "The kernel refused some of it."
	}
	return "Nothing was in its way: it was seen."
}

func tacticWords(all []threat.Tactic) string {
	words := make([]string, 0, len(all))
	for _, t := range all {
		words = append(words, untrusted.Text(strings.ReplaceAll(string(t), "-", " ")))
	}
	return strings.Join(words, " → ")
}

// techniqueHref is where MITRE describes a technique; "" for what is no id of one.
func techniqueHref(id string) string {
	rest, ok := strings.CutPrefix(id, "T")
	if !ok || rest == "" || strings.Trim(rest, "0123456789.") != "" {
		return ""
	}
	return "https://attack.mitre.org/techniques/" + strings.ReplaceAll(id, ".", "/") + "/"
}

// entryGlyph is the picture and the tone of what stands in a timeline.
func entryGlyph(e *threat.Entry) (glyph string, t tone) {
	switch e.Kind {
	case threat.EntryThreat:
		if e.Severity >= finding.High {
			return "shield", danger
		}
		return "shield", warn
	case threat.EntryViolation:
		return "habit", warn
	case threat.EntryResponse:
		return "gate", good
	case threat.EntryComment:
		return "scroll", calm
	}
	return "person", calm
}

func entryWord(k threat.EntryKind) string {
	switch k {
	case threat.EntryThreat:
		return "threat"
	case threat.EntryViolation:
		return "outside the profile"
	case threat.EntryResponse:
		return "response"
	case threat.EntryComment:
		return "comment"
	case threat.EntryState:
		return "decided"
	}
	return untrusted.Text(string(k))
}

// peerText is a peer as a table names it, with the name before the address.
func peerText(p *threat.Peer) (name, address string) {
	if p.Address.IsValid() {
		address = p.Address.String()
		if p.Address.Port() == 0 {
			address = p.Address.Addr().String()
		}
	}
	if name = p.Name; name == "" {
		name, address = address, ""
	}
	return name, address
}

// nodeCommand is the command line of a process, or what is known instead.
func nodeCommand(n *threat.Node) string {
	switch {
	case len(n.Args) > 0:
		return untrusted.CommandLine(n.Args)
	case n.Executable != "":
		return n.Executable
	}
	return "[" + n.Name + "]"
}

// activeWords says how many incidents wait for somebody.
func activeWords(t *store.IncidentTotals) string {
	n := 0
	for _, s := range activeStates() {
		n += t.States[s]
	}
	return plural(n, "incident is", "incidents are") + " not resolved"
}

// activeCounts are the incidents that are not resolved, by severity.
func activeCounts(t *store.IncidentTotals) (b bySeverity) {
	for s, n := range t.Active {
		if int(s) < len(b) {
			b[s] = n
		}
	}
	return b
}

// totalActive is how many are not resolved.
func totalActive(t *store.IncidentTotals) int { return activeCounts(t).total() }

// moreOf says how many of a list are not shown.
func moreOf(all, shown int, one, many string) string {
	if all <= shown {
		return ""
	}
	return "and " + plural(all-shown, one, many)
}

// grave says that an incident is to stand out.
func grave(i *threat.Incident) bool { return i.Severity >= finding.High }

// stateOf is an incident's state; none is open.
func stateOf(i *threat.Incident) threat.State {
	if i.State == "" {
		return threat.Open
	}
	return i.State
}

func answeredWord(r event.Reaction) string {
	switch r {
	case event.ReactionKilled:
		return "killed"
	case event.ReactionDenied:
		return "denied"
	}
	return ""
}

// entryTime is when something happened: the hour alone where that was today.
func entryTime(t, now time.Time) string {
	if day(t) == day(now) {
		return t.UTC().Format("15:04:05")
	}
	return t.UTC().Format("2 Jan 15:04:05")
}

// sinceFirst is how long after the first entry of a timeline another was; "" for the
// first itself.
func sinceFirst(t, first time.Time) string {
	if d := t.Sub(first); d > 0 {
		return "+" + roundly(d)
	}
	return ""
}

// wasWords say what came of incidents of before.
func wasWords(all []threat.Incident) string {
	n := map[threat.Resolution]int{}
	for i := range all {
		n[all[i].Resolution]++
	}
	var words []string
	for _, r := range threat.Resolutions() {
		if n[r] > 0 {
			words = append(words, count(n[r])+" "+shortResolution(r))
		}
	}
	if n[threat.Unresolved] > 0 {
		words = append(words, count(n[threat.Unresolved])+" not resolved")
	}
	return strings.Join(words, ", ")
}

// shortResolution is what came of an incident, in a word or two.
func shortResolution(r threat.Resolution) string {
	switch r {
	case threat.FalseAlarm:
		return "false alarm"
	case threat.Unresolved:
		return "not resolved"
	}
	return untrusted.Text(string(r))
}

// peerEvents are the events of an incident's hosts with a peer.
func peerEvents(p *threat.Peer) string {
	if p.Address.IsValid() {
		return eventsOf("peer", p.Address.Addr().String())
	}
	return eventsOf("peer", p.Name)
}

// fileEvents are the events about a file in the container of an incident that has one.
func fileEvents(workloads []string, path string) string {
	workload := ""
	if len(workloads) == 1 {
		workload = workloads[0]
	}
	return eventsOf("workload", workload, "path", path)
}

// whose are the choices of who looks after incidents.
func whose(me, have string) []span {
	all := []span{{"", "anybody"}, {me, "me"}}
	if have != "" && have != me {
		all = append(all, span{have, untrusted.Text(have)})
	}
	return all
}

// hostChoices are the hosts of the fleet, by their names.
func hostChoices(hosts map[string]string) []span {
	all := []span{{"", "any host"}}
	for id, name := range hosts {
		all = append(all, span{id, untrusted.Text(orElse(name, id))})
	}
	slices.SortFunc(all[1:], func(a, b span) int { return strings.Compare(a.Label, b.Label) })
	return all
}

// ruleChoices are the rules of an incident.
func ruleChoices(all []threat.Fold) []span {
	out := make([]span, len(all))
	for i := range all {
		out[i] = span{all[i].Rule, untrusted.Text(all[i].Title + " (" + all[i].Rule + ")")}
	}
	return out
}

// canKill says that who looks may end processes of a container of an incident.
func (d *incidentData) canKill(workload string) bool {
	return slices.ContainsFunc(d.Acts, func(a actOn) bool { return a.Workload.ID == workload })
}

// gravestFirst are the severities of incidents that are not resolved.
func gravestFirst(t *store.IncidentTotals) (all []finding.Severity) {
	for s, n := range t.Active {
		if n > 0 {
			all = append(all, s)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}
