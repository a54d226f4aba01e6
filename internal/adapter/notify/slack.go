package notify

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// slackNotices and slackFindings bound what one message shows: Slack cuts it
	// at 40,000 characters, and a person long before.
	slackNotices  = 10
	slackFindings = 5
	// slackText bounds one text that comes from elsewhere.
	slackText = 200
)

// slackMessage writes a notification as a message in Slack's markup, which
// Mattermost, Rocket.Chat and others take too.
func slackMessage(n *notice.Notification) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s *<%s|%s>*\n", slackMark(n.Severity), slackLink(n.Link), slackSafe(n.Title))
	if n.Text != "" {
		for l := range splitLines(n.Text) {
			fmt.Fprintf(&b, "%s\n", slackSafe(l))
		}
		return slackBody(b.String())
	}
	for i := range n.Notices[:min(len(n.Notices), slackNotices)] {
		slackNotice(&b, &n.Notices[i], len(n.Notices) == 1)
	}
	if more := len(n.Notices) + n.LeftOut - slackNotices; more > 0 {
		fmt.Fprintf(&b, "… and <%s|%d more>\n", slackLink(n.Link), more)
	}
	return slackBody(b.String())
}

// slackBody is the request of a text.
func slackBody(text string) ([]byte, error) {
	m, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return nil, marshalError(err)
	}
	return m, nil
}

func slackNotice(b *strings.Builder, x *notice.Notice, alone bool) {
	if !alone {
		fmt.Fprintf(b, "%s <%s|%s>\n", slackMark(x.Severity), slackLink(x.Link), slackSafe(x.Title))
	}
	if m := x.Image; m != nil && m.Running > 0 {
		fmt.Fprintf(b, "runs in %d workloads", m.Running)
		if len(m.Groups) > 0 {
			fmt.Fprintf(b, " of %s", slackCodes(m.Groups, slackFindings))
		}
		b.WriteByte('\n')
	}
	if x.Detail != "" {
		fmt.Fprintf(b, "%s\n", slackSafe(x.Detail))
	}
	if w := x.Workload; w != nil {
		fmt.Fprintf(b, "in %s\n", slackCodes(slices.DeleteFunc([]string{w.Group, w.ID, w.Host}, func(s string) bool { return s == "" }), slackFindings))
	}
	if x.Rule != "" || len(x.Techniques) > 0 {
		var all []string
		for _, t := range x.Techniques {
			all = append(all, strings.TrimSpace(t.ID+" "+t.Name))
		}
		fmt.Fprintf(b, "seen by %s\n", slackCodes(append([]string{or(x.Rule, "a rule")}, all...), slackFindings))
	}
	if x.Remedy != "" && x.Image == nil {
		fmt.Fprintf(b, "remedy: %s\n", slackSafe(x.Remedy))
	}
	for i := range x.Findings[:min(len(x.Findings), slackFindings)] {
		f := &x.Findings[i]
		fmt.Fprintf(b, "• %s %s in %s", f.Severity, slackCode(f.ID), slackCode(f.Package+" "+f.Version))
		if f.Exploited {
			b.WriteString(", *exploited*")
		}
		if f.InUse {
			b.WriteString(", in use")
		}
		if f.Fixed != "" {
			fmt.Fprintf(b, ", fixed in %s", slackCode(f.Fixed))
		}
		b.WriteByte('\n')
	}
	if more := len(x.Findings) + x.LeftOut - slackFindings; more > 0 {
		fmt.Fprintf(b, "• %d more\n", more)
	}
}

// slackMark shows how grave something is where a word would be too much.
func slackMark(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return ":red_circle:"
	case finding.Medium:
		return ":large_orange_circle:"
	}
	return ":large_blue_circle:"
}

// splitLines are the lines of a body that a template made, each as text.
func splitLines(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for l := range strings.SplitSeq(strings.TrimRight(untrusted.Clip(s, form.MaxText), "\n"), "\n") {
			if !yield(untrusted.Text(strings.TrimRight(l, "\r"))) {
				return
			}
		}
	}
}

// clipped makes a text one line of so many bytes at most.
func clipped(s string, most int) string { return untrusted.Clip(untrusted.Text(s), most) }

// slackSafe makes a text one that calls nobody and formats nothing: it may have
// names that others chose.
func slackSafe(s string) string {
	s = untrusted.Clip(untrusted.Text(s), slackText)
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*", "∗", "_", "_\u2060", "~", "∼", "`", "'", "@", "@\u2060", "|", "¦").Replace(s)
}

// slackCode shows a text as it is, in which nothing calls anybody.
func slackCode(s string) string {
	s = untrusted.Clip(untrusted.Text(s), slackText)
	return "`" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "'").Replace(s) + "`"
}

func slackCodes(all []string, most int) string {
	var out []string
	for _, s := range all[:min(len(all), most)] {
		out = append(out, slackCode(s))
	}
	if len(all) > most {
		out = append(out, "…")
	}
	return strings.Join(out, ", ")
}

// slackLink is an address of the console, which has nothing to escape but what
// would end it.
func slackLink(s string) string {
	return strings.NewReplacer("<", "%3C", ">", "%3E", "|", "%7C", "\n", "").Replace(s)
}
