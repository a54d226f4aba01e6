package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// Detections keeps the rules of detection; *detections.Service satisfies it. It refuses
// what an identity may not do.
type Detections interface {
	RuleDocuments
	Rules(ctx context.Context, who access.Identity) ([]detections.Rule, error)
	Rule(ctx context.Context, who access.Identity, id string) (detections.Rule, error)
	Silences(ctx context.Context, who access.Identity, all bool) ([]store.DetectionSilence, error)
	Silence(ctx context.Context, who access.Identity, v threat.Silence) (store.DetectionSilence, error)
	Unsilence(ctx context.Context, who access.Identity, id int64) (store.DetectionSilence, error)
}

// rulesData is the list of rules of detection.
type rulesData struct {
	Filter filter
	List   []detections.Rule
	All    int // without the filter
	Themes []span
	Wrong  map[string]int // by rule: how many incidents of it were false alarms
}

// detectionRoutes adds the pages of rules of detection.
func (c *Console) detectionRoutes(seen, done func(access.Scope, string, view)) {
	if c.Detections == nil {
		return
	}
	seen(access.ReadDetect, "GET /detect/rules", c.detectionRules)
	seen(access.ReadDetect, "GET /detect/rules/{id}", c.detectionRule)
	done(access.WriteDetect, "POST /detect/rules/{id}/silence", c.silenceRule)
	done(access.WriteDetect, "POST /detect/silences/{id}/end", c.endSilence)
	c.documentRoutes(seen, done)
}

// detectTabs are the pages about what looks like an attack.
func (c *Console) detectTabs(v visit) []tab {
	tabs := []tab{{"/incidents", "Incidents"}}
	if c.Detections != nil && v.who.May(access.ReadDetect) {
		tabs = append(tabs, tab{"/detect/rules", "Rules"}, tab{"/detect/matrix", "ATT&CK"}, tab{"/detect/documents", "Your rules"})
	}
	if c.Responses != nil && v.who.May(access.ReadResponse) {
		tabs = append(tabs, tab{"/responses", "Responses"})
	}
	return tabs
}

func ruleFilter(v url.Values) filter {
	return newFilter("/detect/rules", []string{"text", "theme", "hit", "silenced"}, v)
}

func (c *Console) detectionRules(w http.ResponseWriter, r *http.Request, v visit) error {
	d := rulesData{Filter: ruleFilter(r.URL.Query())}
	all, err := c.Detections.Rules(r.Context(), v.who)
	if err != nil {
		return err
	}
	d.All, d.Themes = len(all), themesOf(all)
	text := strings.ToLower(d.Filter.get("text"))
	for _, one := range all {
		switch {
		case text != "" && !strings.Contains(strings.ToLower(one.ID+" "+one.Title+" "+one.Meaning+" "+strings.Join(one.Techniques, " ")), text):
		case d.Filter.get("theme") != "" && one.Theme != d.Filter.get("theme"):
		case d.Filter.has("hit", "true") && one.Stats.Hits == 0:
		case d.Filter.has("silenced", "true") && len(one.Silences) == 0 && !one.Off:
		default:
			d.List = append(d.List, one)
		}
	}
	if c.Incidents != nil && v.who.May(access.ReadIncidents) {
		if d.Wrong, err = c.Incidents.Rules(r.Context(), v.who, threat.FalseAlarm); err != nil {
			return err
		}
	}
	slices.SortStableFunc(d.List, func(a, b detections.Rule) int { return strings.Compare(a.Theme, b.Theme) })
	return c.show(w, r, http.StatusOK, rulesBody(c.page(r, v, "incidents", "Rules of detection"), d, c.detectTabs(v)))
}

func themesOf(all []detections.Rule) []span {
	out := []span{{"", "any theme"}}
	for _, r := range all {
		if !offered(out, r.Theme) {
			out = append(out, span{r.Theme, r.Theme})
		}
	}
	slices.SortFunc(out[1:], func(a, b span) int { return strings.Compare(a.Label, b.Label) })
	return out
}

// ruleData is the page of one rule.
type ruleData struct {
	detections.Rule
	Lately  []threat.Incident        // of it, the newest first
	Hushed  []store.DetectionSilence // those of it that hold
	Manage  bool
	Problem string
	Reason  string
	Groups  string
}

// incidentsOfRule is how many incidents the page of a rule looks at.
const incidentsOfRule = 20

func ruleHref(id string) string { return "/detect/rules/" + url.PathEscape(id) }

func (c *Console) detectionRule(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readRule(r.Context(), v, r.PathValue("id"))
	if err != nil {
		return err
	}
	d.Groups = r.URL.Query().Get("group")
	return c.show(w, r, http.StatusOK, ruleBody(c.page(r, v, "incidents", d.ID), d))
}

func (c *Console) readRule(ctx context.Context, v visit, id string) (d ruleData, err error) {
	d.Manage = v.who.May(access.WriteDetect)
	if c.Incidents != nil && v.who.May(access.ReadIncidents) {
		if d.Lately, err = c.Incidents.Incidents(ctx, v.who, store.IncidentQuery{Rule: id, Limit: incidentsOfRule}); err != nil {
			return d, err
		}
	}
	if d.Rule, err = c.Detections.Rule(ctx, v.who, id); err != nil {
		return d, err
	}
	all, err := c.Detections.Silences(ctx, v.who, false)
	for _, s := range all {
		if s.Holds(v.now) && slices.ContainsFunc(d.Silences, func(o threat.Silence) bool { return o.Rule == s.Rule }) {
			d.Hushed = append(d.Hushed, s)
		}
	}
	return d, err
}

// silenceRule has a rule not be heard for a while. Why it can't is said above the form.
func (c *Console) silenceRule(w http.ResponseWriter, r *http.Request, v visit) error {
	id, form := r.PathValue("id"), r.PostForm
	_, err := c.silence(r.Context(), v, silenceForm{id, form.Get("groups"), strings.TrimSpace(form.Get("about")), form.Get("comment")}, form.Get("days"))
	if err == nil {
		redirect(w, r, ruleHref(id)+"?done=silenced")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d, e := c.readRule(r.Context(), v, id)
	if e != nil {
		return e
	}
	d.Problem, d.Reason, d.Groups = said, form.Get("comment"), form.Get("groups")
	return c.show(w, r, c.Status(err), ruleBody(c.page(r, v, "incidents", id), d))
}

// silence has a rule not be heard for some days, as a form asks.
func (c *Console) silence(ctx context.Context, v visit, f silenceForm, days string) (store.DetectionSilence, error) {
	n, err := strconv.Atoi(days)
	if err != nil || n < 1 {
		return store.DetectionSilence{}, fault.New(fault.Invalid, "%.40q is no number of days", days)
	}
	return c.Detections.Silence(ctx, v.who, threat.Silence{Rule: f.Rule, Groups: strings.Fields(f.Groups), About: f.About, Reason: f.Reason, Until: v.now.AddDate(0, 0, n)})
}

func (c *Console) endSilence(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	if _, err := c.Detections.Unsilence(r.Context(), v.who, id); err != nil {
		return err
	}
	redirect(w, r, ruleHref(r.PostForm.Get("rule"))+"?done=unsilenced")
	return nil
}

// perEvent is what a rule cost an event that it looked at.
func perEvent(s *threat.RuleStats) string {
	if s.Looked == 0 || s.Spent == 0 {
		return ""
	}
	return (s.Spent / time.Duration(s.Looked)).String() + " an event"
}
