package story

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
)

// What the words of a story are bounded to: people read them in a list and a message.
const (
	maxClauses = 8
	maxClause  = 240
	maxTitle   = 240
	maxLine    = 120 // of a command line
)

// title says in a line what it is: the gravest rule, and where.
func (s *Story) title(i *threat.Incident) string {
	if len(i.Rules) == 0 {
		return "An incident"
	}
	title := strings.TrimSuffix(i.Rules[0].Title, ".")
	where := place(i)
	switch {
	case len(i.Groups) > 1:
		title += fmt.Sprintf(", %s and %s", where, plural(len(i.Groups)-1, "more group", "more groups"))
	case where != "":
		title += ", " + where
	}
	if more := len(i.Rules) - 1; more > 0 {
		title += ", and " + plural(more, "more thing", "more things")
	}
	return cut(title, maxTitle)
}

// place is where the gravest happened.
func place(i *threat.Incident) string {
	switch {
	case len(i.Groups) > 0:
		return "in " + i.Groups[0]
	case len(i.Workloads) > 0:
		return "in container " + short(i.Workloads[0])
	case len(i.Agents) > 0:
		return "on host " + i.Agents[0]
	case len(i.Calls) > 0:
		return "in account " + i.Calls[0].Account
	}
	return ""
}

func short(id string) string { return id[:min(len(id), 12)] }

// sentences tell what happened, one sentence a container, in the order in which it
// happened.
func (s *Story) sentences(i *threat.Incident) string {
	var order []string
	of := map[string][]*member{}
	for k := range s.Members {
		m := &s.Members[k]
		where := m.AgentID + "/" + m.WorkloadID
		if m.Call != nil && m.WorkloadID == "" {
			where = "account/" + m.Call.Account
		}
		if of[where] == nil {
			order = append(order, where)
		}
		of[where] = append(of[where], m)
	}
	var out []string
	left, told := maxClauses, 0
	for _, where := range order {
		if left <= 0 {
			break
		}
		said, n := s.sentence(of[where], left)
		left, told = left-n, told+n
		out = append(out, said)
	}
	if more := len(s.Members) - told + len(s.Beyond); more > 0 {
		out = append(out, fmt.Sprintf("%s in the timeline.", plural(more, "more thing is", "more things are")))
	}
	if answer := answered(i.Reaction); answer != "" && len(order) > 1 {
		out = append(out, "The kernel "+answer+" some of it.")
	}
	return strings.Join(out, " ")
}

// sentence tells what happened in one container, in most clauses at most, and returns
// how many members it tells.
func (s *Story) sentence(ms []*member, most int) (string, int) {
	first := ms[0]
	where := placeOf(first)
	said := map[string]bool{}
	var clauses []string
	lead, last := s.opening(first, where)
	if last != nil {
		clauses, lead = append(clauses, lead), ""
	}
	told := 0
	for _, m := range ms {
		if len(clauses) > most {
			break
		}
		told++
		if m.Call != nil {
			last = nil
		}
		deed := m.AgentID + " " + m.Process.Key.String() + m.does(program(&m.Process), line(m))
		if m.Kind == threat.EntryViolation {
			deed = m.Summary
		}
		text := m.clause(last)
		if text == "" || said[deed] {
			continue // two rules that see the same say the same
		}
		said[deed] = true
		if last == nil && lead != "" {
			text, lead = lead+text, ""
			if len(m.Args) > 1 && !strings.Contains(text, line(m)) {
				text += " (" + cut(line(m), maxLine) + ")"
			}
		}
		clauses, last = append(clauses, text), m
	}
	reaction := event.ReactionNone
	for _, m := range ms {
		if graver(m.Reaction, reaction) {
			reaction = m.Reaction
		}
	}
	if answer := answered(reaction); answer != "" {
		clauses = append(clauses, "the kernel "+answer+" it")
	}
	return strings.Join(clauses, "; ") + ".", told
}

// opening says who began, and where: as a clause of its own, which has said of the
// first member what ran; or as the beginning of the first clause, with nil.
func (s *Story) opening(m *member, where string) (string, *member) {
	subject := program(&m.Process)
	if slices.Contains(shells, subject) {
		subject = "a shell"
	}
	if len(m.Args) > 1 {
		subject += " (" + cut(line(m), maxLine) + ")"
	}
	above, ok := s.above(m)
	switch {
	case subject != "" && m.Entered:
		return "Somebody came from outside and ran " + subject + " " + where, m
	case subject != "" && ok && above != program(&m.Process):
		return above + " " + where + " started " + subject, m
	}
	return strings.ToUpper(where[:1]) + where[1:] + ", ", nil
}

