package console

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
	"github.com/castellan-security/castellan/internal/watch"
)

// modes lists every mode in the order in which a group goes through them.
func modes() []profile.Mode {
	return []profile.Mode{profile.Discover, profile.Monitor, profile.Protect}
}

// modeDoes says what a profile does in a mode.
func modeDoes(m profile.Mode) string {
	switch m {
	case profile.Discover:
		return "learns what is normal; nothing is reported or blocked"
	case profile.Monitor:
		return "reports what lies outside the profile; nothing is blocked"
	case profile.Protect:
		return "blocks what lies outside the profile, where the host's kernel can"
	}
	return ""
}

// modeTone is how a mode looks, and modeGlyph its icon.
func modeTone(m profile.Mode) tone {
	if m == profile.Protect {
		return good
	}
	return calm
}

func modeGlyph(m profile.Mode) string {
	return map[profile.Mode]string{profile.Discover: "search", profile.Monitor: "eye", profile.Protect: "keep"}[m]
}

// modeTile names the number of groups in a mode.
func modeTile(m profile.Mode) string {
	return map[profile.Mode]string{profile.Discover: "groups discover", profile.Monitor: "groups monitor", profile.Protect: "groups protect"}[m]
}

// controlWords name a control for people.
func controlWords(c profile.Control) string {
	switch c {
	case profile.ControlExec:
		return "programs"
	case profile.ControlFile:
		return "files"
	case profile.ControlNetwork:
		return "network"
	case profile.ControlPrivilege:
		return "privileges"
	case profile.ControlResource:
		return "resources"
	}
	return untrusted.Text(string(c))
}

// controlAbout says what a control is about.
func controlAbout(c profile.Control) string {
	switch c {
	case profile.ControlExec:
		return "what runs, and what is mapped as code"
	case profile.ControlFile:
		return "what is written, and which sensitive files are read"
	case profile.ControlNetwork:
		return "whom it connects to, which ports it opens, which names it asks for"
	case profile.ControlPrivilege:
		return "capabilities and privileged calls"
	case profile.ControlResource:
		return "how much it takes"
	}
	return ""
}

// answerWords say what happens to what lies outside a control.
func answerWords(a profile.Answer) string {
	switch a {
	case profile.Deny:
		return "blocked"
	case profile.Audit:
		return "reported"
	case profile.Off:
		return "not held"
	}
	return untrusted.Text(string(a))
}

// wanted is the answer that a control of a group has by its mode, and what somebody
// set for it.
func wanted(g *store.BehaviourGroup, m profile.Mode, c profile.Control) profile.Answer {
	return watch.Answer(m, g.Answers[c])
}

// reactionWords say what happened to what lay outside, and how that looks.
func reactionWords(r event.Reaction) (string, tone) {
	switch r {
	case event.ReactionDenied:
		return "denied", good
	case event.ReactionKilled:
		return "killed", good
	case event.ReactionAudited, event.ReactionNone:
		return "reported", warn
	}
	return untrusted.Text(string(r)), warn
}

// reactionSays explains it.
func reactionSays(v *profile.Violation) string {
	switch {
	case v.Reaction == event.ReactionDenied:
		return "The host's kernel refused it: it was not done."
	case v.Reaction == event.ReactionKilled:
		return "The process died of it, before it could go on."
	case v.Unheld:
		return "It was done. No kernel is asked to hold to this part of a profile: it is reported, in protect too."
	case v.Reaction == event.ReactionAudited:
		return "It was done. The host's kernel told of it, and would have refused it in protect."
	}
	return "It was done. A sensor saw it."
}

// reactionChoices are what the filter for reactions offers.
func reactionChoices() []span {
	return []span{{"", "any reaction"}, {string(event.ReactionDenied), "denied"}, {string(event.ReactionKilled), "killed"}, {string(event.ReactionAudited), "reported by the kernel"}}
}

