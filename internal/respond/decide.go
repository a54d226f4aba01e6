package respond

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/response"
)

// Limits of all rules together: one that is wrong, or that somebody provokes on
// purpose in many groups, must not take the fleet down by our own hand.
const (
	// PerFleet is how often rules act in fleetTime: an attack on as many workloads at
	// once is one that people look at.
	PerFleet  = 100
	fleetTime = 10 * time.Minute
	// MaxAge is how long ago a threat may have happened for anything to be done about it
	// by itself: what hosts tell when they come back is of another time, and a process or
	// a workload of then is perhaps not what it was.
	MaxAge = 15 * time.Minute
	// maxActed bounds what is remembered: PerFleet in each fleetTime of MaxWithin.
	maxActed = PerFleet * int(MaxWithin/fleetTime)
)

// Acted is that a rule has acted.
type Acted struct {
	Rule     string
	Group    string
	Workload string
	At       time.Time
	Dry      bool // it was to do nothing
}

// Memory is what rules have done lately, the oldest first. The zero value is that
// they have done nothing.
type Memory []Acted

// Add returns the memory with one more, without what is too old to matter and, of too
// many, without the oldest. It takes the place of m, as with append.
func (m Memory) Add(a Acted) Memory {
	m = append(m, a)
	old := 0
	for old < len(m) && a.At.Sub(m[old].At) > max(MaxWithin, MaxCoolDown) {
		old++
	}
	return m[max(old, len(m)-maxActed):]
}

// Decision is what one rule does about a case.
type Decision struct {
	Rule *Rule `json:"rule"`
	// Do is what is done, with the rule's DryRun what would be.
	Do []Action `json:"do"`
	// Held says why nothing is done though the rule fits.
	Held string `json:"held,omitempty"`
	// Lacks says what of the rule makes no sense in the case.
	Lacks []string `json:"lacks,omitempty"`
}

// Decide holds a case against all rules and says what each of those that fit does. It
// is pure: whoever does it adds it to the memory.
//
// What two rules want both is done once, by the first; that is what its order is for.
func Decide(rules []Rule, c *Case, m Memory) []Decision {
	var out []Decision
	m = slices.Clip(m)          // the caller's stays as it is
	done := map[Action]string{} // what is done for good, and by which rule
	for i := range rules {
		r := &rules[i]
		if r.Off || r.On.Fits(c) != "" {
			continue
		}
		d := Decision{Rule: r, Held: m.holds(r, c)}
		if d.Held == "" {
			d.take(c, done)
		}
		if len(d.Do) > 0 {
			m = m.Add(d.Acted(c))
		}
		out = append(out, d)
	}
	return out
}

// Acted is what is remembered of a decision that does something.
func (d *Decision) Acted(c *Case) Acted {
	return Acted{Rule: d.Rule.ID, Group: c.Threat.Group, Workload: c.Threat.WorkloadID, At: c.At, Dry: d.Rule.DryRun}
}

// take puts into the decision what of its rule makes sense in a case.
func (d *Decision) take(c *Case, done map[Action]string) {
	for _, a := range d.Rule.Do {
		switch {
		case a.Kind != "" && c.Threat.WorkloadID == "":
			d.Lacks = append(d.Lacks, a.String()+": the threat is of the host itself, not of a workload")
		case a.Kind != "" && c.At.Sub(c.Threat.Last) > MaxAge:
			d.Lacks = append(d.Lacks, fmt.Sprintf("%s: it happened %s ago, and nothing is done by itself after %s", a, short(c.At.Sub(c.Threat.Last)), short(MaxAge)))
		case a.Kind == response.Kill && !a.Whole && c.Threat.Process.Key.PID <= 1:
			d.Lacks = append(d.Lacks, a.String()+": which one it is is not known")
		case done[a] != "":
			d.Lacks = append(d.Lacks, fmt.Sprintf("%s: rule %s does that", a, done[a]))
		default:
			d.Do = append(d.Do, a)
			if !d.Rule.DryRun {
				done[a] = d.Rule.ID
			}
		}
	}
}

// holds says why a rule must not act now. A workload that cools down does so for the
// rule alone: another one may have more to say.
func (m Memory) holds(r *Rule, c *Case) string {
	t := c.Threat
	group, fleet := 0, 0
	for i := range m {
		a := &m[i]
		age := c.At.Sub(a.At)
		if age < fleetTime && !a.Dry {
			fleet++
		}
		if a.Rule != r.ID {
			continue
		}
		if age < r.CoolDown && a.Workload == t.WorkloadID && a.Group == t.Group {
			return fmt.Sprintf("it cools down: it acted on this workload %s ago, and waits %s", short(age), short(r.CoolDown))
		}
		if age < r.Within && a.Group == t.Group {
			group++
		}
	}
	switch {
	case group >= r.Times:
		return fmt.Sprintf("it acted %d times in this group within %s, which is its limit", group, short(r.Within))
	case fleet >= PerFleet:
		return fmt.Sprintf("rules acted %d times within %s, which is the most in a fleet", fleet, short(fleetTime))
	}
	return ""
}

// short writes a length of time without its zeros: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
