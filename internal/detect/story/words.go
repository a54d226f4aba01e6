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
		title += fmt.Sprintf(", in %s and %s", where, plural(len(i.Groups)-1, "more group", "more groups"))
	case where != "":
		title += ", in " + where
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
		return i.Groups[0]
	case len(i.Workloads) > 0:
		return "container " + short(i.Workloads[0])
	case len(i.Agents) > 0:
		return "host " + i.Agents[0]
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
	where := first.Group
	if where == "" && first.WorkloadID != "" {
		where = "container " + short(first.WorkloadID)
	}
	if where == "" {
		where = "the host " + first.AgentID
	}
	clauses := []string{s.opening(first, where)}
	said, last, told := map[string]bool{}, program(&first.Process), 0
	for _, m := range ms {
		if len(clauses) > most {
			break
		}
		told++
		if text := m.clause(last); text != "" && !said[text] {
			said[text] = true
			clauses = append(clauses, text)
			last = program(&m.Process)
		}
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

// opening says who began, and where.
func (s *Story) opening(m *member, where string) string {
	subject := program(&m.Process)
	if slices.Contains(shells, subject) {
		subject = "a shell"
	}
	if len(m.Args) > 1 {
		subject += " (" + cut(strings.Join(m.Args, " "), maxLine) + ")"
	}
	above, ok := s.above(m)
	switch {
	case subject == "":
		return "In " + where + " something happened"
	case m.Entered:
		return "Somebody came into " + where + " from outside and ran " + subject
	case ok && above != program(&m.Process):
		return above + " in " + where + " started " + subject
	}
	return "In " + where + ", " + subject + " ran"
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

// clause tells of one member; who did it is "it" where that is who did the last. It is
// empty where nothing is to be said but what ran, and that was said.
func (m *member) clause(last string) string {
	text := strings.TrimSuffix(strings.TrimSpace(m.Summary), ".")
	who := program(&m.Process)
	line := strings.Join(m.Args, " ")
	if m.Kind == threat.EntryViolation {
		return cut(text, maxClause)
	}
	if rest, ok := strings.CutPrefix(text, line); ok && line != "" {
		if rest = strings.TrimSpace(rest); rest == "" {
			if who == last {
				return ""
			}
			text = who + " ran as " + line
		} else if strings.HasPrefix(rest, ",") {
			text = who + rest
		} else {
			text = who + " " + rest
		}
	}
	if who == last && strings.HasPrefix(text, who+" was run below ") {
		return ""
	}
	if rest, ok := strings.CutPrefix(text, who+" "); ok && who == last && who != "" {
		text = "it " + rest
	}
	if m.Count > 1 {
		text += fmt.Sprintf(" (×%d)", m.Count)
	}
	if m.Failed != "" && !strings.Contains(text, m.Failed) {
		text += ", which failed: " + m.Failed
	}
	return cut(text, maxClause)
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
