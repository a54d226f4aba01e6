package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// storyWidth is how wide the story of an incident is: it is read in terminals, and
	// pasted into tickets.
	storyWidth = 80
	// shownEvidence is how many events of an entry are shown; -o json has all.
	shownEvidence = 3
)

// incidentStory writes all that is known of an incident, for people. hosts are names of
// hosts by their agents' ids, as far as they are known.
func (g *globals) incidentStory(i *threat.Incident, asked string, hosts map[string]string) error {
	var b strings.Builder
	if id := strconv.FormatInt(i.ID, 10); id != asked {
		fmt.Fprintf(&b, "Incident %s is part of incident %s.\n\n", asked, id)
	}
	wrap(&b, fmt.Sprintf("Incident %d: ", i.ID), "  ", printable(i.Title))
	severity := severityCell(i.Severity)
	state := incidentState(i)
	fmt.Fprintf(&b, "%s, %s", g.paint(severity.text, severity.tone), g.paint(incidentStateWords(i), state.tone))
	if i.Reopened > 1 || i.Reopened == 1 && i.State != threat.Reopened {
		fmt.Fprintf(&b, ", reopened %s", times(uint64(i.Reopened)))
	}
	b.WriteString("\n\n")
	wrap(&b, "", "", printable(i.Story))
	b.WriteString("\n")
	incidentFacts(&b, i, hosts)
	incidentTree(&b, i)
	incidentTimeline(&b, i)
	incidentCalls(&b, i)
	incidentPeers(&b, i)
	heading(&b, "FILES", len(i.Files))
	for _, f := range i.Files {
		wrap(&b, "  ", "    ", printable(f))
	}
	heading(&b, "WEAKNESSES THAT FIT", len(i.Weaknesses))
	for k := range i.Weaknesses {
		w := &i.Weaknesses[k]
		wrap(&b, "  ", "    ", printable(fmt.Sprintf("%s (%s) in %s of %s: %s", w.ID, w.Severity, w.Package, w.Image, w.Why)))
	}
	incidentEvidence(&b, i)
	_, err := io.WriteString(g.out, b.String())
	return err
}

func heading(b *strings.Builder, title string, entries int) {
	if entries > 0 {
		b.WriteString("\n" + title + "\n")
	}
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatUint(n, 10) + " times"
}

func incidentStateWords(i *threat.Incident) string {
	switch i.State {
	case threat.Assigned:
		return "assigned to " + printable(i.Assignee)
	case threat.Resolved:
		return "resolved as " + string(i.Resolution)
	}
	return string(i.State)
}

// incidentFacts are what is said in a line each.
func incidentFacts(b *strings.Builder, i *threat.Incident, hosts map[string]string) {
	fact := func(name, value string) {
		if value != "" {
			wrap(b, fmt.Sprintf("%-12s", name), strings.Repeat(" ", 12), printable(value))
		}
	}
	fact("happened", times(i.Count)+", "+moment(i.Opened)+" to "+moment(i.Last))
	fact("groups", strings.Join(i.Groups, ", "))
	ids := make([]string, len(i.Workloads))
	for k, id := range i.Workloads {
		ids[k] = asset.ShortID(id)
	}
	fact("containers", strings.Join(ids, ", "))
	names := make([]string, len(i.Agents))
	for k, id := range i.Agents {
		names[k] = orDefault(hosts[id], id)
	}
	fact("hosts", strings.Join(names, ", "))
	tactics := make([]string, len(i.Tactics))
	for k, t := range i.Tactics {
		tactics[k] = string(t)
	}
	fact("tactics", strings.Join(tactics, ", "))
	fact("techniques", strings.Join(i.Techniques, ", "))
	if i.Reaction != event.ReactionNone {
		fact("kernel", string(i.Reaction))
	}
	if i.Former != 0 {
		fact("continues", fmt.Sprintf("incident %d", i.Former))
	}
}

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

