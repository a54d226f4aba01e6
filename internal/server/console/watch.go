package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
)

// outsideWindow is over how long violations are counted, and outsideRead how many are
// read for it: there are as many or more beyond.
const (
	outsideWindow = 24 * time.Hour
	outsideRead   = 200
)

// watchData is the list of groups.
type watchData struct {
	Filter    filter
	List      []store.BehaviourGroup
	Standings map[asset.Group]behaviour.Standing
	Totals    store.BehaviourTotals
	Recent    recentOutside
	Promotion store.BehaviourPromotion // of the fleet
	Progress  behaviour.Progress
	Pages     pages
	Live      string // where the list is followed, "" behind its first page
	Problem   string // what is wrong with the filter
	Manage    bool
}

// recentOutside is what lay outside lately and nobody has permitted.
type recentOutside struct {
	Count int
	More  bool // than were counted
	Of    map[asset.Group]int
}

// watchRoutes adds the pages of how groups behave.
func (c *Console) watchRoutes(seen, done func(access.Scope, string, view)) {
	if c.Watch == nil {
		return
	}
	read, manage := access.ReadBehaviour, access.ManageBehaviour
	seen(read, "GET /watch", c.watchList)
	seen(read, "GET /watch/live", c.watchLive)
	done(manage, "POST /watch/promotion", c.setPromotion)
	seen(read, "GET /watch/group", c.watchGroup)
	for change, do := range c.groupChanges() {
		done(manage, "POST /watch/group/"+change, c.changeGroup(do))
	}
	seen(read, "GET /watch/hosts", c.watchHosts)
	seen(read, "GET /watch/profile", c.watchProfile)
	seen(read, "GET /watch/profile/text", c.profileText)
	done(manage, "POST /watch/profile/add", c.addEntry)
	done(manage, "POST /watch/profile/remove", c.removeEntry)
	done(manage, "POST /watch/profile/start", c.startProfile)
	seen(manage, "GET /watch/profile/edit", c.ofGroup(c.editPolicy))
	seen(manage, "POST /watch/profile/check", c.confirmedUpTo(maxProfileForm, c.ofGroup(c.checkPolicy)))
	seen(manage, "POST /watch/profile/edit", c.confirmedUpTo(maxProfileForm, c.ofGroup(c.changePolicy)))
	seen(read, "GET /watch/profile/{version}", c.watchRevision)
	seen(read, "GET /watch/changes", c.watchChanges)
	seen(read, "GET /watch/harden", c.watchHarden)
	seen(read, "GET /watch/harden/{output}", c.hardenFile)
	seen(read, "GET /watch/rehearse", c.watchRehearse)
	seen(read, "GET /watch/violations", c.violations)
	seen(read, "GET /watch/violations/live", c.violationsLive)
	seen(read, "GET /watch/violations/{id}", c.violation)
	done(manage, "POST /watch/violations/{id}/permit", c.permitViolation)
	done(manage, "POST /watch/permits/{id}/undo", c.undoPermit)
}

// watchTabs are the pages over all groups.
func watchTabs() []tab {
	return []tab{{"/watch", "Groups"}, {"/watch/violations", "Violations"}}
}

func watchFilter(v url.Values) filter {
	return newFilter("/watch", []string{"text", "cluster", "mode", "proposed", "outside"}, v)
}