// controlChoices are what the filter for controls offers.
func controlChoices() []span {
	out := []span{{"", "any control"}}
	for _, c := range profile.Controls() {
		out = append(out, span{string(c), controlWords(c)})
	}
	return out
}

// percent writes a measure from 0 to 1. It rounds down: 100 % is all.
func percent(measure float64) string { return strconv.Itoa(int(measure*100)) + " %" }

// settledWord says how settled a profile is.
func settledWord(s profile.Settled) string {
	if s.Measure >= settled {
		return "settled, " + percent(s.Measure)
	}
	return percent(s.Measure) + " settled"
}

// waitsFor is the sentence of what a profile waits for most; "" for nothing.
func waitsFor(s profile.Settled) string {
	if len(s.Waits) == 0 {
		return ""
	}
	return s.Waits[0]
}

// nextWord says what proposes or takes the next mode of a group.
func promotionSays(p store.BehaviourPromotion) string {
	after := p.After
	if after <= 0 {
		after = 24 * time.Hour // as the service does
	}
	to := ""
	if p.Most == profile.Monitor {
		to = ", to monitor at most"
	}
	hold := "; when a new version of its image comes, a protected group reports and learns until that has settled"
	if p.NewVersion == string(watch.NewVersionHold) {
		hold = "; when a new version of its image comes, a protected group goes on to block"
	}
	switch watch.Promote(p.Promote) {
	case watch.PromotePropose:
		return "Settled for " + span1(after) + ", the next mode is proposed" + to + hold + "."
	case watch.PromoteAuto:
		return "Settled for " + span1(after) + ", it goes on to the next mode by itself" + to + hold + "."
	}
	return "Modes change by people alone" + hold + "."
}

// span1 writes a duration in its largest whole unit.
func span1(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d%day == 0:
		return plural(int(d/day), "day", "days")
	case d%time.Hour == 0:
		return plural(int(d/time.Hour), "hour", "hours")
	}
	return plural(int(d/time.Minute), "minute", "minutes")
}

// heldLine says how some controls are held.
type heldLine struct {
	Controls []string
	Says     string
	Tone     tone
}

// who names the controls of a line.
func (l heldLine) who() string {
	if len(l.Controls) == len(profile.Controls()) {
		return "everything"
	}
	return strings.Join(l.Controls, ", ")
}

// heldLines say how the controls of a group are held over its hosts; those that are
// held alike are one line.
func heldLines(held []behaviour.HeldBy) []heldLine {
	var out []heldLine
	at := map[string]int{}
	for _, c := range profile.Controls() {
		l := heldLineOf(held, c)
		if l.Says == "" {
			continue
		}
		if i, ok := at[l.Says]; ok {
			out[i].Controls = append(out[i].Controls, l.Controls...)
			continue
		}
		at[l.Says] = len(out)
		out = append(out, l)
	}
	return out
}

// heldLineOf says how one control is held over hosts: "blocked (BPF LSM) on 2 hosts,
// reported on 1 host".
func heldLineOf(held []behaviour.HeldBy, c profile.Control) heldLine {
	l := heldLine{Controls: []string{controlWords(c)}, Tone: calm}
	hosts := map[string]int{}
	for i := range held {
		for _, x := range held[i].Controls {
			if x.Control != c {
				continue
			}
			word := answerWords(x.Answer)
			if x.Rung != "" && x.Answer != profile.Off {
				word += " (" + untrusted.Text(x.Rung) + ")"
			}
			hosts[word]++
			if x.Answer == profile.Deny && l.Tone == calm {
				l.Tone = good
			}
		}
	}
	var words []string
	for _, word := range slices.Sorted(maps.Keys(hosts)) {
		words = append(words, word+" on "+plural(hosts[word], "host", "hosts"))
	}
	l.Says = strings.Join(words, ", ")
	return l
}

