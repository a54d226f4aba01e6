package console

import (
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// admissionTabs are the pages about what may be deployed.
func admissionTabs() []tab {
	return []tab{{"/admission", "Verdicts"}, {"/admission/policy", "Policy"}, {"/admission/exceptions", "Exceptions"}}
}

// verdictHref is the address of a verdict.
func verdictHref(id int64) string { return "/admission/verdicts/" + strconv.FormatInt(id, 10) }

// outcomeWords say how a request ended, and how that looks.
func outcomeWords(o admission.Outcome) (string, tone) {
	switch o {
	case admission.Allow:
		return "allowed", good
	case admission.Wait:
		return "to wait", warn
	}
	return "denied", danger
}

// endTone is how the number of requests that ended so looks.
func endTone(o admission.Outcome, n int64) tone {
	if _, t := outcomeWords(o); n > 0 && o != admission.Allow {
		return t
	}
	return calm
}

func outcomeGlyph(o admission.Outcome) string {
	return map[admission.Outcome]string{admission.Deny: "stop", admission.Wait: "watch", admission.Allow: "ok"}[o]
}

// outcomeTile names the number of requests that ended so.
func outcomeTile(o admission.Outcome) string {
	word, _ := outcomeWords(o)
	return word + ", last " + strconv.Itoa(admissionDays) + " days"
}

// doorWords name a door for people.
func doorWords(d admission.Door) string {
	switch d {
	case admission.Docker:
		return "container engine"
	case admission.Service:
		return "ECS deployment"
	case admission.CloudFormation:
		return "CloudFormation"
	case admission.EventBridge:
		return "task state change"
	case admission.CI:
		return "CI"
	}
	return untrusted.Text(string(d))
}

// actionWords say what was asked for.
func actionWords(a admission.Action) string {
	switch a {
	case admission.Run:
		return "start"
	case admission.Register:
		return "register"
	case admission.Exec:
		return "run a process in"
	case admission.Change:
		return "change"
	case admission.Copy:
		return "copy files into"
	case admission.Pull:
		return "fetch"
	case admission.Build:
		return "build"
	case admission.Engine:
		return "change the engine"
	}
	return untrusted.Text(string(a))
}

// lineTitle is what people know a request by: what it was about.
func lineTitle(l *store.AdmissionLine) string {
	if l.Family != "" {
		return l.Family
	}
	if len(l.Images) > 0 {
		_, name := splitImage(l.Images[0])
		return name
	}
	return l.Request
}

// lineImages are the images of a request that its title does not name, as people
// know them.
func lineImages(l *store.AdmissionLine) (out []string) {
	names := l.Images
	if l.Family == "" && len(names) > 0 {
		names = names[1:]
	}
	for _, reference := range names[:min(len(names), imagesNamed)] {
		_, name := splitImage(reference)
		out = append(out, name)
	}
	return out
}

// lineSays is the sentence of a request in the list.
func lineSays(l *store.AdmissionLine) string {
	switch {
	case l.Message != "":
		return capital(l.Message)
	case l.Outcome == admission.Allow:
		return "Nothing is against it."
	}
	return "No reason was kept."
}

// furtherReasons say how many reasons a line does not tell.
func furtherReasons(l *store.AdmissionLine) string {
	if l.Reasons < 2 {
		return ""
	}
	return "and " + plural(l.Reasons-1, "other reason", "other reasons")
}

// placeWords say where something was to run.
func placeWords(p admission.Place, hosts map[string]string) string {
	var parts []string
	for _, s := range []string{p.Cluster, p.Service} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, "/")
	case p.Host != "":
		return orElse(hosts[p.Host], p.Host)
	case p.File != "":
		return p.File
	case p.Account != "":
		return strings.Trim(p.Account+" "+p.Region, " ")
	}
	return ""
}

// effectWords say what a reason does to the verdict, and how that looks.
func effectWords(e admission.Effect) (string, tone) {
	switch e {
	case admission.Denies:
		return "denies", danger
	case admission.Waits:
		return "waits", warn
	case admission.Audited:
		return "would deny; the rule only reports here", warn
	case admission.Excepted:
		return "would deny; an exception holds", calm
	case admission.Warns:
		return "warns", calm
	}
	return untrusted.Text(string(e)), calm
}

// effectShort is that where space is short.
func effectShort(e admission.Effect) string {
	switch e {
	case admission.Audited:
		return "would deny"
	case admission.Excepted:
		return "excepted"
	}
	word, _ := effectWords(e)
	return word
}

// stateOfFacts says how much is known of one side of an image.
func stateOfFacts(s admission.State) (string, tone) {
	switch s {
	case admission.Known:
		return "known", good
	case admission.Waiting:
		return "being found out", warn
	case admission.Failed:
		return "could not be found out", danger
	}
	return "not known", warn
}

// dated is a day, or that there is none.
func dated(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return day(t)
}

// verdictBy says who decided.
func verdictBy(d verdictData) string {
	if d.Agent != "" {
		return "decided by the agent of " + untrusted.Text(orElse(d.Hosts[d.Agent], d.Agent))
	}
	if d.Actor != "" {
		return "asked by " + untrusted.Text(d.Actor) + ", decided"
	}
	return "decided"
}

// callerWords say who asked, as the door knew it.
func callerWords(c admission.Caller) string {
	switch {
	case c.Agent && c.Name == "":
		return "the ECS agent"
	case c.Name == "":
		return ""
	case c.Method != "":
		return c.Name + ", by " + c.Method
	}
	return c.Name
}

// reasonTally says how many reasons there are, and what they do.
func reasonTally(d verdictData) string {
	var out []string
	for _, e := range []admission.Effect{admission.Denies, admission.Waits, admission.Audited, admission.Excepted, admission.Warns} {
		n := 0
		for i := range d.Verdict.Reasons {
			if d.Verdict.Reasons[i].Effect == e {
				n++
			}
		}
		if n > 0 {
			out = append(out, count(n)+" "+effectMany(e, n))
		}
	}
	return strings.Join(out, ", ")
}

// effectMany is an effect behind the number of reasons that have it.
func effectMany(e admission.Effect, n int) string {
	short := effectShort(e)
	if n == 1 {
		return short
	}
	return map[admission.Effect]string{admission.Denies: "deny", admission.Waits: "wait", admission.Warns: "warn"}[e] +
		map[admission.Effect]string{admission.Audited: short, admission.Excepted: short}[e]
}

// trustKnown says what the trust policy said of an image.
func trustKnown(x *admission.Trust) (string, tone) {
	switch {
	case x.State == admission.Known && x.Allowed:
		return "allowed", good
	case x.State == admission.Known:
		return "denied", danger
	}
	return stateOfFacts(x.State)
}

// exceptHref is where an exception from what a reason of a verdict says is made.
func exceptHref(verdict int64, reason int) string {
	return "/admission/exceptions/new?verdict=" + strconv.FormatInt(verdict, 10) + "&reason=" + strconv.Itoa(reason+1)
}
