package console

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// What the overview shows at most; each panel leads to the whole list.
const (
	notableShown  = 8
	notableWindow = 24 * time.Hour
	notableRead   = 200 // to say how many there were, "200+" beyond
	groupsShown   = 200
	weakShown     = 6
	// incidentsShown is how many incidents it names.
	incidentsShown = 5
)

// groupCount is one group and what runs in it.
type groupCount struct {
	Group   asset.Group
	Running int
	Image   string
	Oldest  time.Time
	Risky   int // workloads with a setting that asks for attention at once
}

// overviewData is the first page.
type overviewData struct {
	Groups     []groupCount
	Running    int
	Capped     bool // more workloads run than one page of the store holds
	More       bool // there are more notable events than were counted
	Agents     []agentView
	Chart      chart
	Notable    []event.Event
	Entered    int
	Foreign    int // execs of files that are not from the image
	Conditions []live.Condition
	Losses     []asset.Loss // of the server and of all agents, by place
	// Weak is what is worst in the images that run; nil when who looks may not
	// see images.
	Weak *weakPoints
	// Admission and Trust are nil when who looks may not see them.
	Admission *admissionToday
	Trust     *store.TrustTotals
	Behaviour *behaviourToday
	// Incidents is nil when who looks may not see them.
	Incidents *incidentsNow
}

// incidentsNow are the incidents that somebody must do something about.
type incidentsNow struct {
	Totals store.IncidentTotals
	List   []threat.Incident // the gravest first, of each severity the newest
}

// behaviourToday is what the groups' profiles do, and what lay outside lately.
type behaviourToday struct {
	Totals store.BehaviourTotals
	Recent recentOutside
}

// admissionToday is what doors were asked today, and what is to be looked at of how
// they are kept.
type admissionToday struct {
	Since   time.Time // the day's begin (UTC)
	Refused int64     // requests
	Told    int64     // times that a rule that only tells would have refused
	Ending  int       // exceptions that end soon
	Without int       // agents that report and whose engine can't ask them
}

// weakPoints is what needs attention most in what runs.
type weakPoints struct {
	List   []store.Weakness
	Status images.Status
	Kinds  []openOfKind
}

// openOfKind is how much of a kind of finding is open in what runs.
type openOfKind struct {
	findingKind
	Open bySeverity
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readOverview(r, v.now)
	if err != nil {
		return err
	}
	if v.who.May(access.ReadImages) {
		if d.Weak, err = c.readWeakPoints(r.Context(), v.now); err != nil {
			return err
		}
	}
	if c.Admission != nil && v.who.May(access.ReadAdmission) {
		if d.Admission, err = c.readAdmissionToday(r.Context(), v, d.Agents); err != nil {
			return err
		}
	}
	if c.Trust != nil && v.who.May(access.ReadImages) {
		t, err := c.Trust.Totals(r.Context(), v.who)
		if err != nil {
			return err
		}
		d.Trust = &t
	}
	if d.Behaviour, err = c.readBehaviourToday(r.Context(), v); err != nil {
		return err
	}
	if d.Incidents, err = c.readIncidentsNow(r.Context(), v); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, overviewBody(c.page(r, v, "overview", "Overview"), d))
}

// readIncidentsNow returns nil when who looks may not see them.
func (c *Console) readIncidentsNow(ctx context.Context, v visit) (*incidentsNow, error) {
	if c.Incidents == nil || !v.who.May(access.ReadIncidents) {
		return nil, nil
	}
	d := &incidentsNow{}
	var err error
	if d.Totals, err = c.Incidents.Totals(ctx, v.who); err != nil {
		return nil, err
	}
	d.List, err = c.gravest(ctx, v)
	return d, err
}

// gravest reads the incidents that need somebody most: of each severity the newest, the
// gravest first.
func (c *Console) gravest(ctx context.Context, v visit) (out []threat.Incident, err error) {
	for _, least := range []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Unknown} {
		all, err := c.Incidents.Incidents(ctx, v.who, store.IncidentQuery{States: activeStates(), Severity: least, Limit: incidentsShown})
		if err != nil {
			return nil, err
		}
		for i := range all {
			if len(out) < incidentsShown && !slices.ContainsFunc(out, func(o threat.Incident) bool { return o.ID == all[i].ID }) {
				out = append(out, all[i])
			}
		}
		if len(out) == incidentsShown {
			break
		}
	}
	return out, nil
}

// readBehaviourToday returns nil when who looks may not see it.
func (c *Console) readBehaviourToday(ctx context.Context, v visit) (*behaviourToday, error) {
	if c.Watch == nil || !v.who.May(access.ReadBehaviour) {
		return nil, nil
	}
	d := &behaviourToday{}
	var err error
	if d.Totals, err = c.Watch.Totals(ctx, v.who); err != nil {
		return nil, err
	}
	d.Recent, err = c.recentlyOutside(ctx, v, "")
	return d, err
}

func (c *Console) readAdmissionToday(ctx context.Context, v visit, agents []agentView) (*admissionToday, error) {
	d := &admissionToday{Since: v.now.UTC().Truncate(24 * time.Hour)}
	t, err := c.Admission.Totals(ctx, v.who, d.Since)
	if err != nil {
		return nil, err
	}
	d.Refused = t.Outcomes[admission.Deny]
	for _, r := range t.Rules {
		if r.Effect == admission.Audited {
			d.Told += r.Reasons
		}
	}
	exceptions, err := c.Admission.Exceptions(ctx, v.who, false)
	if err != nil {
		return nil, err
	}
	for i := range exceptions {
		if e := &exceptions[i]; e.Holds(v.now) && e.Expires.Sub(v.now) < soon {
			d.Ending++
		}
	}
	for i := range agents {
		if a := &agents[i]; !a.Silent(v.now) && !a.admits() {
			d.Without++
		}
	}
	return d, nil
}

