package console

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/respond"
)

const (
	// pastActsShown bounds the acts of a trial that a page shows, the newest.
	pastActsShown = 25
	// pastMargin is left of the oldest past that can be asked for: the clock goes on.
	pastMargin = time.Minute
)

// pastData is what response rules would have done.
type pastData struct {
	respond.Replayed
	Days int
}

// tryResponses says what a text as the response rules would have done about past
// incidents.
func (c *Console) tryResponses(ctx context.Context, v visit, text string, form url.Values) (trialResult, error) {
	days, err := strconv.Atoi(orElse(form.Get("days"), strconv.Itoa(replayDays)))
	if err != nil || days < 1 || days > maxReplayDays {
		return trialResult{}, fault.New(fault.Invalid, "want a number of days from 1 to %d", maxReplayDays)
	}
	age := min(time.Duration(days)*24*time.Hour, respond.MaxReplay-pastMargin)
	all, problems, err := c.Responses.ReplayPast(ctx, v.who, text, v.now.Add(-age))
	if err != nil {
		return trialResult{}, err
	}
	if len(problems) > 0 { // which the check above the trial tells, too
		return trialResult{}, fault.New(fault.Invalid, "%s", problems[0].Text)
	}
	d := pastData{all, days}
	return trialResult{pastWords(&d), responseTrial(page{Now: v.now, files: c.assets}, d)}, nil
}

// pastWords say in a sentence what a trial has found.
func pastWords(d *pastData) string {
	of := plural(d.Threats, "threat", "threats") + " in " + plural(d.Incidents, "incident", "incidents") + " of the last " + plural(d.Days, "day", "days")
	switch acted, dry := d.acted(); {
	case d.Incidents == 0:
		return "There were no incidents in the last " + plural(d.Days, "day", "days") + "."
	case acted == 0 && dry == 0:
		return "About " + of + ", these rules would have done nothing."
	case acted == 0:
		return "About " + of + ", these rules would have tried " + plural(dry, "time", "times") + ", and done nothing."
	default:
		said := "About " + of + ", these rules would have acted " + plural(acted, "time", "times")
		if dry > 0 {
			said += ", and tried only " + plural(dry, "time", "times")
		}
		return said + "."
	}
}

// acted counts how often rules would have done something, and only tried it.
func (d *pastData) acted() (acted, dry int) {
	for i := range d.Rules {
		if r := &d.Rules[i]; r.Dry {
			dry += r.Acted
		} else {
			acted += r.Acted
		}
	}
	return acted, dry
}

// pastTone is how that looks.
func pastTone(d *pastData) tone {
	if acted, _ := d.acted(); acted > 0 {
		return warn
	}
	return calm
}

// newestActs are those that are shown, the newest first.
func (d *pastData) newestActs() []respond.ReplayedAct {
	var out []respond.ReplayedAct
	for i := len(d.Acts) - 1; i >= 0 && len(out) < pastActsShown; i-- {
		out = append(out, d.Acts[i])
	}
	return out
}

// unshown is how many acts are not shown.
func (d *pastData) unshown() int { return len(d.Acts) + d.Left - min(len(d.Acts), pastActsShown) }

// actWords say what an act would have been.
func actWords(a *respond.ReplayedAct) string { return capital(strings.Join(a.Do, ", then ")) }
