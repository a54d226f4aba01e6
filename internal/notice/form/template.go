package form

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Bounds of a template. One of a target is executed for each of its notifications.
const (
	// MaxTemplate bounds its text.
	MaxTemplate = 8 << 10
	// maxTemplateTitle bounds the title that it makes.
	maxTemplateTitle = 500
	// maxRanges is how deep ranges may lie within each other: notices, and findings
	// in them. Each multiplies the work by 50 at most.
	maxRanges = 2
)

// Message is what a template sees: texts and numbers, no methods. Texts of others are
// one line each, but for Detail.
type Message struct {
	Title    string // one sentence, without a full stop
	Severity string // of the gravest notice
	Link     string // to the console
	Created  string // RFC 3339, in UTC
	Count    int    // of notices, those that were left out too
	LeftOut  int
	Notices  []MessageNotice // the gravest first, 20 at most
}

// MessageNotice is a notice as a template sees it. What is not known is empty.
type MessageNotice struct {
	Kind, Title, Severity, Time, Link, Detail, Remedy, Rule, Owner string
	Resolved                                                       bool
	Count                                                          int
	Workload, Group, Cluster, Task, Container, Host, Image         string
	Running                                                        int
	Techniques, Groups                                             []string
	Findings                                                       []MessageFinding
}

// MessageFinding is a finding as a template sees it.
type MessageFinding struct {
	ID, Severity, Package, Version, Fixed, Reason, Remedy string
	Exploited, InUse                                      bool
}

// templateWords are the functions of templates: those of the language that make
// nothing longer and reach nothing, and these.
var templateWords = template.FuncMap{
	"upper": strings.ToUpper,
	"lower": strings.ToLower,
	// A text that is joined by itself again and again would grow without end.
	"join": func(all []string, with string) string { return untrusted.Clip(strings.Join(all, with), MaxDetail) },
}

var (
	languageWords = []string{"and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len"}
	// lists are the fields that a range may go over: never a number, which may be
	// large.
	lists = []string{"Notices", "Findings", "Techniques", "Groups"}
)

// CheckTemplate returns what is wrong with a template: it is tried with notices of
// all kinds.
func CheckTemplate(t notice.Template) error {
	for _, kind := range append(notice.Kinds(), notice.Test) {
		n := Sample(kind)
		if _, _, err := Apply(t, &n); err != nil {
			return err
		}
	}
	return nil
}

// Apply returns the title and the text that a template makes of a notification, each
// empty where it has none for it. An error leaves both empty.
func Apply(t notice.Template, n *notice.Notification) (title, text string, err error) {
	data := message(n)
	if title, err = execute("title", t.Title, &data, maxTemplateTitle); err != nil {
		return "", "", err
	}
	if text, err = execute("body", t.Body, &data, MaxText); err != nil {
		return "", "", err
	}
	return Word(strings.Join(strings.Fields(title), " ")), text, nil
}

// errFull ends the execution of a template that wrote enough.
var errFull = errors.New("enough")

// cut keeps what is written up to a bound.
type cut struct {
	strings.Builder
	room int
}

// Write keeps what has room.
func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.room {
		p = p[:c.room]
	}
	c.room -= len(p)
	n, _ := c.Builder.Write(p)
	if c.room == 0 {
		return n, errFull
	}
	return n, nil
}

var _ io.Writer = (*cut)(nil)

// execute makes a text; one that is too long is cut.
func execute(name, source string, data *Message, most int) (string, error) {
	if source == "" {
		return "", nil
	}
	if len(source) > MaxTemplate {
		return "", fmt.Errorf("%s: a template has %d bytes at most", name, MaxTemplate)
	}
	t, err := template.New(name).Funcs(templateWords).Parse(source)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if len(t.Templates()) > 1 {
		return "", fmt.Errorf("%s: a template may not define others", name)
	}
	if t.Tree == nil || t.Root == nil {
		return "", nil
	}
	if err := walk(t.Root, 0); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	out := cut{room: most}
	if err := t.Execute(&out, data); err != nil && !errors.Is(err, errFull) {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.ToValidUTF8(out.String(), ""), nil
}

// walk returns what in a template is not permitted.
func walk(n parse.Node, ranges int) error {
	var branch *parse.BranchNode
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Nodes {
			if err := walk(c, ranges); err != nil {
				return err
			}
		}
		return nil
	case *parse.ActionNode:
		return walkPipe(n.Pipe)
	case *parse.IfNode:
		branch = &n.BranchNode
	case *parse.WithNode:
		branch = &n.BranchNode
	case *parse.RangeNode:
		branch = &n.BranchNode
		if ranges++; ranges > maxRanges {
			return fmt.Errorf("ranges lie %d deep at most", maxRanges)
		}
		if !overList(n.Pipe) {
			return fmt.Errorf("range goes over one of .%s, not over {{range %s}}", strings.Join(lists, ", ."), n.Pipe)
		}
	case *parse.TextNode, *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
		return nil
	default:
		return fmt.Errorf("%s is not for templates of notifications", n)
	}
	return errors.Join(walkPipe(branch.Pipe), walk(branch.List, ranges), walk(branch.ElseList, ranges))
}

