package story

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/threat"
)

// Bounds of what a story remembers. A thousand stories have at most 200 MiB, links and ancestors too.
const (
	maxBytes    = 104 << 10 // of members, about
	maxNodeText = 256       // of the arguments of an ancestor
	maxWords    = 256       // of a piece of evidence
	maxTold     = 8         // threats of one print that are known again
	fewEvidence = 2         // of a member in a story that is half full
)

// memberOf takes of a threat what a story remembers of it.
func memberOf(t *threat.Threat) member {
	m := member{Threat: *t, Kind: threat.EntryThreat}
	m.Told = []uint64{hashOf(t)}
	m.Ancestors = nil
	m.Count = max(m.Count, 1)
	m.Summary, m.Title = threat.Clip(m.Summary), threat.Clip(m.Title)
	m.Args = clip(t.Args, threat.MaxText)
	m.Techniques = slices.Clone(t.Techniques)
	m.Files, m.Peers = slices.Clone(t.Files[:min(len(t.Files), threat.MaxFiles)]), slices.Clone(t.Peers[:min(len(t.Peers), threat.MaxPeers)])
	m.Evidence = slices.Clone(t.Evidence[:min(len(t.Evidence), threat.MaxEvidence)])
	for i := range m.Evidence {
		m.Evidence[i].Words = cut(m.Evidence[i].Words, maxWords)
	}
	return m
}

// violationMember makes a member of a violation.
func violationMember(v *profile.Violation) member {
	m := member{Kind: threat.EntryViolation, Threat: threat.Threat{
		Version: threat.Version, Rule: "profile-" + string(v.Control), Title: "Something lay outside the profile", Severity: seen,
		Summary: threat.Clip(v.Sentence), First: v.First, Last: v.Last, Count: max(v.Count, 1),
		AgentID: v.AgentID, WorkloadID: v.WorkloadID, Group: string(v.Group), Reaction: v.Reaction,
		Print:    threat.PrintOf("profile-"+string(v.Control), v.AgentID, v.WorkloadID, event.Key{}, v.Fingerprint),
		Evidence: []threat.Evidence{{ID: v.EventID, Time: v.Last, Kind: v.Kind, Words: cut(v.Subject, maxWords)}},
		Process:  event.Process{Executable: v.Program},
	}}
	if v.Reaction == event.ReactionDenied || v.Reaction == event.ReactionKilled {
		m.Severity, m.Title = refused, "The kernel refused what lay outside the profile"
	}
	m.Told = []uint64{hashOf(&m.Threat)}
	return m
}

// hashOf tells a threat from others of its print.
func hashOf(t *threat.Threat) uint64 {
	h := fnv.New64a()
	n := binary.LittleEndian.AppendUint64(nil, uint64(t.First.UnixNano()))
	n = binary.LittleEndian.AppendUint64(n, uint64(t.Last.UnixNano()))
	n = binary.LittleEndian.AppendUint64(n, t.Count)
	if k := len(t.Evidence); k > 0 {
		e := &t.Evidence[k-1]
		n = binary.LittleEndian.AppendUint64(n, e.Seq)
		n = binary.LittleEndian.AppendUint64(n, uint64(e.ID))
		n = append(n, e.Boot...)
	}
	h.Write(n) // never fails
	return h.Sum64()
}

// ready makes the maps of a story from its memory.
func (s *Story) ready() {
	s.prints, s.folds = map[string]int{}, map[string]int{}
	s.keys, s.linked, s.near = map[nodeKey]struct{}{}, map[link]struct{}{}, map[*Story]time.Duration{}
}

// told says that exactly this was folded before.
func (s *Story) told(m *member) bool {
	i, ok := s.prints[m.Print]
	return ok && slices.Contains(s.Members[i].Told, m.Told[0])
}

