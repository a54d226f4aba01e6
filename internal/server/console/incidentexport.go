package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// exportIncident sends an incident as a file: JSON as the API has it, or Markdown for
// a ticket.
func (c *Console) exportIncident(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	as := r.URL.Query().Get("as")
	if as != "json" && as != "md" {
		return fault.New(fault.Invalid, "%.20q is no form of an incident", as).With("as=md is Markdown for a ticket, as=json is all of it")
	}
	d, err := c.readIncident(r.Context(), v, id)
	if err != nil {
		return err
	}
	var body []byte
	kind := "text/markdown; charset=utf-8"
	if as == "json" {
		kind = "application/json"
		if body, err = json.MarshalIndent(&d.Incident, "", "  "); err != nil {
			return fmt.Errorf("encode incident %d: %w", d.ID, err)
		}
	} else {
		scheme := "https"
		if r.TLS == nil {
			scheme = "http"
		}
		body = []byte(incidentMarkdown(&d, scheme+"://"+r.Host+incidentHref(d.ID)))
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="incident-`+strconv.FormatInt(d.ID, 10)+"."+as+`"`)
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the browser went away; there is nobody to tell
	return nil
}

// incidentMarkdown is an incident for a ticket. What containers chose is in code spans,
// in which nothing is markup.
func incidentMarkdown(d *incidentData, link string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Incident %d: %s", d.ID, plainMark(d.Title))
	line("")
	line("%s", plainMark(d.Story))
	line("")
	line("| | |")
	line("|---|---|")
	row := func(name, value string) {
		if value != "" {
			line("| %s | %s |", name, value)
		}
	}
	row("Severity", d.Severity.String())
	state := string(stateOf(&d.Incident))
	if d.Resolution != threat.Unresolved {
		state += ": " + resolutionWords(d.Resolution)
	}
	row("State", state)
	row("Assigned to", codeMark(d.Assignee))
	row("First, last", moment(d.Opened)+", "+moment(d.Last))
	row("Happened", plural(d.Count, "time", "times"))
	row("Kernel", answerSays(d.Reaction))
	row("Groups", codeMarks(d.Groups))
	row("Containers", codeMarks(d.Incident.Workloads))
	hosts := make([]string, len(d.Agents))
	for i, a := range d.Agents {
		hosts[i] = hostName(d.Hosts, a)
	}
	row("Hosts", codeMarks(hosts))
	row("Tactics", tacticWords(d.Tactics))
	row("Techniques", codeMarks(d.Techniques))
	row("In Castellan", "<"+link+">")
	section := func(title string) { line("\n## %s\n", title) }
	section("Timeline (UTC)")
	for i := range d.Timeline {
		e := &d.Timeline[i]
		line("- %s %s%s: %s%s", e.Time.UTC().Format("2006-01-02 15:04:05"), entryWord(e.Kind), markWords(e), codeMark(e.Text), byMark(e.By))
	}
	if d.LeftOut > 0 {
		line("- and %s that had no room", plural(d.LeftOut, "entry", "entries"))
	}
	if len(d.Processes) > 0 {
		section("Processes")
		for _, n := range d.Roots {
			processMark(&b, n, 0)
		}
	}
	list := func(title string, all []string) {
		if len(all) > 0 {
			section(title)
			for _, s := range all {
				line("- %s", s)
			}
		}
	}
	var peers, files, weak []string
	for i := range d.Peers {
		name, address := peerText(&d.Peers[i])
		peers = append(peers, strings.TrimSpace(codeMark(name)+" "+codeMark(address)+" "+peerWord(d.Peers[i].Kind)))
	}
	for _, f := range d.Files {
		files = append(files, codeMark(f))
	}
	for _, x := range d.Weaknesses {
		weak = append(weak, codeMark(x.ID)+" "+x.Severity.String()+", "+codeMark(x.Package)+": "+plainMark(x.Why))
	}
	list("Calls of AWS", callMarks(d.Calls))
	list("Network", peers)
	list("Files", files)
	list("How they may have come in", weak)
	return b.String()
}

// callMarks are calls of AWS, a line each.
func callMarks(all []threat.Call) []string {
	var out []string
	for i := range all {
		c := &all[i]
		out = append(out, codeMark(c.Name)+" by "+codeMark(strings.TrimSpace(c.Words+" "+c.Key))+" from "+codeMark(strings.TrimSpace(c.Source+" "+c.Agent))+" in account "+codeMark(strings.TrimSpace(c.Account+" "+c.Region)))
	}
	return out
}

// processMark writes a process with its children, each a step further in.
func processMark(b *strings.Builder, n *incidentNode, depth int) {
	fmt.Fprintf(b, "%s- %d %s uid %d", strings.Repeat("  ", depth), n.Key.PID, codeMark(nodeCommand(&n.Node)), n.UID)
	if len(n.Rules) > 0 {
		b.WriteString(" **" + codeMarks(n.Rules) + "**")
	}
	b.WriteByte('\n')
	for _, c := range n.Children {
		processMark(b, c, depth+1)
	}
}

// markWords are severity, rule and count of an entry.
func markWords(e *threat.Entry) string {
	var all []string
	if e.Kind == threat.EntryThreat {
		all = append(all, e.Severity.String(), codeMark(e.Rule))
	}
	if e.Count > 1 {
		all = append(all, times(e.Count))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

func byMark(who string) string {
	if who == "" {
		return ""
	}
	return " – " + codeMark(actorName(who))
}

// codeMark is a text as a code span: longer runs of backquotes than there are in it
// end it, and a bar does not end a table's cell.
func codeMark(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ReplaceAll(untrusted.Text(s), "|", `\|`)
	longest, run := 0, 0
	for _, r := range s {
		if run++; r != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

func codeMarks(all []string) string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = codeMark(s)
	}
	return strings.Join(out, ", ")
}

// plainMark is a text in which nothing is markup.
func plainMark(s string) string {
	var b strings.Builder
	for _, r := range untrusted.Text(s) {
		if strings.ContainsRune("\\`*_[]<>#|~&@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
