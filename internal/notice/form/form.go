// Package form writes notifications in forms that more than one protocol carries:
// text and HTML for people (Text, HTML), and the facts that cards and alarms show
// (Facts, Finding).
//
// It is not for protocols, and not for the forms of one receiver alone, which are
// beside what speaks to it (internal/adapter/notify).
//
// Names in a notification were chosen by others. Everything that is returned
// shows them as text: no line break of theirs makes a line, no tag of theirs is
// one.
package form

import (
	"fmt"
	"html"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// MaxNotices bounds the notices that a message for people has, and MaxFindings
	// the findings of each: a person reads no more, and the console has all.
	MaxNotices  = 20
	MaxFindings = 10
	// maxWord bounds one text that comes from elsewhere.
	maxWord = 500
	// MaxDetail bounds the explanation of a notice.
	MaxDetail = 2_000
)

// Word makes a text that comes from elsewhere one line of bounded length.
func Word(s string) string { return untrusted.Clip(untrusted.Text(s), maxWord) }

// lines makes a text of some lines one that only its line breaks shape.
func lines(s string, most int) string {
	var out []string
	for l := range strings.SplitSeq(untrusted.Clip(s, most), "\n") {
		out = append(out, untrusted.Text(strings.TrimRight(l, "\r")))
	}
	return strings.Join(out, "\n")
}

// Fact is one thing that is known, with what it is called.
type Fact struct{ Name, Value string }

// Facts returns what is known beside title and findings, each as one line.
func Facts(x *notice.Notice) (all []Fact) {
	add := func(name, value string) {
		if value != "" {
			all = append(all, Fact{name, Word(value)})
		}
	}
	add("Severity", x.Severity.String())
	if x.Resolved {
		add("State", "over")
	}
	if m := x.Image; m != nil {
		add("Image", first(m.References, m.ID))
		if m.Running > 0 {
			add("Runs in", plural(m.Running, "workload", "workloads")+of(m.Groups))
		}
	}
	if w := x.Workload; w != nil {
		add("Workload", strings.TrimSpace(w.Group+" "+short(w.ID)))
		add("Image", w.Image)
		add("Task", w.Task)
		add("Host", w.Host)
	}
	add("Owner", x.Owner)
	add("Rule", x.Rule)
	for _, t := range x.Techniques {
		add("ATT&CK", strings.TrimSpace(t.ID+" "+t.Name))
	}
	if x.Count > 1 {
		add("Seen", strconv.Itoa(x.Count)+" times")
	}
	add("Remedy", x.Remedy)
	return all
}

// Finding says a finding in one line.
func Finding(f *notice.Finding) string {
	says := f.Severity.String() + " " + f.ID + " in " + f.Package + " " + f.Version
	if f.Exploited {
		says += ", known to be exploited"
	}
	if f.InUse {
		says += ", in use"
	}
	if f.Fixed != "" {
		says += ", fixed in " + f.Fixed
	}
	return Word(says)
}

// Text writes a notification for people, in lines. The title is not in it: it is
// the subject.
func Text(n *notice.Notification) string {
	if n.Text != "" {
		return lines(n.Text, MaxText) + "\n\n" + Link(n.Link) + "\n"
	}
	var b strings.Builder
	shown := n.Notices[:min(len(n.Notices), MaxNotices)]
	for i := range shown {
		x := &shown[i]
		if len(n.Notices) > 1 {
			fmt.Fprintf(&b, "%s\n", Word(x.Title))
		}
		if x.Detail != "" {
			fmt.Fprintf(&b, "%s\n\n", lines(x.Detail, MaxDetail))
		}
		for _, f := range Facts(x) {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		for j := range x.Findings[:min(len(x.Findings), MaxFindings)] {
			fmt.Fprintf(&b, "- %s\n", Finding(&x.Findings[j]))
		}
		if more := len(x.Findings) + x.LeftOut - MaxFindings; more > 0 {
			fmt.Fprintf(&b, "- and %d more\n", more)
		}
		fmt.Fprintf(&b, "%s\n\n", Link(x.Link))
	}
	if more := len(n.Notices) + n.LeftOut - len(shown); more > 0 {
		fmt.Fprintf(&b, "And %d more: %s\n", more, Link(n.Link))
	}
	return b.String()
}

// MaxText bounds the body that a target's own template makes.
const MaxText = 16 << 10

// HTML writes a notification for people as a page with no script, style sheet or
// picture, as mail programs show it.
func HTML(n *notice.Notification) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html><body style="font-family:sans-serif;font-size:14px">` + "\n")
	fmt.Fprintf(&b, "<h2 style=\"border-left:6px solid %s;padding-left:8px\">%s</h2>\n", color(n.Severity), html.EscapeString(Word(n.Title)))
	if n.Text != "" {
		fmt.Fprintf(&b, "<p style=\"white-space:pre-wrap\">%s</p>\n", html.EscapeString(lines(n.Text, MaxText)))
	} else {
		for i := range n.Notices[:min(len(n.Notices), MaxNotices)] {
			htmlNotice(&b, &n.Notices[i], len(n.Notices) == 1)
		}
		if more := len(n.Notices) + n.LeftOut - MaxNotices; more > 0 {
			fmt.Fprintf(&b, "<p>And %d more.</p>\n", more)
		}
	}
	fmt.Fprintf(&b, "<p><a href=\"%s\">Open in Castellan</a></p>\n</body></html>\n", html.EscapeString(Link(n.Link)))
	return b.String()
}

func htmlNotice(b *strings.Builder, x *notice.Notice, alone bool) {
	if !alone {
		fmt.Fprintf(b, "<h3 style=\"border-left:4px solid %s;padding-left:6px\"><a href=\"%s\">%s</a></h3>\n",
			color(x.Severity), html.EscapeString(Link(x.Link)), html.EscapeString(Word(x.Title)))
	}
	if x.Detail != "" {
		fmt.Fprintf(b, "<p style=\"white-space:pre-wrap\">%s</p>\n", html.EscapeString(lines(x.Detail, MaxDetail)))
	}
	b.WriteString("<table>\n")
	for _, f := range Facts(x) {
		fmt.Fprintf(b, "<tr><th align=\"left\">%s</th><td>%s</td></tr>\n", html.EscapeString(f.Name), html.EscapeString(f.Value))
	}
	b.WriteString("</table>\n")
	if len(x.Findings) == 0 {
		return
	}
	b.WriteString("<ul>\n")
	for i := range x.Findings[:min(len(x.Findings), MaxFindings)] {
		fmt.Fprintf(b, "<li>%s</li>\n", html.EscapeString(Finding(&x.Findings[i])))
	}
	if more := len(x.Findings) + x.LeftOut - MaxFindings; more > 0 {
		fmt.Fprintf(b, "<li>and %d more</li>\n", more)
	}
	b.WriteString("</ul>\n")
}

// Link returns an address of the console as one that a program may follow: of the
// web, and without what would end it where it stands.
func Link(s string) string {
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`<>"'`+"`", r) {
			return -1
		}
		return r
	}, s)
}

func color(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return "#c62828"
	case finding.Medium:
		return "#ef6c00"
	}
	return "#1565c0"
}

func first(all []string, otherwise string) string {
	if len(all) > 0 {
		return all[0]
	}
	return otherwise
}

func of(groups []string) string {
	const most = 5
	if len(groups) == 0 {
		return ""
	}
	says := " of " + strings.Join(groups[:min(len(groups), most)], ", ")
	if len(groups) > most {
		says += ", …"
	}
	return says
}

func short(id string) string { return id[:min(len(id), 12)] }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