// overList reports whether a range goes over a list of the message.
func overList(p *parse.PipeNode) bool {
	if len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return false
	}
	var path []string
	switch n := p.Cmds[0].Args[0].(type) {
	case *parse.FieldNode:
		path = n.Ident
	case *parse.VariableNode:
		path = n.Ident[1:]
	}
	return len(path) > 0 && slices.Contains(lists, path[len(path)-1])
}

// walkPipe permits fields, constants, and functions by name.
func walkPipe(p *parse.PipeNode) error {
	for _, c := range p.Cmds {
		for _, a := range c.Args {
			switch a := a.(type) {
			case *parse.IdentifierNode:
				if _, ours := templateWords[a.Ident]; !ours && !slices.Contains(languageWords, a.Ident) {
					return fmt.Errorf("there is no function %s here; there are %s, join, lower, upper", a.Ident, strings.Join(languageWords, ", "))
				}
			case *parse.PipeNode:
				if err := walkPipe(a); err != nil {
					return err
				}
			case *parse.ChainNode:
				return fmt.Errorf("%s is not for templates of notifications", a)
			}
		}
	}
	return nil
}

// message is a notification as templates see it.
func message(n *notice.Notification) Message {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	m := Message{Title: Word(n.Title), Severity: n.Severity.String(), Link: Link(n.Link), Created: stamp(n.Created), Count: len(n.Notices) + n.LeftOut, LeftOut: n.LeftOut}
	for i := range n.Notices[:min(len(n.Notices), MaxNotices)] {
		x := &n.Notices[i]
		to := MessageNotice{
			Kind: string(x.Kind), Title: Word(x.Title), Severity: x.Severity.String(), Time: stamp(x.Time), Link: Link(x.Link), Detail: lines(x.Detail, MaxDetail),
			Remedy: Word(x.Remedy), Rule: Word(x.Rule), Owner: Word(x.Owner), Resolved: x.Resolved, Count: x.Count,
		}
		if w := x.Workload; w != nil {
			to.Workload, to.Group, to.Task, to.Container, to.Host, to.Image = Word(w.ID), Word(w.Group), Word(w.Task), Word(w.Container), Word(w.Host), Word(w.Image)
		}
		if c := x.Clusters(); len(c) > 0 {
			to.Cluster = Word(c[0])
		}
		if x.Image != nil {
			to.Image, to.Running = Word(first(x.Image.References, x.Image.ID)), x.Image.Running
		}
		for _, g := range x.Groups() {
			to.Groups = append(to.Groups, Word(g))
		}
		for _, t := range x.Techniques {
			to.Techniques = append(to.Techniques, Word(strings.TrimSpace(t.ID+" "+t.Name)))
		}
		for j := range x.Findings {
			f := &x.Findings[j]
			to.Findings = append(to.Findings, MessageFinding{
				Word(f.ID), f.Severity.String(), Word(f.Package), Word(f.Version), Word(f.Fixed), string(f.Reason), Word(f.Remedy), f.Exploited, f.InUse,
			})
		}
		m.Notices = append(m.Notices, to)
	}
	m.LeftOut = m.Count - len(m.Notices)
	return m
}

// Sample is a notification of a kind as it might be, for who writes a template.
func Sample(kind notice.Kind) notice.Notification {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	x := notice.Notice{Kind: kind, Subject: "sample", Time: at, Severity: finding.High, Link: "https://castellan.example.org/sample", Owner: "shop"}
	switch kind {
	case notice.Incident, notice.Violation, notice.Response:
		x.Title, x.Detail, x.Rule, x.Count = "sample: shell over the network in prod/shop/web", "nc started sh with its input from 192.0.2.7.\nIt read /etc/shadow.", "reverse-shell", 2
		x.Remedy, x.Techniques = "stop the task, and see how they came in", []notice.Technique{{ID: "T1059.004", Name: "Unix Shell", Tactic: "execution"}}
		x.Workload = &notice.Workload{
			ID: "c13b4cb40f1f", Group: "prod/shop/web", Account: "123456789012", Region: "eu-west-1", Cluster: "prod",
			Task: "arn:aws:ecs:eu-west-1:123456789012:task/prod/c13b4cb40f1f4fe4a2971f76ae5a47ad", Container: "web", Host: "i-0123456789abcdef0", Image: "shop/web:1.2",
		}
	case notice.ImageVulnerable, notice.ImageScanned:
		x.Title, x.Remedy = "sample: shop/web:1.2 has 1 more vulnerability: high CVE-2026-1 in openssl", "move openssl to 3.0.13"
		x.Image = &notice.Image{ID: "sha256:" + strings.Repeat("0", 64), References: []string{"shop/web:1.2"}, Running: 2, Groups: []string{"prod/shop/web"}, Counts: notice.Counts{High: 1, Fixable: 1}}
		x.Findings = []notice.Finding{{ID: "CVE-2026-1", Reason: notice.New, Severity: finding.High, Package: "openssl", Version: "3.0.12", Fixed: "3.0.13", InUse: true, Remedy: "move openssl to 3.0.13"}}
	default:
		x.Title = "sample: Castellan reaches this target"
	}
	return notice.Notification{Version: notice.Version, ID: "SAMPLE", Created: at, Severity: x.Severity, Title: x.Title, Link: x.Link, Notices: []notice.Notice{x}}
}