func (c *Console) readWeakPoints(ctx context.Context, now time.Time) (*weakPoints, error) {
	w := &weakPoints{}
	var err error
	if w.Status, err = c.Images.Status(ctx); err != nil {
		return nil, err
	}
	for _, k := range findingKinds() {
		t, err := c.readTrend(ctx, k.FindingKind, now)
		if err != nil {
			return nil, err
		}
		w.Kinds = append(w.Kinds, openOfKind{k, t.Days[len(t.Days)-1].Open})
	}
	w.List, err = c.Store.Weaknesses(ctx, store.VulnerabilityQuery{Running: true, Limit: weakShown})
	return w, err
}

// readOverview asks the store once for each panel.
func (c *Console) readOverview(r *http.Request, now time.Time) (overviewData, error) {
	ctx := r.Context()
	running, err := c.Store.Workloads(ctx, store.WorkloadQuery{States: []asset.State{asset.Running}, Limit: store.MaxPage})
	if err != nil {
		return overviewData{}, err
	}
	agents, err := c.Store.Agents(ctx)
	if err != nil {
		return overviewData{}, err
	}
	since, until := lastHour(now)
	rates, err := c.Store.EventRate(ctx, "", since, until, time.Minute)
	if err != nil {
		return overviewData{}, err
	}
	notable, err := c.Store.Notable(ctx, now.Add(-notableWindow), notableRead)
	if err != nil {
		return overviewData{}, err
	}
	d := overviewData{
		Groups: byGroup(running), Running: len(running), Capped: len(running) == store.MaxPage,
		Agents: agentViews(agents, now), Chart: newChart(rates, since, until),
		Conditions: c.Conditions.List(), Losses: allLosses(c.Conditions.Losses(), agents),
	}
	for _, e := range notable {
		if e.Exec != nil && e.Exec.Entered {
			d.Entered++
		}
		if e.Exec != nil && foreign(e.Exec.Origin) {
			d.Foreign++
		}
	}
	d.More = len(notable) == notableRead
	d.Notable = notable[:min(len(notable), notableShown)]
	return d, nil
}

// foreign reports an origin that the image does not vouch for.
func foreign(o event.Origin) bool {
	return o == event.OriginWritten || o == event.OriginMemory || o == event.OriginMount
}

func byGroup(running []asset.Workload) []groupCount {
	groups := map[asset.Group]*groupCount{}
	for _, w := range running {
		g := groups[w.Group]
		if g == nil {
			g = &groupCount{Group: w.Group, Image: w.Image.Reference, Oldest: began(w)}
			groups[w.Group] = g
		}
		g.Running++
		if began(w).Before(g.Oldest) {
			g.Oldest = began(w)
		}
		if slices.ContainsFunc(isolation(w), func(t trait) bool { return t.Tone == danger }) ||
			slices.ContainsFunc(w.Settings.Mounts, func(m asset.Mount) bool { return mountTrait(m).Tone == danger }) {
			g.Risky++
		}
	}
	out := make([]groupCount, 0, len(groups))
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, *groups[name])
	}
	return out
}

// began is when a workload started, or was made if it never did.
func began(w asset.Workload) time.Time {
	if w.Started != nil {
		return *w.Started
	}
	return w.Created
}

// allLosses adds up the losses of the server and the agents by place, the
// greatest first.
func allLosses(server []asset.Loss, agents []asset.Agent) []asset.Loss {
	sum := map[string]uint64{}
	for _, l := range server {
		sum["server: "+l.Where] += l.Count
	}
	for _, a := range agents {
		for _, l := range a.Losses {
			sum[l.Where] += l.Count
		}
	}
	var out []asset.Loss
	for where, n := range sum {
		if n > 0 {
			out = append(out, asset.Loss{Where: where, Count: n})
		}
	}
	slices.SortFunc(out, func(a, b asset.Loss) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Where, b.Where))
	})
	return out
}

// lost is the sum of all losses.
func (d overviewData) lost() uint64 { return totalLost(d.Losses) }

func totalLost(losses []asset.Loss) (n uint64) {
	for _, l := range losses {
		n += l.Count
	}
	return n
}

// unwell counts agents that are not in good health.
func (d overviewData) unwell() (n int) {
	for _, a := range d.Agents {
		if a.Tone != good {
			n++
		}
	}
	return n
}

// fixWords stand before the versions that have the fix, or in their place.
func fixWords(w store.Weakness) string {
	if len(w.Fixed) == 0 {
		return ", no fix yet"
	}
	return ", fixed in "
}

// notVerified are the states of images of which nobody knows who has signed them.
func notVerified() []store.TrustState {
	return []store.TrustState{store.TrustUndecided, store.TrustLocal, store.TrustWaiting}
}

// unverified counts the images that run in those states.
func unverified(t *store.TrustTotals) (n int) {
	for _, s := range notVerified() {
		n += t.States[s]
	}
	return n
}

// unverifiedAddress is their list; of all that run if they are of several states,
// whose tiles lead on there.
func unverifiedAddress(t *store.TrustTotals) string {
	for _, s := range notVerified() {
		if n := t.States[s]; n > 0 && n == unverified(t) {
			return trustFilter(nil).address("state", string(s), "running", "true")
		}
	}
	return trustFilter(nil).address("running", "true")
}