// placeOf is where a member happened.
func placeOf(m *member) string {
	switch {
	case m.Group != "":
		return "in " + m.Group
	case m.WorkloadID != "":
		return "in container " + short(m.WorkloadID)
	case m.Call != nil:
		return "in account " + m.Call.Account
	}
	return "on host " + m.AgentID
}

// shells are called that: what people say of them is what they are.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"}

// above names the program from which the tree of a member came.
func (s *Story) above(m *member) (string, bool) {
	key := m.Process.Parent
	if m.Root != m.Process.Key && !m.Root.IsZero() {
		key = m.Root
	}
	for k := range s.Nodes {
		n := &s.Nodes[k]
		if n.AgentID != m.AgentID || n.Key != key {
			continue
		}
		if m.Root == key {
			return s.aboveNode(n)
		}
		return nodeName(n), true
	}
	return "", false
}

// aboveNode names the parent of the root of a tree: the program that was there before.
func (s *Story) aboveNode(root *threat.Node) (string, bool) {
	for k := range s.Nodes {
		if n := &s.Nodes[k]; n.AgentID == root.AgentID && n.Key == root.Parent {
			return nodeName(n), true
		}
	}
	return nodeName(root), true
}

func nodeName(n *threat.Node) string {
	if n.Executable != "" {
		return path.Base(n.Executable)
	}
	return n.Name
}

// program names what a process runs.
func program(p *event.Process) string {
	if p.Executable != "" {
		return path.Base(p.Executable)
	}
	return p.Name
}

// line is the command line of a member.
func line(m *member) string { return strings.Join(m.Args, " ") }

// clause tells of one member, after the last that was told, nil for none. Whose doing
// it was is "it" where that is the same process. It is empty where nothing is to be
// said but what ran, and that was said.
func (m *member) clause(last *member) string {
	if m.Kind == threat.EntryViolation {
		return cut(strings.TrimRight(strings.TrimSpace(m.Summary), ".: "), maxClause)
	}
	who, ran := program(&m.Process), line(m)
	same := last != nil && last.AgentID == m.AgentID && last.Process.Key == m.Process.Key && line(last) == ran
	text := m.does(who, ran)
	switch {
	case text == "" && same:
		return ""
	case text == "" && ran != "":
		text = ran + " was run"
	case text == "":
		text = who + " was run"
	case !strings.HasPrefix(text, " "): // it says whose doing it was
		text = strings.TrimSpace(text)
	case same:
		text = "it" + text
	default:
		text = who + text
	}
	if m.Count > 1 {
		text += fmt.Sprintf(" (×%d)", m.Count)
	} else if m.Failed != "" && !strings.Contains(text, m.Failed) {
		text += ", which failed: " + m.Failed
	}
	return cut(text, maxClause)
}

// does returns what a member's summary says that the process did: behind a blank, and
// without its name and command line; empty where it says that it was run, and no more.
func (m *member) does(who, ran string) string {
	text := strings.TrimRight(m.Summary, ".: ")
	if ran != "" {
		if strings.HasSuffix(text, " started "+ran) { // nginx started sh -c …
			return ""
		}
		text = strings.TrimSuffix(text, ": "+ran)
	}
	if rest, ok := strings.CutPrefix(text, ran); ok { // also where the line is empty, and the summary begins with a blank
		text = rest
	}
	// A rule names a program without its version: python for python3.11.
	if word, rest, ok := strings.Cut(text, " "); ok && word != "" && (strings.HasPrefix(who, word) || word == m.Process.Name) {
		text = " " + rest
	}
	if strings.HasPrefix(text, ",") {
		return " was run" + text
	}
	for _, idle := range [...]string{" was run below ", " was started from outside", " was run"} {
		if strings.HasPrefix(text, idle) {
			return ""
		}
	}
	return text
}

func answered(r event.Reaction) string {
	switch r {
	case event.ReactionKilled:
		return "killed"
	case event.ReactionDenied:
		return "refused"
	}
	return ""
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