func (c *Console) watchList(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readWatch(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	d.Manage = v.who.May(access.ManageBehaviour)
	return c.show(w, r, status, watchBody(c.page(r, v, "watch", "Behaviour"), d))
}

// readWatch reads what the address asks for. A filter that makes no sense is told in
// the list, with the status that it gets.
func (c *Console) readWatch(ctx context.Context, v visit, asked url.Values) (d watchData, status int, err error) {
	d.Filter, d.Progress = watchFilter(asked), c.Watch.Progress()
	if d.Totals, err = c.Watch.Totals(ctx, v.who); err != nil {
		return d, 0, err
	}
	if d.Recent, err = c.recentlyOutside(ctx, v, ""); err != nil {
		return d, 0, err
	}
	if d.Promotion, err = c.Watch.Promotion(ctx, v.who); err != nil {
		return d, 0, err
	}
	after := asked.Get("after")
	q := store.BehaviourQuery{
		Text: d.Filter.get("text"), Cluster: d.Filter.get("cluster"), Proposed: d.Filter.has("proposed", "true"), Outside: d.Filter.has("outside", "true"),
		After: asset.Group(after), Limit: onePageAnd,
	}
	if word := d.Filter.get("mode"); word != "" {
		m, ok := profile.ParseMode(word)
		if !ok {
			err := fault.New(fault.Invalid, "%.40q is no mode: want discover, monitor or protect", word)
			d.Problem = sentence(err)
			return d, c.Status(err), nil
		}
		q.Modes = []profile.Mode{m}
	}
	list, err := c.Watch.Groups(ctx, v.who, q)
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	var more bool
	if d.List, more = onePage(list); len(d.List) > 0 {
		d.Pages = afterPages(d.Filter, string(d.List[len(d.List)-1].Group), more, after == "")
	}
	if after == "" {
		d.Live = d.Filter.at("/watch/live")
	}
	names := make([]asset.Group, len(d.List))
	for i := range d.List {
		names[i] = d.List[i].Group
	}
	d.Standings, err = c.Watch.Standings(v.who, names)
	return d, http.StatusOK, err
}

// recentlyOutside counts what lay outside lately, of a group or with "" of all.
func (c *Console) recentlyOutside(ctx context.Context, v visit, name asset.Group) (recentOutside, error) {
	list, err := c.Watch.Violations(ctx, v.who, store.ViolationQuery{Group: name, Open: true, Since: v.now.Add(-outsideWindow), Limit: outsideRead})
	out := recentOutside{Count: len(list), More: len(list) == outsideRead, Of: map[asset.Group]int{}}
	for i := range list {
		out.Of[list[i].Group]++
	}
	return out, err
}

// watchLive sends the list anew when something of groups changed.
func (c *Console) watchLive(w http.ResponseWriter, r *http.Request, v visit) error {
	asked := r.URL.Query()
	d, status, err := c.readWatch(r.Context(), v, asked)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followWatch(w, r, d.Filter.at("/watch/live"), func(ctx context.Context) (templ.Component, error) {
		d, _, err := c.readWatch(ctx, visit{who: v.who, now: c.Clock()}, asked)
		return watchPart(c.bare(), d), err
	})
}

// followWatch is followShow for what changes with groups.
func (c *Console) followWatch(w http.ResponseWriter, r *http.Request, address string, made maker) error {
	return c.followChanges(w, r, address, tabPause, c.Watch.Changed, made)
}

// settled is from which measure on a profile counts as settled.
const settled = 0.95

// named reads which group an address or a form is about.
func named(v url.Values) (asset.Group, error) {
	const most = 1_024 // bytes: no name that a group can have is longer
	name := v.Get("group")
	if name == "" || len(name) > most {
		return "", fault.New(fault.NotFound, "the address names no group").With("begin at the list: /watch")
	}
	return asset.Group(name), nil
}

// ofGroupHref is an address of a page about a group.
func ofGroupHref(path string, g asset.Group, pairs ...string) string {
	return newFilter(path, []string{"group", "what", "text", "source", "from", "since", "done"}, nil).address(append([]string{"group", string(g)}, pairs...)...)
}

// groupTabs are the pages about a group.
func groupTabs(g asset.Group) []tab {
	return []tab{
		{ofGroupHref("/watch/group", g), "Overview"}, {ofGroupHref("/watch/profile", g), "Profile"}, {ofGroupHref("/watch/changes", g), "Changes"},
		{ofGroupHref("/watch/violations", g), "Violations"}, {ofGroupHref("/watch/rehearse", g), "Rehearsal"}, {ofGroupHref("/watch/hosts", g), "Hosts"},
		{ofGroupHref("/watch/harden", g), "Harden"},
	}
}