// heldErrors say, each once, why controls are held less than the rules say.
func heldErrors(held []behaviour.HeldBy) []string {
	all := map[string]bool{}
	for i := range held {
		for _, x := range held[i].Controls {
			if x.Error != "" {
				all[x.Error] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// unheld are the hosts on which the newest rules are not in force, why the first of them
// says that it is so, and how many other reasons there are.
func unheld(held []behaviour.HeldBy) (n int, why string, others int) {
	reasons := map[string]bool{}
	for i := range held {
		if e := held[i].Error; e != "" {
			n++
			reasons[e] = true
			if why == "" {
				why = e
			}
		}
	}
	return n, why, max(len(reasons)-1, 0)
}

// heldNothing says why nothing is told of how a group is held.
func heldNothing(m profile.Mode, s behaviour.Standing) string {
	switch {
	case m == profile.Discover:
		return "nothing to hold to yet"
	case s.Hosts == 0 && len(s.Held) == 0:
		return "runs on no host now"
	case len(s.Held) == 0:
		return plural(s.Hosts, "host has", "hosts have") + " not told yet"
	}
	return ""
}

// whoWords name an actor of the audit log for people.
func whoWords(actor string) string {
	if actor == "" || actor == "system" {
		return "by itself"
	}
	return "by " + strings.TrimPrefix(actor, "user:")
}

// kindTitles name the lists of a profile, in the order in which they are shown.
func kindTitles() []span {
	return []span{
		{"executables", "Programs"}, {"writes", "Files written"}, {"reads", "Sensitive files read"}, {"listens", "Listening ports"}, {"peers", "Peers"},
		{"callers", "Callers"}, {"names", "DNS names"}, {"capabilities", "Capabilities"}, {"privileges", "Privileged calls"}, {"calls", "System calls"},
	}
}

// judgementWords say whether a block would have been wrong, and how that looks.
func judgementWords(j watch.Judgement) (string, tone) {
	switch j {
	case watch.JudgedWrong:
		return "would have been wrong", danger
	case watch.JudgedRight:
		return "would have been right", good
	}
	return "unclear", warn
}

// violationHref is the address of a violation.
func violationHref(id int64) string { return fmt.Sprintf("/watch/violations/%d", id) }

// versionNames are what people know the images of a profile by.
func versionNames(p *profile.Profile) map[string]string {
	out := map[string]string{}
	for _, v := range p.Versions {
		out[v.Digest] = shortImage(v.Digest)
		if v.Reference != "" {
			_, out[v.Digest] = splitImage(v.Reference)
		}
	}
	return out
}

// hostName is the name of an agent's host, or its id.
func hostName(hosts map[string]string, agentID string) string {
	return orElse(hosts[agentID], agentID)
}

// containerWords name a workload briefly.
func containerWords(id string) string { return asset.ShortID(id) }

// progressWords say how far events are known; "" if all of them are.
func progressWords(p behaviour.Progress) string {
	const few = 1_000 // a server that works always has some
	var out []string
	if p.Waiting > few {
		out = append(out, "About "+count(p.Waiting)+" stored events are not learned from yet: what is shown is behind by so much.")
	}
	if p.Left > 0 {
		out = append(out, count(p.Left)+" events are of groups that found no room: forget groups that are not needed any more.")
	}
	return strings.Join(out, " ")
}

// runsWords say how much of a group runs.
func runsWords(containers, hosts int) string {
	if containers == 0 {
		return "nothing runs now"
	}
	return plural(containers, "container", "containers") + " on " + plural(hosts, "host", "hosts")
}

func promotionHours(p store.BehaviourPromotion) string {
	const usual = 24
	if h := int(p.After.Hours()); h > 0 {
		return strconv.Itoa(h)
	}
	return strconv.Itoa(usual)
}

func mostChoices() []span {
	return []span{{"", "protect"}, {string(profile.Monitor), "monitor"}}
}

func newVersionChoices() []span {
	return []span{{string(watch.NewVersionRelearn), "learn it first, report meanwhile"}, {string(watch.NewVersionHold), "go on to block"}}
}

// plusIf stands behind a number that may be greater.
func plusIf(more bool) string {
	if more {
		return "+"
	}
	return ""
}

// entriesWords say what a profile has.
func entriesWords(of map[string]int) string {
	var out []string
	for _, k := range kindTitles() {
		if n := of[k.Value]; n > 0 {
			label := strings.ToLower(k.Label[:1]) + k.Label[1:]
			if k.Value == "names" {
				label = k.Label
			}
			out = append(out, label+" "+count(n))
		}
	}
	return strings.Join(out, " · ")
}

// limitsSource says where limits come from.
func limitsSource(l profile.Limits) string {
	switch l.Source {
	case profile.Learned:
		return "learned from what it used"
	case profile.Person:
		return "set by a person"
	case profile.Initial:
		return "of the starting profile"
	}
	return "none is set or learned yet"
}

// formOr is the value of a field as it was sent, or as it is where nothing was.
func formOr(form url.Values, name, value string) string {
	if form.Has(name) {
		return form.Get(name)
	}
	return value
}

// hostsWords say on how many hosts a group runs, and how many told of it.
func hostsWords(d *hostsData) string {
	current := 0
	for i := range d.Held {
		if d.Held[i].Current {
			current++
		}
	}
	says := "It runs on " + plural(d.Runs, "host", "hosts") + " now. "
	if len(d.Held) == 0 {
		return says
	}
	return says + capital(plural(len(d.Held), "host has", "hosts have")) + " told what is held there; " + currentWords(current, len(d.Held))
}

// profileTally says how much of a profile is shown, and what it is of.
func profileTally(d *profileData) string {
	says := plural(d.Total, "entry", "entries")
	if d.narrowed() {
		says = count(d.Found) + " of " + says
	}
	if d.Profiled.Revision > 0 {
		says += ", revision " + strconv.FormatInt(d.Profiled.Revision, 10)
	}
	if d.Profiled.Learning {
		says += "; more is learned as it comes"
	}
	return says
}

// originChoices are the origins that a program may be permitted with.
func originChoices() []span {
	return []span{
		{"", "came with the image"}, {string(event.OriginWritten), "written: an exception to zero drift"},
		{string(event.OriginMount), "on a volume: an exception to zero drift"}, {string(event.OriginMemory), "in memory: an exception to zero drift"},
	}
}

// changeSign and changeWord mark what is permitted now and what is no more.
func changeSign(x watch.Change) string {
	if x.Added {
		return "+"
	}
	return "−"
}

func changeWord(x watch.Change) string {
	if x.Added {
		return "permitted now: "
	}
	return "permitted no more: "
}

// rehearsedTone is how a rehearsal looks.
func rehearsedTone(d *rehearseData) tone {
	switch {
	case d.wrong() > 0:
		return danger
	case d.Result.Blocked > 0:
		return warn
	case d.Result.Events == 0:
		return calm
	}
	return good
}

func judgementGlyph(j watch.Judgement) string {
	switch j {
	case watch.JudgedWrong:
		return "warn"
	case watch.JudgedRight:
		return "ok"
	}
	return "unknown"
}

// afterWords lead on from a rehearsal.
func afterWords(d *rehearseData) string {
	switch {
	case d.wrong() > 0:
		return "Have it monitor first"
	case d.Mode == profile.Discover:
		return "Change the mode"
	}
	return "Protect it"
}

// currentWords say how many of n hosts hold the newest rules.
func currentWords(current, n int) string {
	switch current {
	case n:
		return "all hold the newest rules."
	case 0:
		return "none holds the newest rules yet."
	}
	return count(current) + " of them hold the newest rules."
}

// refusedHere is refused for forms about groups, which may also be refused because
// profiles must be signed, or because no profile can say it.
func refusedHere(err error) (string, bool) {
	if said, ok := refused(err); ok {
		return said, true
	}
	if fault.Is(err, fault.Denied) || fault.Is(err, fault.Unsupported) {
		return sentence(err), true
	}
	return "", false
}
