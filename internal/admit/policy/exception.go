package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
)

// exceptions reads what is let pass for a time.
func (r *policyReader) exceptions(n *yaml.Node) {
	seen := map[string]int{}
	r.Some(n, "exceptions", MaxExceptions, func(n *yaml.Node) {
		e := admission.Exception{ID: fmt.Sprintf("line %d", n.Line)}
		before := len(r.Problems)
		text := func(name string, to *string) func(*yaml.Node) {
			return func(n *yaml.Node) { *to, _ = r.short(n, name) }
		}
		ok := r.Fields(n, "an exception", map[string]func(*yaml.Node){
			"id": text("id", &e.ID), "owner": text("owner", &e.Owner), "reason": text("reason", &e.Reason),
			"expires":   func(n *yaml.Node) { e.Expires = r.Moment(n, "expires") },
			"rules":     func(n *yaml.Node) { r.excepted(&e, n) },
			"image":     text("image", &e.Image),
			"container": text("container", &e.Container), "family": text("family", &e.Family), "service": text("service", &e.Service),
			"cluster": text("cluster", &e.Cluster), "subject": text("subject", &e.Subject), "host": text("host", &e.Host),
		})
		if !ok {
			return
		}
		misspelt := len(r.Problems) > before // what is missing may be that
		for _, w := range Incomplete(&e) {
			if misspelt && (w.Text == noRules || w.Text == noEnd) {
				continue
			}
			r.Wrong(n, w.Remedy, "%s", w.Text)
		}
		if line := seen[e.ID]; line > 0 {
			r.Wrong(n, "give one of both another id", "line %d has an exception %s already", line, e.ID)
		}
		seen[e.ID] = n.Line
		r.p.Exceptions = append(r.p.Exceptions, e)
	})
}

func (r *policyReader) excepted(e *admission.Exception, n *yaml.Node) {
	r.Some(n, "rules", MaxRules, func(n *yaml.Node) {
		id, ok := r.short(n, "rules")
		if !ok {
			return
		}
		if r.ids[id] == 0 {
			ids := slices.Sorted(maps.Keys(r.ids))
			r.Wrong(n, "the policy has "+strings.Join(ids, ", "), "the policy has no rule %q%s", id, condition.Nearest(id, ids))
			return
		}
		e.Rules = append(e.Rules, id)
	})
}

// What may be missing of an exception because it was misspelt.
const (
	noRules = "the exception names no rules"
	noEnd   = "the exception never ends"
)

// Incomplete says what is missing of an exception, whoever wrote it.
func Incomplete(e *admission.Exception) []Problem {
	var out []Problem
	say := func(text, remedy string) { out = append(out, Problem{Text: text, Remedy: remedy}) }
	if len(e.Rules) == 0 {
		say(noRules, "rules: [id of a rule]")
	}
	if strings.TrimSpace(e.Owner) == "" {
		say("the exception has no owner", "owner: who answers for it, such as a team or an e-mail address")
	}
	if strings.TrimSpace(e.Reason) == "" {
		say("the exception has no reason", "reason: why it may be let pass for a while")
	}
	if e.Expires.IsZero() {
		say(noEnd, "expires: "+time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC).Format(time.DateOnly))
	}
	if e.Image+e.Container+e.Family+e.Service+e.Cluster+e.Subject+e.Host == "" {
		say("the exception is for everything", "say what it is for: image, container, family, service, cluster, host or subject")
	}
	if e.Image != "" && strings.Trim(e.Image, "*/") == "" {
		say(fmt.Sprintf("the exception's image %q is every image", e.Image), "name a digest (sha256:…) or a repository, such as registry.example.com/team/*")
	}
	return out
}
