package story

import (
	"cmp"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// Incident tells the story as it is now. now is when its newest threat was heard of.
func (s *Story) Incident(now time.Time) *threat.Incident {
	slices.SortStableFunc(s.Members, func(a, b member) int {
		return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last), cmp.Compare(a.Print, b.Print))
	})
	for k := range s.Members {
		s.prints[s.Members[k].Print] = k
	}
	i := &threat.Incident{
		Version: threat.Version, ID: s.ID, State: cmp.Or(s.State, threat.Open), Opened: s.Opened, Updated: now, Last: s.Last,
		Assignee: s.Assignee, Resolution: s.Resolution, Resolved: s.Resolved, Reopened: s.Reopened, Former: s.Former,
		Merged: slices.Clone(s.Merged), Revision: s.Revision, Weaknesses: slices.Clone(s.Weaknesses), Timeline: slices.Clone(s.People),
	}
	for k := range s.Members {
		s.Members[k].into(i)
	}
	for k := range s.Beyond {
		o := &s.Beyond[k]
		i.Count += o.Count
		i.LeftOut += o.Count
		i.Severity = max(i.Severity, o.Severity)
		addFold(i, o.Fold)
		addTactic(i, o.Tactic)
		for _, t := range o.Techniques {
			addTo(&i.Techniques, t)
		}
	}
	slices.SortStableFunc(i.Rules, func(a, b threat.Fold) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.First.Compare(b.First), cmp.Compare(a.Rule, b.Rule))
	})
	slices.SortFunc(i.Tactics, func(a, b threat.Tactic) int { return cmp.Compare(step(a), step(b)) })
	slices.Sort(i.Techniques)
	slices.SortStableFunc(i.Timeline, func(a, b threat.Entry) int { return a.Time.Compare(b.Time) })
	i.Severity = raised(i.Severity, i.Tactics)
	i.Processes = s.tree()
	i.Title, i.Story = s.title(i), s.sentences(i)
	return i
}

// into adds what a member says to an incident.
func (m *member) into(i *threat.Incident) {
	i.Count += m.Count
	i.Severity = max(i.Severity, m.Severity)
	addFold(i, threat.Fold{Rule: m.Rule, Title: m.Title, Severity: m.Severity, First: m.First, Last: m.Last, Count: m.Count})
	addTactic(i, m.Tactic)
	for _, t := range m.Techniques {
		addTo(&i.Techniques, t)
	}
	addTo(&i.Agents, m.AgentID)
	addTo(&i.Workloads, m.WorkloadID)
	addTo(&i.Groups, m.Group)
	for _, f := range m.Files {
		addTo(&i.Files, f)
	}
	if c := m.Call; c != nil && len(i.Calls) < threat.MaxMembers && !slices.ContainsFunc(i.Calls, func(o threat.Call) bool {
		return o.Actor == c.Actor && o.Name == c.Name && o.Account == c.Account && o.Source == c.Source
	}) {
		i.Calls = append(i.Calls, *c)
	}
	for _, p := range m.Peers {
		if len(i.Peers) < threat.MaxMembers && !slices.Contains(i.Peers, p) {
			i.Peers = append(i.Peers, p)
		}
	}
	if graver(m.Reaction, i.Reaction) {
		i.Reaction = m.Reaction
	}
	i.Timeline = append(i.Timeline, threat.Entry{
		Time: m.First, Kind: m.Kind, Severity: m.Severity, Rule: m.Rule, Print: m.Print, Text: m.Summary, Count: m.Count, Evidence: slices.Clone(m.Evidence),
	})
}

func addTo(list *[]string, text string) {
	if text != "" && len(*list) < threat.MaxMembers && !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}

func addTactic(i *threat.Incident, t threat.Tactic) {
	if t != "" && !slices.Contains(i.Tactics, t) {
		i.Tactics = append(i.Tactics, t)
	}
}