// incidentTree writes the processes, children below their parents.
func incidentTree(b *strings.Builder, i *threat.Incident) {
	heading(b, "PROCESSES", len(i.Processes))
	depth := map[string]int{}
	for k := range i.Processes {
		n := &i.Processes[k]
		d := 0
		if at, ok := depth[n.AgentID+n.Parent.String()]; ok && !n.Parent.IsZero() {
			d = at + 1
		}
		depth[n.AgentID+n.Key.String()] = d
		name := n.Executable
		if name == "" {
			name = n.Name
		}
		line := fmt.Sprintf("%s (%d)", name, n.Key.PID)
		if len(n.Args) > 1 {
			line += ": " + untrusted.CommandLine(n.Args)
		}
		if len(n.Rules) > 0 {
			line += " <- " + strings.Join(n.Rules, ", ")
		}
		indent := strings.Repeat("  ", min(d, 12)+1)
		wrap(b, indent, indent+"    ", printable(line))
	}
}

func incidentTimeline(b *strings.Builder, i *threat.Incident) {
	heading(b, "TIMELINE", len(i.Timeline))
	for k := range i.Timeline {
		e := &i.Timeline[k]
		var line string
		switch e.Kind {
		case threat.EntryThreat:
			line = fmt.Sprintf("%s: %s [%s]", e.Severity, e.Text, e.Rule)
		case threat.EntryViolation:
			line = "profile: " + e.Text
		case threat.EntryComment:
			line = e.By + " said: " + e.Text
		default:
			line = e.By + ": " + e.Text
		}
		if e.Count > 1 {
			line += fmt.Sprintf(" (%d times)", e.Count)
		}
		wrap(b, "  "+moment(e.Time)+"  ", strings.Repeat(" ", 23), printable(line))
	}
	if i.LeftOut > 0 {
		fmt.Fprintf(b, "  and %s more, which had no room\n", times(i.LeftOut))
	}
}

func incidentCalls(b *strings.Builder, i *threat.Incident) {
	heading(b, "CALLS OF AWS", len(i.Calls))
	for k := range i.Calls {
		c := &i.Calls[k]
		wrap(b, "  ", "    ", printable(fmt.Sprintf("%s by %s %s from %s (%s) in account %s, %s", c.Name, c.Words, c.Key, c.Source, c.Agent, c.Account, c.Region)))
	}
}

func incidentPeers(b *strings.Builder, i *threat.Incident) {
	heading(b, "PEERS", len(i.Peers))
	for k := range i.Peers {
		p := &i.Peers[k]
		var parts []string
		if p.Address.IsValid() {
			parts = append(parts, p.Address.String())
		}
		for _, s := range []string{p.Name, p.Group, string(p.Kind)} {
			if s != "" {
				parts = append(parts, s)
			}
		}
		wrap(b, "  ", "    ", printable(strings.Join(parts, "  ")))
	}
}

// incidentEvidence writes the events that it rests on, the first few of each entry.
func incidentEvidence(b *strings.Builder, i *threat.Incident) {
	n := 0
	for k := range i.Timeline {
		n += len(i.Timeline[k].Evidence)
	}
	heading(b, "EVIDENCE", n)
	for k := range i.Timeline {
		e := &i.Timeline[k]
		for _, v := range e.Evidence[:min(len(e.Evidence), shownEvidence)] {
			name := fmt.Sprintf("%s/%d", v.Boot, v.Seq)
			if v.ID != 0 {
				name = fmt.Sprintf("event %d", v.ID)
			}
			wrap(b, "  "+moment(v.Time)+"  ", strings.Repeat(" ", 23), printable(fmt.Sprintf("%s: %s (%s)", v.Kind, v.Words, name)))
		}
		if more := len(e.Evidence) - shownEvidence; more > 0 {
			fmt.Fprintf(b, "  and %d more of %s\n", more, e.Rule)
		}
	}
}

// wrap writes text in lines of storyWidth letters at most: the first behind lead, the
// others behind indent. A word that is longer than a line is cut into lines.
func wrap(b *strings.Builder, lead, indent, text string) {
	line, at := lead, utf8.RuneCountInString(lead)
	empty := true
	flush := func() {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		line, at, empty = indent, utf8.RuneCountInString(indent), true
	}
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if !empty && at+1+n > storyWidth {
			flush()
		}
		for at+n > storyWidth && storyWidth > at {
			r := []rune(word)
			line += string(r[:storyWidth-at])
			word, n = string(r[storyWidth-at:]), n-(storyWidth-at)
			flush()
		}
		if !empty {
			line, at = line+" ", at+1
		}
		line, at, empty = line+word, at+n, false
	}
	flush()
}