// fold adds a member, or counts it.
func (s *Story) fold(m member) {
	if i, ok := s.prints[m.Print]; ok {
		have := &s.Members[i]
		s.size -= have.size()
		have.add(&m)
		s.size += have.size()
		return
	}
	if s.size > maxBytes/2 && len(m.Evidence) > fewEvidence {
		m.LeftOut += uint64(len(m.Evidence) - fewEvidence)
		m.Evidence = slices.Delete(m.Evidence, 1, len(m.Evidence)-fewEvidence+1)
	}
	if len(s.Members) >= threat.MaxMembers || s.size+m.size() > maxBytes {
		s.beyond(&beyond{threat.Fold{Rule: m.Rule, Title: m.Title, Severity: m.Severity, First: m.First, Last: m.Last, Count: m.Count}, m.Tactic, slices.Clone(m.Techniques)})
		return
	}
	s.prints[m.Print] = len(s.Members)
	s.Members = append(s.Members, m)
	s.size += m.size()
}

// add folds what is alike.
func (m *member) add(o *member) {
	first, last := m.Threat, o.Threat
	m.Threat.Add(&o.Threat)
	if last.Last.Before(first.Last) || last.Last.Equal(first.Last) && graver(first.Reaction, last.Reaction) {
		m.Reaction = first.Reaction
	}
	slices.SortStableFunc(m.Evidence, func(a, b threat.Evidence) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Seq, b.Seq)) })
	m.Repeat = m.Repeat && o.Repeat
	for _, p := range o.Peers {
		if len(m.Peers) < threat.MaxPeers && !slices.Contains(m.Peers, p) {
			m.Peers = append(m.Peers, p)
		}
	}
	for _, f := range o.Files {
		if len(m.Files) < threat.MaxFiles && !slices.Contains(m.Files, f) {
			m.Files = append(m.Files, f)
		}
	}
	m.Told = append(m.Told, o.Told...)
	m.Told = m.Told[max(0, len(m.Told)-maxTold):]
}

// size is how many bytes a member takes, about.
func (m *member) size() int {
	const fixed, each = 1000, 104 // what the structs and their places in maps take
	n := fixed + len(m.Summary) + len(m.Title)
	for _, list := range [...][]string{m.Args, m.Files, m.Techniques} {
		for _, text := range list {
			n += 16 + len(text)
		}
	}
	if c := m.Call; c != nil {
		n += each + len(c.ID) + len(c.Name) + len(c.Actor) + len(c.Words) + len(c.Source) + len(c.Agent)
	}
	for i := range m.Evidence {
		n += each + len(m.Evidence[i].Boot) + len(m.Evidence[i].Words)
	}
	for i := range m.Peers {
		n += 2*each + len(m.Peers[i].Name) + len(m.Peers[i].Group)
	}
	return n
}

// beyond counts what has no room of its own.
func (s *Story) beyond(o *beyond) {
	i, ok := s.folds[o.Rule]
	if !ok {
		if len(s.Beyond) >= threat.MaxMembers {
			i = len(s.Beyond) - 1 // counted, if with another rule's
		} else {
			s.folds[o.Rule] = len(s.Beyond)
			s.Beyond = append(s.Beyond, *o)
			return
		}
	}
	have := &s.Beyond[i]
	have.Count += o.Count
	have.Severity = max(have.Severity, o.Severity)
	for _, t := range o.Techniques {
		addTo(&have.Techniques, t)
	}
	if o.First.Before(have.First) {
		have.First = o.First
	}
	if o.Last.After(have.Last) {
		have.Last = o.Last
	}
}

// ancestors remembers the processes above a threat's.
func (s *Story) ancestors(t *threat.Threat) {
	for i := range t.Ancestors[:min(len(t.Ancestors), threat.MaxAncestors)] {
		a := &t.Ancestors[i]
		n := threat.Node{AgentID: t.AgentID, WorkloadID: t.WorkloadID, Key: a.Key, Name: a.Name, Executable: a.Executable, Args: clip(a.Args, maxNodeText)}
		if i+1 < len(t.Ancestors) {
			n.Parent = t.Ancestors[i+1].Key
		}
		s.node(n)
	}
}

func (s *Story) node(n threat.Node) {
	k := nodeKey{n.AgentID, n.Key}
	if _, there := s.keys[k]; there || len(s.Nodes) >= threat.MaxMembers/2 {
		return
	}
	s.keys[k] = struct{}{}
	s.Nodes = append(s.Nodes, n)
}

// clip keeps so many bytes of arguments.
func clip(args []string, most int) []string {
	var out []string
	for _, a := range args {
		if most <= 0 {
			return append(out, "…")
		}
		out = append(out, cut(a, most))
		most -= len(a) + 1
	}
	return out
}