func addFold(i *threat.Incident, f threat.Fold) {
	k := slices.IndexFunc(i.Rules, func(o threat.Fold) bool { return o.Rule == f.Rule })
	if k < 0 {
		if len(i.Rules) < threat.MaxMembers {
			i.Rules = append(i.Rules, f)
		}
		return
	}
	have := &i.Rules[k]
	have.Count += f.Count
	have.Severity = max(have.Severity, f.Severity)
	if f.First.Before(have.First) {
		have.First = f.First
	}
	if f.Last.After(have.Last) {
		have.Last = f.Last
	}
}

// step is the place of a tactic in the order of an attack.
func step(t threat.Tactic) int { return slices.Index(threat.Tactics(), t) }

// chain is how many different tactics make a chain.
const chain = 3

// raised returns the severity of threats that fit together: where somebody got in or
// ran something, has an aim, and used so many tactics in all, that is graver than each
// of them alone, by one step.
func raised(s finding.Severity, tactics []threat.Tactic) finding.Severity {
	has := func(any ...threat.Tactic) bool {
		return slices.ContainsFunc(any, func(t threat.Tactic) bool { return slices.Contains(tactics, t) })
	}
	begins := has(threat.InitialAccess, threat.Execution)
	aims := has(threat.PrivilegeEscalation, threat.CredentialAccess, threat.LateralMovement, threat.Collection,
		threat.CommandAndControl, threat.Exfiltration, threat.Impact)
	if begins && aims && len(tactics) >= chain && s > finding.Negligible {
		return min(s+1, finding.Critical)
	}
	return s
}

// tree returns the processes, parents before their children.
func (s *Story) tree() []threat.Node {
	at := map[nodeKey]int{}
	var all []threat.Node
	for k := range s.Members {
		m := &s.Members[k]
		if m.Process.Key.IsZero() {
			continue
		}
		key := nodeKey{m.AgentID, m.Process.Key}
		i, ok := at[key]
		if !ok {
			if len(all) >= threat.MaxMembers {
				continue
			}
			i = len(all)
			at[key] = i
			all = append(all, threat.Node{AgentID: m.AgentID, WorkloadID: m.WorkloadID, Key: m.Process.Key})
		}
		n := &all[i] // what it runs is what the newest says
		n.Parent, n.Name, n.Executable, n.Args, n.UID = m.Process.Parent, m.Process.Name, m.Process.Executable, clip(m.Args, maxNodeText), m.Process.UID
		addTo(&n.Rules, m.Rule)
	}
	for _, n := range s.Nodes {
		if _, ok := at[nodeKey{n.AgentID, n.Key}]; !ok && len(all) < threat.MaxMembers {
			at[nodeKey{n.AgentID, n.Key}] = len(all)
			all = append(all, n)
		}
	}
	return ordered(all, at)
}

// ordered puts parents before their children, and older before younger siblings.
func ordered(all []threat.Node, at map[nodeKey]int) []threat.Node {
	children := map[int][]int{}
	const root = -1
	for i := range all {
		parent, ok := at[nodeKey{all[i].AgentID, all[i].Parent}]
		if !ok || parent == i {
			parent = root
		}
		children[parent] = append(children[parent], i)
	}
	out := make([]threat.Node, 0, len(all))
	placed := make([]bool, len(all))
	var place func(parent int)
	place = func(parent int) {
		list := children[parent]
		slices.SortFunc(list, func(a, b int) int {
			return cmp.Or(cmp.Compare(all[a].AgentID, all[b].AgentID), cmp.Compare(all[a].Key.Start, all[b].Key.Start), cmp.Compare(all[a].Key.PID, all[b].Key.PID))
		})
		for _, i := range list {
			if !placed[i] {
				placed[i] = true
				out = append(out, all[i])
				place(i)
			}
		}
	}
	place(root)
	for i := range all { // a circle, which no kernel tells
		if !placed[i] {
			placed[i] = true
			out = append(out, all[i])
			place(i)
		}
	}
	return out
}
